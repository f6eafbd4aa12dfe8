/**
 * The node's data path: makes the kernel what the cluster's view says, and keeps it so.
 *
 * `reconcile` is the whole of it: it looks, compares, mends, and may be called at any time. Called when all is right it
 * changes nothing.
 */

import { type Lease, sameLeaseValue } from '../../cluster/lease.ts';
import { families, type NetworkConfig, type PerFamily, perFamily, valuesOf } from '../../cluster/network-config.ts';
import { SyscallError } from '../../linux/errors.ts';
import { type Address, addressKey, type Family, sameAddress } from '../../net/address.ts';
import type { NodeNetwork } from '../../net/node-file.ts';
import { formatPrefix, networkOf, type Prefix, prefixContains, samePrefix } from '../../net/prefix.ts';
import type { Backend } from '../backends/backend.ts';
import { type Backends, isTunnelName } from '../backends/map.ts';
import type { FilterPort } from '../filter/upkeep.ts';
import type { FilterInterfaces } from '../filter/ways.ts';
import type { EventInterest } from '../host/events.ts';
import type { ExternalChoice, FoundInterface } from '../host/external-choice.ts';
import { type ExternalInterface, type InterfaceChoice, InterfaceError } from '../host/external-interface.ts';
import type { NodeFiles, NodeState } from '../host/files.ts';
import { type HostState, hostInterfaces, neighbourTest } from '../host/host-state.ts';
import type { RememberedState } from '../host/remembered-state.ts';
import { planSysctls } from '../host/sysctls.ts';
import { type ClusterView, familiesInUse, formatAddresses } from '../membership/view.ts';
import { Backoff } from '../pace/wakeup.ts';
import type { Logger } from '../report/log.ts';
import type { ProblemKind } from '../report/problem-catalogue.ts';
import type { Problems } from '../report/problems.ts';
import { type Desired, deriveDesired, narrowToPeers, nothingDesired, type PeerOutcome } from './desired.ts';
import type { Healing, HealingSummary } from './healing.ts';
import type { Kernel } from './kernel.ts';
import { deviceOf, formatOperation, isDeviceOperation, type Operation, plan } from './plan.ts';
import { findShadows, isShadowed, withoutTaken } from './shadows.ts';

export interface DataPathOptions {
  readonly kernel: Kernel;
  /** Those that weftd runs. */
  readonly backends: Backends;
  readonly filter: FilterPort;
  readonly healing: Healing;
  readonly files: Pick<NodeFiles, 'writeNetwork' | 'removeAll'>;
  readonly logger: Logger;
  readonly problems: Problems;
  readonly node: string;
  readonly external: ExternalChoice;
  readonly remembered: RememberedState;
  /** Addresses that this host is said to have, where they are not its own. */
  readonly publicAddresses: InterfaceChoice['publicAddresses'];
  readonly ipMasq: boolean;
  /** Milliseconds on a clock that does not go back. */
  readonly now: () => number;
  /** From 0 to below 1. */
  readonly random: () => number;
}

/** A step that failed, and when it is tried again. */
interface Failure {
  readonly operation: Operation;
  readonly message: string;
  readonly backoff: Backoff;
  readonly dueMs: number;
}

/** What a run of `reconcile` came to. */
export interface ReconcileResult {
  readonly changes: number;
  /** When something that failed is due again; infinite where nothing is. */
  readonly retryDelayMs: number;
  /** When the packet filter is to be looked at again although nothing is heard of; infinite where there is no need. */
  readonly rulesAgainMs: number;
  /** What the lease says of this host is no longer so. */
  readonly identityChanged: boolean;
  /** The host had other addresses before: connections from those are dead. */
  readonly addressChanged: boolean;
  /** Whether containers can be started: the devices are there, and the plugins know of it. */
  readonly complete: boolean;
}

export interface PeerState {
  readonly lease: Lease;
  /** As the status has it: `direct`, `none`, or the backend's name where its tunnel leads there. */
  readonly path: string;
  readonly problem: string | undefined;
}

/** What the data path is now. */
export interface DataPathState {
  readonly external: ExternalInterface;
  readonly devices: readonly string[];
  readonly mtuBytes: number;
  readonly peers: readonly PeerState[];
}

const firstRetryMs = 500;
const lastRetryMs = 60_000;

/** What a failed step has to do with a peer. */
function concerns(operation: Operation, peer: Lease): boolean {
  switch (operation.kind) {
    case 'set-route':
      return families.some((family) => {
        const subnet = peer.subnets[family];
        return subnet && samePrefix(subnet, operation.route.destination);
      });
    case 'set-neighbour':
      return families.some((family) => {
        const subnet = peer.subnets[family];
        return subnet && sameAddress(networkOf(subnet).address, operation.neighbour.address);
      });
    case 'set-fdb':
      return families.some((family) => {
        const host = peer.publicAddresses[family];
        return host && sameAddress(host, operation.entry.destination);
      });
    case 'add-device':
      return true;
    default:
      return false;
  }
}

/** What a whole comparison left in order: changes of the cluster can be followed from there. */
interface Baseline {
  readonly view: ClusterView;
  readonly host: HostState;
  readonly external: ExternalInterface;
  /** Keeps up with the changes followed. */
  readonly desired: Desired;
}

/** How peers with something wrong are told of. */
function peerProblem({ peer, paths, problem }: PeerOutcome): string | undefined {
  const how = valuesOf(paths).length > 0 ? 'reached in part only' : 'left out';
  return problem && `Peer with lease "${peer.ownerId}" is ${how}: ${problem}`;
}

const problemsOf = (peers: readonly PeerOutcome[]): Map<string, string> =>
  new Map(peers.flatMap((outcome) => (outcome.problem ? [[outcome.peer.ownerId, peerProblem(outcome)!]] : [])));

function peerState({ peer, paths, problem }: PeerOutcome, failures: readonly Failure[]): PeerState {
  const failed = failures.find(({ operation }) => concerns(operation, peer));
  const used = Object.values(paths);
  return {
    lease: peer,
    path: used.includes('tunnel') ? peer.backendType : used.includes('direct') ? 'direct' : 'none',
    problem: problem ?? failed?.message,
  };
}

const followed = (changes: number, retryDelayMs: number, rulesAgainMs = Number.POSITIVE_INFINITY): ReconcileResult => ({
  changes,
  retryDelayMs,
  rulesAgainMs,
  identityChanged: false,
  addressChanged: false,
  complete: true,
});

/** Whether two views are the same but for the peers. */
const differInPeersOnly = (a: ClusterView, b: ClusterView): boolean =>
  a.config === b.config &&
  a.backend === b.backend &&
  a.own.ownerId === b.own.ownerId &&
  sameLeaseValue(a.own, b.own) &&
  sameList(a.formerSubnets, b.formerSubnets);

const sameList = <T>(a: readonly T[], b: readonly T[]): boolean =>
  a.length === b.length && a.every((value, i) => value === b[i]);

/** The ways that the cluster's packets take on this host. */
function interfacesOf(backend: Backend, { backend: own, config }: ClusterView, external: string): FilterInterfaces {
  const tunnels = familiesInUse(config).flatMap((family) => backend.deviceName(own, family) ?? []);
  return { peers: backend.routesDirectly(own) ? [...tunnels, external] : tunnels, external };
}

export class DataPath {
  private readonly options: DataPathOptions;
  private readonly healing: Healing;
  private baseline: Baseline | undefined;
  /** Whether the kernel's changes are heard of; only then is known that nobody has changed the host. */
  #hears = false;
  private failures = new Map<string, Failure>();
  private current: DataPathState | undefined;
  private currentInterest: EventInterest | undefined;
  /** Of the host, what steps may have failed for. */
  private circumstances = '';

  constructor(options: DataPathOptions) {
    this.options = options;
    this.healing = options.healing;
  }

  /** As it was made last; undefined before the first time. */
  get state(): DataPathState | undefined {
    return this.current;
  }

  /** What was mended so far. */
  get healed(): HealingSummary {
    return this.healing.summary;
  }

  get healedTotal(): number {
    return this.healing.total;
  }

  /** Why the external interface is the one of before, or not the one that it should be. */
  get interfaceProblem(): string | undefined {
    return this.options.external.problem;
  }

  private get remembered(): NodeState {
    return this.options.remembered.current;
  }

  /** What kernel events matter; undefined: all do. */
  get interest(): EventInterest | undefined {
    return this.currentInterest;
  }

  /** The host's state where it is known to be what it was at the last comparison; undefined otherwise. */
  get settledHost(): HostState | undefined {
    return this.#hears ? this.baseline?.host : undefined;
  }

  private backendOf({ type }: NetworkConfig['backend']): Backend {
    return this.options.backends.get(type)!;
  }

  /** Remembers the peers that plain routes lead through, and forgets those that no route leads through any more. */
  private usedGateways({ routes }: HostState): Address[] {
    if (this.remembered.gateways.length === 0) return [];
    const used = new Set(routes.flatMap(({ gateway }) => (gateway ? [addressKey(gateway)] : [])));
    return this.remembered.gateways.filter((gateway) => used.has(addressKey(gateway)));
  }

  /** @returns whether a file changed; undefined where it could not be written */
  private writeFiles(subject: ProblemKind, write: () => boolean): boolean | undefined {
    const { problems } = this.options;
    try {
      const changed = write();
      problems.report(subject, undefined);
      return changed;
    } catch (error) {
      if (!(error instanceof SyscallError)) throw error;
      problems.report(subject, error.message);
      return undefined;
    }
  }

  /** Devices that no longer belong are forgotten once they are gone. */
  private forgetDevices(
    desired: Desired,
    host: HostState,
    outcomes: readonly { operation: Operation; error?: unknown }[],
  ) {
    const present = new Set(host.links.map(({ name }) => name));
    for (const { operation, error } of outcomes) {
      if (operation.kind === 'remove-device' && !error) present.delete(operation.name);
    }
    const wanted = new Set(desired.state.devices.map(({ name }) => name));
    this.options.remembered.keepDevices((name) => wanted.has(name) || present.has(name));
  }

  /**
   * Makes the kernel, the rules and the files what `view` says.
   * @throws InterfaceError, SyscallError: nothing could be compared; try again later
   */
  reconcile(view: ClusterView): ReconcileResult {
    const { kernel, filter, logger, problems } = this.options;
    const startedMs = this.options.now();
    // Where this ends halfway, nothing is known to be in order.
    this.baseline = undefined;
    const { config, backend, own } = view;
    const inUse = familiesInUse(config);
    const host = kernel.readHost();
    const found = this.findExternal(config, host);
    const { external } = found;
    const addressChanged = this.useExternal(found, own.publicAddresses);
    this.noteCircumstances(host);

    const networks = perFamily((family) => config.networks[family]?.network);
    const tunnels = new Set(this.remembered.devices.keys());
    const derived = deriveDesired({
      networks,
      backend,
      backends: this.options.backends,
      subnets: own.subnets,
      leaseData: own.backendData,
      external,
      peers: view.peers.all,
      isNeighbour: neighbourTest(
        host,
        external.index,
        new Set(host.links.filter(({ name }) => tunnels.has(name)).map(({ index }) => index)),
      ),
      formerDevices: [...this.remembered.devices.keys()],
      formerNetworks: this.remembered.networks,
      formerPeerAddresses: this.remembered.gateways,
    });
    const shadows = findShadows(derived, host, tunnels);
    const desired = withoutTaken(derived, shadows.taken);
    problems.reportAll('route', shadows.problems);
    const direct = desired.peers.flatMap(({ peer, paths }) =>
      families.flatMap((family) => (paths[family] === 'direct' ? [peer.publicAddresses[family]!] : [])),
    );
    this.options.remembered.setGateways([...this.usedGateways(host), ...direct]);

    // A new peer's packets are let in before there is a way for the answers; one that leaves is shut out after.
    filter.useInterfaces(interfacesOf(this.backendOf(backend), view, external.name));
    const rules = filter.ensure(view, { keepPeers: true, trust: true });
    const names = new Set([...this.remembered.devices.keys(), ...desired.state.devices.map(({ name }) => name)]);
    const { operations, problems: obstacles } = plan(desired.state, kernel.readActual(host, names));
    // What a device that cannot be had now would carry waits with it.
    const missing = new Set(
      operations.filter((operation) => operation.kind === 'add-device' && !this.isDue(operation)).map(deviceOf),
    );
    const due = operations.filter((operation) => this.isDue(operation) && !missing.has(deviceOf(operation)));
    this.healing.prepare(desired.state, operations);
    // First: a device with IPv6 switched off takes no address.
    let settings = this.ensureSysctls(desired, external, inUse);
    const outcomes = kernel.apply(due, host);
    if (due.some(({ kind }) => kind === 'add-device')) settings += this.ensureSysctls(desired, external, inUse);
    this.healing.note(desired.state, operations, outcomes);
    this.noteOutcomes(operations, outcomes);
    this.forgetDevices(desired, host, outcomes);
    const changes = outcomes.filter(({ error }) => !error).length + settings;
    problems.reportAll('device', new Map(obstacles.map((message) => [message, message])));
    problems.report('MTU', desired.mtuProblem);
    problems.reportAll('peer', problemsOf(desired.peers));

    const { againMs } = filter.ensure(view, { trust: true });
    const network: NodeNetwork = {
      node: this.options.node,
      networks: inUse.map((family) => networks[family]!),
      subnets: inUse.map((family) => own.subnets[family]!),
      mtuBytes: desired.mtuBytes,
      ipMasq: this.options.ipMasq,
    };
    // Not before there is a way for the packets of the containers that are then started.
    const devicesFailed =
      obstacles.length > 0 || [...this.failures.values()].some(({ operation }) => isDeviceOperation(operation));
    const complete = !devicesFailed && this.writeNetwork(network);
    const hostNow = due.some(isDeviceOperation) ? kernel.withLinks(host) : host;
    this.note(this.backendOf(backend), desired, external, hostNow);
    const inOrder = complete && this.#hears && this.failures.size === 0 && shadows.taken.length === 0;
    this.baseline = inOrder ? { view, host: hostNow, external, desired } : undefined;
    const total = changes + rules.changes;
    if (total > 0) {
      logger.info('data path changed', { ...countKinds(outcomes), tookMs: Math.round(this.options.now() - startedMs) });
    }
    return {
      changes: total,
      retryDelayMs: this.retryDelayMs(),
      rulesAgainMs: Math.min(rules.againMs, againMs),
      identityChanged: inUse.some((family) => {
        const told = own.publicAddresses[family];
        return !told || !sameAddress(told, external.publicAddresses[family]!);
      }),
      addressChanged,
      complete,
    };
  }

  /** @param hears whether the kernel's changes are heard of from now on */
  noteHearing(hears: boolean): void {
    this.#hears = hears;
  }

  /** The host itself is not what it was: the next look is at everything. */
  disturb(): void {
    this.baseline = undefined;
  }

  /**
   * Programs what peers have come, gone or changed since the last whole comparison, without looking at the rest.
   * @returns undefined where more than that has changed, or it is not known that all was in order: compare everything
   * @throws SyscallError
   */
  follow(view: ClusterView): ReconcileResult | undefined {
    const { kernel, filter, logger, problems } = this.options;
    const { baseline } = this;
    if (!baseline || !this.#hears || !differInPeersOnly(baseline.view, view)) return undefined;
    this.baseline = undefined;
    const startedMs = this.options.now();
    const { host, external, desired } = baseline;
    const { removed, added } = view.peers.differenceTo(baseline.view.peers);
    if (removed.length + added.length === 0) {
      this.baseline = { ...baseline, view };
      return followed(0, this.retryDelayMs());
    }
    // The table is what was wanted before; from here on it is ahead of the kernel.
    this.healing.forget();
    const changed = desired.table.change(removed, added);
    if (!changed || changed.added.some(({ routes }) => isShadowed(routes, host))) return undefined;
    const direct = changed.added.flatMap(({ routes }) =>
      routes.flatMap(({ device, gateway }) => (device === external.name && gateway ? [gateway] : [])),
    );
    if (direct.length > 0) this.options.remembered.setGateways([...this.remembered.gateways, ...direct]);
    const admitted = filter.change(view, added, []);
    if (!admitted) filter.ensure(view, { keepPeers: true, trust: true });
    const narrowed = narrowToPeers(desired.state, changed);
    const { operations } = plan(narrowed.desired, narrowed.actual);
    // The first plain route needs other settings.
    if (direct.length > 0) this.ensureSysctls(desired, external, familiesInUse(view.config));
    const outcomes = kernel.apply(operations, host);
    this.healing.note(desired.state, operations, outcomes);
    this.noteOutcomes(operations, outcomes);
    if ([...changed.removed, ...changed.added].some(({ problem }) => problem)) {
      problems.reportAll('peer', problemsOf(desired.peers));
    }
    const isLocked = admitted && (removed.length === 0 || filter.change(view, added, removed));
    const rules = isLocked ? undefined : filter.ensure(view, { trust: true });
    this.noteState(desired, external);
    const changes = outcomes.filter(({ error }) => !error).length;
    if (changes > 0) {
      const tookMs = Math.round((this.options.now() - startedMs) * 10) / 10;
      logger.debug('peers followed', { ...countKinds(outcomes), tookMs });
    }
    if (this.failures.size === 0) this.baseline = { ...baseline, view };
    return followed(changes, this.retryDelayMs(), rules?.againMs);
  }

  /** @returns whether the plugins can read it now */
  private writeNetwork(network: NodeNetwork): boolean {
    const changed = this.writeFiles('node files', () => this.options.files.writeNetwork(network));
    if (changed) {
      const subnets = network.subnets.map(formatPrefix).join(', ');
      this.options.logger.info('node files written', { subnets, mtuBytes: network.mtuBytes });
    }
    return changed !== undefined;
  }

  /** @throws InterfaceError */
  private findExternal(config: NetworkConfig, host: HostState): FoundInterface {
    try {
      return this.options.external.find(config, this.options.kernel.hostView(host));
    } catch (error) {
      // What comes back may do so under another number.
      if (error instanceof InterfaceError) this.currentInterest = undefined;
      throw error;
    }
  }

  /** @returns whether the host had other addresses there before */
  private useExternal(found: FoundInterface, told: PerFamily<Address>): boolean {
    const { external } = found;
    const before = this.options.external.used;
    this.options.external.use(found);
    const addresses = formatAddresses(external.addresses);
    const addressChanged = before !== undefined && formatAddresses(before.addresses) !== addresses;
    if (addressChanged || before?.name !== external.name || before.mtuBytes !== external.mtuBytes) {
      const { name, mtuBytes } = external;
      this.options.logger.info('external interface', { name, mtuBytes, addresses, lease: formatAddresses(told) });
    }
    return addressChanged;
  }

  /** What failed for want of a link or an address is tried again at once when there is another one. */
  private noteCircumstances({ links, addresses }: HostState): void {
    // Containers' come and go, and nothing of ours is built on them.
    const own = links.filter(({ kind, name }) => kind !== 'veth' || name === this.options.external.used?.name);
    const indexes = new Set(own.map(({ index }) => index));
    const circumstances = [
      ...own.map(({ index, name, flags, mtuBytes }) => `${index} ${name} ${flags} ${mtuBytes}`),
      ...addresses.flatMap(({ index, prefix }) => (indexes.has(index) ? `${index} ${formatPrefix(prefix)}` : [])),
    ].join();
    if (circumstances === this.circumstances) return;
    this.circumstances = circumstances;
    const nowMs = this.options.now();
    for (const [key, failure] of this.failures) this.failures.set(key, { ...failure, dueMs: nowMs });
  }

  private isDue(operation: Operation): boolean {
    if (this.failures.size === 0) return true;
    const failure = this.failures.get(formatOperation(operation));
    return !failure || failure.dueMs <= this.options.now();
  }

  /** Keeps the failures of steps that are still planned, with a growing pause; reports each by its subject. */
  private noteOutcomes(
    planned: readonly Operation[],
    outcomes: readonly { operation: Operation; error: Error | undefined }[],
  ): void {
    const { logger, problems } = this.options;
    const keys = new Set(this.failures.size > 0 ? planned.map(formatOperation) : []);
    const failures = new Map([...this.failures].filter(([key]) => keys.has(key)));
    const failedDevices = new Set<string>();
    for (const { operation, error } of outcomes) {
      // Words are dear where there are fifteen thousand steps.
      if (!error && failures.size === 0 && !isDeviceOperation(operation) && !logger.tellsDebug) continue;
      const key = formatOperation(operation);
      if (!error) {
        failures.delete(key);
        if (!isDeviceOperation(operation) || this.healing.mended(operation)) logger.debug(key);
        else logger.info(key, operation.kind === 'remove-device' ? { because: operation.because } : {});
        continue;
      }
      // A device's failure stands for those of all its entries.
      if (operation.kind === 'add-device') failedDevices.add(error.message);
      else if (failedDevices.has(error.message)) continue;
      const backoff = failures.get(key)?.backoff ?? new Backoff(firstRetryMs, lastRetryMs, this.options.random);
      failures.set(key, { operation, message: error.message, backoff, dueMs: this.options.now() + backoff.next() });
    }
    this.failures = failures;
    // What a device's loss does to a thousand entries is one problem.
    const subjects = new Map([...failures].map(([key, { message }]) => [message, key]));
    problems.reportAll('step', new Map([...subjects].map(([message, key]) => [key, message])));
  }

  private retryDelayMs(): number {
    const due = Math.min(Number.POSITIVE_INFINITY, ...[...this.failures.values()].map(({ dueMs }) => dueMs));
    return Math.max(0, due - this.options.now());
  }

  private ensureSysctls(desired: Desired, external: ExternalInterface, inUse: readonly Family[]): number {
    const { kernel, logger, problems, ipMasq } = this.options;
    const { devices, routes } = desired.state;
    const needs = {
      families: inUse,
      tunnels: devices.map(({ name, local }) => ({ name, family: local.family })),
      external: external.name,
      forwardsExternal: ipMasq || routes.some(({ device }) => device === external.name),
    };
    const settings = planSysctls({ ...needs, read: (path) => kernel.readSysctl(path) });
    const written: string[] = [];
    const failed = new Map<string, string>();
    for (const setting of settings) {
      const name = setting.path.join('.');
      try {
        if (!kernel.ensureSysctl(setting)) continue;
        written.push(`set kernel setting ${name} to ${setting.value}`);
        logger.info('kernel setting written', { name, value: setting.value });
      } catch (error) {
        failed.set(name, (error as Error).message);
        this.healing.noteFailure('sysctl');
      }
    }
    this.healing.noteSettings('sysctl', 'kernel settings', () => JSON.stringify(needs), written);
    problems.reportAll('sysctl', failed);
    return written.length;
  }

  private note(backend: Backend, desired: Desired, external: ExternalInterface, host: HostState): void {
    this.noteState(desired, external);
    const devices = desired.state.devices.map(({ name }) => name);
    const watched = new Set([external.name, ...devices, ...this.remembered.devices.keys()]);
    const indexesOf = (names: ReadonlySet<string>): Set<number> =>
      new Set(host.links.filter(({ name }) => names.has(name)).map(({ index }) => index));
    const { kernel } = this.options;
    this.currentInterest = {
      names: watched,
      indexes: indexesOf(watched),
      tunnels: indexesOf(new Set([...devices, ...this.remembered.devices.keys()])),
      networks: this.remembered.networks,
      get port() {
        return kernel.port;
      },
      expects: (entry, isThere) => {
        const { address } = entry;
        if (!address) return false;
        return backend.expects?.(entry, isThere, (key) => desired.table.hostOf(address.family, key)) ?? false;
      },
    };
  }

  private noteState(desired: Desired, external: ExternalInterface): void {
    const failures = [...this.failures.values()];
    let peers: PeerState[] | undefined;
    this.current = {
      external,
      devices: desired.state.devices.map(({ name }) => name),
      mtuBytes: desired.mtuBytes,
      // Made when somebody asks: there may be thousands, and changes every second.
      get peers() {
        peers ??= desired.peers.map((outcome) => peerState(outcome, failures));
        return peers;
      },
    };
  }

  /** The addresses that this host has or is said to have. */
  hostAddresses(): Address[] {
    const { kernel, publicAddresses } = this.options;
    const own = hostInterfaces(kernel.readHost()).flatMap(({ loopback, addresses }) => (loopback ? [] : addresses));
    return [...own, ...Object.values(publicAddresses)];
  }

  /** Whether an interface other than the tunnel devices has an address in the subnet: a bridge with containers. */
  isInUse(subnet: Prefix): boolean {
    return hostInterfaces(this.options.kernel.readHost()).some(
      ({ name, addresses }) => !isTunnelName(name) && addresses.some((address) => prefixContains(subnet, address)),
    );
  }

  /**
   * Takes away all that weftd made on this host: routes, entries, devices, rules, files. Goes on past errors.
   * @returns what could not be removed
   */
  remove(peerAddresses: readonly Address[]): Error[] {
    const { kernel, files, logger, filter } = this.options;
    // A weftd that has just been stopped may have added to it.
    this.options.remembered.reload();
    const errors: Error[] = [];
    const attempt = (step: () => void): void => {
      try {
        step();
      } catch (error) {
        errors.push(error as Error);
      }
    };
    attempt(() => {
      const host = kernel.readHost();
      const names = new Set(this.remembered.devices.keys());
      const desired = nothingDesired(
        this.remembered.networks,
        [...names],
        [...peerAddresses, ...this.remembered.gateways],
      );
      const outcomes = kernel.apply(plan(desired, kernel.readActual(host, names)).operations, host);
      for (const { operation, error } of outcomes) {
        if (error) errors.push(error);
        else logger.info(formatOperation(operation));
      }
    });
    attempt(() => filter.remove());
    // The files last, and only once nothing is left that they would be needed for.
    if (errors.length === 0) attempt(() => files.removeAll());
    return errors;
  }
}

const countKinds = (
  outcomes: readonly { operation: Operation; error: Error | undefined }[],
): Record<string, number> => {
  const counts: Record<string, number> = {};
  for (const { operation, error } of outcomes) {
    const [verb, noun] = operation.kind.split('-') as [string, string];
    const key = error ? 'failed' : `${noun}${verb === 'remove' ? 'Removed' : verb === 'change' ? 'Changed' : 'Set'}`;
    counts[key] = (counts[key] ?? 0) + 1;
  }
  return counts;
};
