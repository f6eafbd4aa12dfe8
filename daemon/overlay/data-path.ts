/**
 * The node's data path: makes the kernel what the cluster's view says, and keeps it so.
 *
 * `reconcile` compares everything, applies the difference, and remembers what it was compared with. It may be called at
 * any time; it changes nothing if everything is right. `follow` does the same for changed peers alone.
 */

import { sameSubnets } from '../../cluster/lease.ts';
import { type NetworkConfig, type PerFamily, perFamily, valuesOf } from '../../cluster/network-config.ts';
import { SyscallError } from '../../linux/errors.ts';
import { type Address, type Family, sameAddress } from '../../net/address.ts';
import type { NodeNetwork } from '../../net/node-file.ts';
import { formatPrefix } from '../../net/prefix.ts';
import type { Backend } from '../backends/backend.ts';
import type { Backends } from '../backends/map.ts';
import type { FilterPort } from '../filter/upkeep.ts';
import type { FilterInterfaces } from '../filter/ways.ts';
import type { EventInterest } from '../host/events.ts';
import type { ExternalChoice, FoundInterface } from '../host/external-choice.ts';
import { type ExternalInterface, InterfaceError } from '../host/external-interface.ts';
import type { NodeFiles } from '../host/files.ts';
import {
  connectedNetworks,
  containerLinks,
  type HostState,
  hostInterfaces,
  neighbourTest,
  routeFacts,
  withoutOwnRoutes,
} from '../host/host-state.ts';
import type { RememberedState } from '../host/remembered-state.ts';
import { type Lifeline, surroundingsOf } from '../host/surroundings.ts';
import { type ClusterView, familiesInUse, formatAddresses } from '../membership/view.ts';
import type { Logger } from '../report/log.ts';
import type { Problems } from '../report/problems.ts';
import { doubleCarriers } from './carriers.ts';
import { type Desired, deriveDesired, type PeerCounts } from './desired.ts';
import { Failures } from './failures.ts';
import { fittingFamilies } from './fitting-families.ts';
import { gatewayFinder } from './flannel-routes.ts';
import { type Baseline, differInPeersOnly, type FollowOptions, followPeers } from './follow.ts';
import type { Healing, HealingSummary } from './healing.ts';
import { interestOf } from './interest.ts';
import { countKinds, type Kernel, type Outcome } from './kernel.ts';
import { KernelSettings } from './kernel-settings.ts';
import { LastResult } from './last-result.ts';
import { countPeers, type PeerState, peerState, reportPeers } from './peer-states.ts';
import { isDeviceOperation, plan } from './plan.ts';
import { findShadows, withoutTaken } from './shadows.ts';

export interface DataPathOptions {
  readonly kernel: Kernel;
  /** The backends that weftd runs. */
  readonly backends: Backends;
  readonly filter: FilterPort;
  readonly healing: Healing;
  readonly files: Pick<NodeFiles, 'writeNetwork'>;
  readonly logger: Logger;
  readonly problems: Problems;
  readonly node: string;
  readonly external: ExternalChoice;
  readonly remembered: RememberedState;
  /** Hosts that no peer's subnet may contain, beside the default gateways. */
  readonly lifelines: () => readonly Lifeline[];
  readonly ipMasq: boolean;
  /** Milliseconds on a clock that does not go back. */
  readonly now: () => number;
  /** From 0 to below 1. */
  readonly random: () => number;
}

/** The result of a run of `reconcile`. */
export interface ReconcileResult {
  readonly changes: number;
  /** When a failed step is due again; infinite if none failed. */
  readonly retryDelayMs: number;
  /** When the packet filter is to be looked at again even if no event arrives; infinite where there is no need. */
  readonly rulesAgainMs: number;
  /** The lease no longer says the truth about this host. */
  readonly identityChanged: boolean;
  /** The host had other addresses before: connections from them are dead. */
  readonly addressChanged: boolean;
  /** Whether containers can start: the devices exist, and the plugins' files are written. */
  readonly complete: boolean;
}

/** The data path as it is now. */
export interface DataPathState {
  readonly external: ExternalInterface;
  readonly devices: readonly string[];
  readonly mtuBytes: number;
  readonly peers: readonly PeerState[];
  readonly peerCounts: PeerCounts;
}

/** The interfaces that the cluster's packets take on this host. */
function interfacesOf(
  backend: Backend,
  view: ClusterView,
  host: HostState,
  { name: external, addresses }: ExternalInterface,
): FilterInterfaces {
  const { backend: kind, config, own, formerSubnets } = view;
  const tunnels = familiesInUse(config).flatMap((family) => backend.deviceName(kind, family) ?? []);
  const subnets = [own.subnets, ...formerSubnets].flatMap((each) => valuesOf(each));
  const inner = [...tunnels, ...containerLinks(host, subnets)].filter((name) => name !== external).sort();
  const networks = connectedNetworks(hostInterfaces(host).filter(({ name }) => !inner.includes(name)));
  const peers = backend.routesDirectly(kind) ? [...tunnels, external] : tunnels;
  return { peers, external, inner, networks, addresses };
}

export class DataPath {
  readonly #options: DataPathOptions;
  readonly #failures: Failures;
  readonly #settings: KernelSettings;
  readonly #follow: FollowOptions;
  readonly #derived = new LastResult<Desired>();
  #baseline: Baseline | undefined;
  /** Whether kernel events arrive; only then is it known that nobody has changed the host. */
  #hears = false;
  #state: DataPathState | undefined;
  #interest: EventInterest | undefined;
  /** weftd was never on this host before, and has not compared everything yet. */
  #isTakeOver: boolean;

  constructor(options: DataPathOptions) {
    this.#options = options;
    this.#isTakeOver = options.remembered.current.networks.length === 0;
    this.#failures = new Failures(options);
    this.#settings = new KernelSettings(options);
    this.#follow = { ...options, failures: this.#failures, settings: this.#settings };
  }

  /** The last data path; undefined before the first one. */
  get state(): DataPathState | undefined {
    return this.#state;
  }

  /** All repairs so far. */
  get healed(): HealingSummary {
    return this.#options.healing.summary;
  }

  get healedTotal(): number {
    return this.#options.healing.total;
  }

  /** Why the external interface is the previous one, or not the one that it should be. */
  get interfaceProblem(): string | undefined {
    return this.#options.external.problem;
  }

  /** The kernel events that matter; undefined: all do. */
  get interest(): EventInterest | undefined {
    return this.#interest;
  }

  /** The host's state if nothing has changed it since the last comparison; undefined otherwise. */
  get settledHost(): HostState | undefined {
    return this.#hears ? this.#baseline?.host : undefined;
  }

  /** @param hears whether kernel events arrive from now on */
  noteHearing(hears: boolean): void {
    this.#hears = hears;
  }

  /** The host itself has changed: the next comparison is of everything. */
  disturb(): void {
    this.#baseline = undefined;
  }

  /**
   * Makes the kernel, the packet filter and the files what `view` says.
   * @throws InterfaceError, SyscallError: nothing could be compared; try again later
   */
  reconcile(view: ClusterView): ReconcileResult {
    const { kernel, filter, healing, logger, problems, now } = this.#options;
    const startedMs = now();
    // If this ends halfway, nothing is known to be in order.
    this.#baseline = undefined;
    const { config, own } = view;
    const inUse = familiesInUse(config);
    const backend = this.#options.backends.get(view.backend.type)!;
    const host = kernel.readHost();
    const found = this.#findExternal(config, host);
    const { external } = found;
    const addressChanged = this.#useExternal(found, own.publicAddresses);
    this.#failures.noteHost(host, external.name);
    const fitting = fittingFamilies(view, external, this.#options.backends);
    const { families: used } = fitting;
    const { desired, taken } = this.#derive(view, host, external, used);
    const wanted = desired.state;

    // A new peer's packets are admitted before there is a route for the answers; one that leaves is shut out after.
    filter.usePlacements(desired.table);
    filter.useInterfaces(interfacesOf(backend, view, host, external));
    const rules = filter.ensure(view, { keepPeers: true, trust: true });
    const devices = wanted.devices.map(({ name }) => name);
    const actual = kernel.readActual(host, new Set([...this.#remembered.devices.keys(), ...devices]));
    const { operations, problems: obstacles } = plan(wanted, actual);
    const due = this.#failures.due(operations);
    healing.prepare(wanted, operations);
    // First: a device with IPv6 switched off accepts no address.
    let settings = this.#settings.ensure(wanted, external.name, used, host);
    const outcomes = kernel.apply(due, host);
    if (due.some(({ kind }) => kind === 'add-device')) {
      settings += this.#settings.ensure(wanted, external.name, used, host);
    }
    healing.note(wanted, operations, outcomes);
    this.#failures.note(operations, outcomes);
    this.#forgetDevices(new Set(devices), host, outcomes);
    problems.reportAll('device', new Map(obstacles.map((message) => [message, message])));
    problems.report('MTU', fitting.problem ?? desired.mtuProblem);
    reportPeers(problems, desired.peers, own);

    const { againMs } = filter.ensure(view, { trust: true });
    const devicesFailed =
      obstacles.length > 0 || this.#failures.list.some(({ operation }) => isDeviceOperation(operation));
    // Not before there is a route for the packets of the containers that are then started.
    const complete = !devicesFailed && !view.takenBy && this.#writeNetwork(view, used, desired.mtuBytes);
    const hostNow = due.some(isDeviceOperation) ? kernel.withLinks(host) : host;
    this.#noteState(desired, external);
    this.#interest = interestOf(backend, desired, external.name, this.#remembered, hostNow, kernel);
    this.#isTakeOver &&= !this.#failures.none;
    const inOrder = complete && this.#hears && this.#failures.none && taken.length === 0;
    this.#baseline = inOrder ? { view, host: withoutOwnRoutes(hostNow), external, families: used, desired } : undefined;
    const changes = outcomes.filter(({ error }) => !error).length + settings + rules.changes;
    if (changes > 0) {
      // Repairs have lines of their own.
      const isRepair = outcomes.every(({ operation, error }) => error !== undefined || healing.mended(operation));
      logger[isRepair ? 'debug' : 'info']('data path changed', {
        ...countKinds(outcomes),
        tookMs: Math.round(now() - startedMs),
      });
    }
    return {
      changes,
      retryDelayMs: this.#failures.retryDelayMs,
      rulesAgainMs: Math.min(rules.againMs, againMs),
      identityChanged: inUse.some((family) => {
        const told = own.publicAddresses[family];
        return !told || !sameAddress(told, external.publicAddresses[family]!);
      }),
      addressChanged,
      complete,
    };
  }

  /**
   * Programs the peers that have changed since the last whole comparison, without a look at the rest.
   * @returns undefined where more has changed, or where not everything is known to be in order: compare everything
   * @throws SyscallError
   */
  follow(view: ClusterView): ReconcileResult | undefined {
    const baseline = this.#baseline;
    if (!baseline || !this.#hears || !differInPeersOnly(baseline.view, view)) return undefined;
    this.#baseline = undefined;
    // From here on it is of other peers.
    this.#derived.forget();
    const followed = followPeers(this.#follow, baseline, view);
    if (!followed) return undefined;
    this.#noteState(baseline.desired, baseline.external);
    if (this.#failures.none) this.#baseline = { ...baseline, view };
    const { retryDelayMs } = this.#failures;
    return { ...followed, retryDelayMs, identityChanged: false, addressChanged: false, complete: true };
  }

  get #remembered(): RememberedState['current'] {
    return this.#options.remembered.current;
  }

  /** @returns what should be, and the subnets that other interfaces of this host have */
  #derive(view: ClusterView, host: HostState, external: ExternalInterface, used: readonly Family[]) {
    const { remembered, problems, backends } = this.#options;
    const { config, backend, own, peers } = view;
    const { devices, networks, subnets, gateways } = remembered.current;
    const isTakeOver = this.#isTakeOver;
    const tunnels = new Set(devices.keys());
    const tunnelIndexes = host.links.filter(({ name }) => tunnels.has(name)).map(({ index }) => index);
    const current = perFamily((family) => (used.includes(family) ? config.networks[family]?.network : undefined));
    const all = [...valuesOf(current), ...networks];
    const former = subnets.filter((each) => !sameSubnets(each, own.subnets));
    const formerSubnets = former.flatMap((each) => valuesOf(each));
    const inputs = {
      networks: current,
      // Ours is as long as the others'. In Kubernetes the controller manager decides on it, not the config.
      subnetLengths: perFamily((family) => config.networks[family] && own.subnets[family]?.length),
      backend,
      subnets: own.subnets,
      age: view.age,
      leaseData: own.backendData,
      external,
      surroundings: surroundingsOf(host, this.#options.lifelines()),
      formerDevices: [...tunnels],
      formerNetworks: networks,
      formerSubnets,
    };
    // Without thousands of routes, which what is derived would keep in memory.
    const alone = withoutOwnRoutes(host);
    const others = { gateways, isTakeOver, tunnelIndexes, routes: routeFacts(alone) };
    const derived = this.#derived.of(peers.all, { ...inputs, ...others }, () =>
      deriveDesired({
        ...inputs,
        backends,
        peers: peers.all,
        isNeighbour: neighbourTest(alone, external.index, new Set(tunnelIndexes)),
        flannelGateways: gatewayFinder({ host: alone, networks: all, remembered: gateways, isTakeOver }),
      }),
    );
    const shadows = findShadows(derived, host, tunnels);
    const desired = withoutTaken(derived, shadows.taken, formerSubnets);
    problems.reportAll('route', shadows.problems);
    problems.reportAll('subnet carrier', doubleCarriers(host, valuesOf(own.subnets)));
    remembered.setGateways(desired.state.flannelGateways);
    return { desired, taken: shadows.taken };
  }

  /** @throws InterfaceError */
  #findExternal(config: NetworkConfig, host: HostState): FoundInterface {
    try {
      return this.#options.external.find(config, this.#options.kernel.hostView(host));
    } catch (error) {
      // It may come back under another number.
      if (error instanceof InterfaceError) this.#interest = undefined;
      throw error;
    }
  }

  /** @returns whether the host had other addresses there before */
  #useExternal(found: FoundInterface, told: PerFamily<Address>): boolean {
    const { external } = found;
    const before = this.#options.external.used;
    this.#options.external.use(found);
    if (found.other !== undefined) {
      this.#options.logger.info('the external interface stays; name another one with --iface to change it', {
        name: external.name,
        newChoice: found.other,
      });
    }
    const addresses = formatAddresses(external.addresses);
    const addressChanged = before !== undefined && formatAddresses(before.addresses) !== addresses;
    if (addressChanged || before?.name !== external.name || before.mtuBytes !== external.mtuBytes) {
      const { name, mtuBytes } = external;
      this.#options.logger.info('external interface', { name, mtuBytes, addresses, lease: formatAddresses(told) });
    }
    return addressChanged;
  }

  /** Devices that are no longer wanted are forgotten once they are gone. */
  #forgetDevices(wanted: ReadonlySet<string>, host: HostState, outcomes: readonly Outcome[]): void {
    const present = new Set(host.links.map(({ name }) => name));
    for (const { operation, error } of outcomes) {
      if (operation.kind === 'remove-device' && !error) present.delete(operation.name);
    }
    this.#options.remembered.keepDevices((name) => wanted.has(name) || present.has(name));
  }

  /** @returns whether the plugins can read it now */
  #writeNetwork({ config, own }: ClusterView, used: readonly Family[], mtuBytes: number): boolean {
    const { files, logger, problems, node, ipMasq } = this.#options;
    const network: NodeNetwork = {
      node,
      networks: used.map((family) => config.networks[family]!.network),
      subnets: used.map((family) => own.subnets[family]!),
      mtuBytes,
      ipMasq,
    };
    try {
      let problem: SyscallError | undefined;
      const changed = files.writeNetwork(network, (error) => {
        problem = error;
      });
      problems.report('node files', problem?.message);
      const subnets = network.subnets.map(formatPrefix).join(', ');
      if (changed) logger.info('node files written', { subnets, mtuBytes });
      return true;
    } catch (error) {
      if (!(error instanceof SyscallError)) throw error;
      problems.report('node files', error.message);
      return false;
    }
  }

  #noteState(desired: Desired, external: ExternalInterface): void {
    const failures = this.#failures.list;
    this.#state = {
      external,
      devices: desired.state.devices.map(({ name }) => name),
      mtuBytes: desired.mtuBytes,
      // Made on request, and not kept: there may be thousands, and changes every second.
      get peers() {
        return desired.peers.map((outcome) => peerState(outcome, failures));
      },
      get peerCounts() {
        return failures.length > 0 ? countPeers(desired.peers, failures) : desired.peerCounts;
      },
    };
  }
}
