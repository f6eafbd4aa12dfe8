/**
 * This node's identity: its public addresses, and the data of its devices in its lease.
 *
 * Data such as a MAC stays the same for as long as anything remembers it. Peers have the one in our lease, so that comes
 * first. A proposal has no effect before it is adopted.
 */

import { isDeepStrictEqual } from 'node:util';
import { compareSeniority, type Lease } from '../../cluster/lease.ts';
import type { LeaseSet } from '../../cluster/lease-set.ts';
import { families, type NetworkConfig, type PerFamily, perFamily, valuesOf } from '../../cluster/network-config.ts';
import type { LeaseRequest } from '../../cluster/store.ts';
import { currentLease, supersededLeases } from '../../cluster/subnet-choice.ts';
import { isTunnelKind } from '../../linux/netlink/tunnel.ts';
import type { Family } from '../../net/address.ts';
import type { Mac } from '../../net/mac.ts';
import type { Backends } from '../backends/map.ts';
import type { ExternalChoice, FoundInterface } from '../host/external-choice.ts';
import type { HostView } from '../host/external-interface.ts';
import type { HostState } from '../host/host-state.ts';
import type { RememberedState } from '../host/remembered-state.ts';
import { Rivalry } from './rivalry.ts';
import { type Identity, isOfHost } from './view.ts';

export interface IdentityOptions {
  readonly node: string;
  /** Those that weftd runs. */
  readonly backends: Backends;
  readonly external: Pick<ExternalChoice, 'find' | 'note'> & Partial<Pick<ExternalChoice, 'told'>>;
  readonly remembered: Pick<RememberedState, 'current' | 'add'>;
  readonly readHost: () => HostState;
  readonly hostView: (host: HostState) => HostView;
  /** Our lease among these, where the store knows it. */
  readonly findOwn?: ((leases: readonly Lease[]) => Lease | undefined) | undefined;
  /** The host's state if it is known to be unchanged; undefined: read it. */
  readonly settledHost: () => HostState | undefined;
  /** Six random bytes. */
  readonly randomMacBytes: () => Uint8Array;
  /** Milliseconds on a clock that does not go back. */
  readonly monotonic: () => number;
  /** Keeps a tunnel device to this process; throws where another weftd has it. */
  readonly lockDevice?: (name: string, advice: string) => void;
}

interface OwnDevice {
  readonly name: string;
  readonly mac: Mac | undefined;
}

/** An identity that this node could take. */
export interface Proposal {
  readonly identity: Identity;
  readonly config: NetworkConfig;
  readonly host: HostState;
  /** Our current lease, or one of ours before; undefined if there is none yet. */
  readonly own: Lease | undefined;
  readonly found: FoundInterface;
  /** The addresses that people had set in the store. */
  readonly told: string | undefined;
  readonly devices: PerFamily<OwnDevice>;
}

/** Of published data, because another lease has the same. */
const changesAtMost = { burst: 3, pauseMs: 60_000, longestPauseMs: 16 * 60_000 };

export class IdentityKeeper {
  readonly #options: IdentityOptions;
  /** The data of each device that this process has published. It stays, even if somebody changes the lease. */
  readonly #said = new Map<string, unknown>();
  /** Of published data. An older lease may copy our data after each change; peers refuse one of the two. */
  readonly #changes: Rivalry;
  #adopted: Proposal | undefined;
  /** The leases that were compared with the data of a proposal. */
  #compared: { readonly of: Proposal; readonly leases: LeaseSet } | undefined;

  constructor(options: IdentityOptions) {
    this.#options = options;
    this.#changes = new Rivalry({ ...changesAtMost, monotonic: options.monotonic });
  }

  /**
   * This node's identity under the config. Has no effect.
   * @param set the leases in the store now
   * @param memory the subnets that this node remembers, and the lease that it held last: it is as old as it was, even if
   *   somebody has deleted it, or written another node into it
   * @throws InterfaceError
   */
  propose(
    config: NetworkConfig,
    set: LeaseSet,
    { held, ...memory }: Pick<LeaseRequest, 'previous' | 'former'> & { readonly held?: Lease | undefined } = {},
  ): Proposal {
    const { node, external, readHost, hostView, settledHost, findOwn } = this.#options;
    const settled = settledHost();
    const before = this.#adopted;
    const { told } = external;
    const isUnchanged =
      before?.own &&
      before.host === settled &&
      before.config === config &&
      before.told === told &&
      set.has(before.own) &&
      !this.#isCopied(before, set);
    if (isUnchanged) return before;
    const leases = set.all;
    const host = settled ?? readHost();
    const found = external.find(config, hostView(host));
    const { publicAddresses } = found.external;
    // Another node may have our address: its data is its own.
    const claimant = { config, value: { publicAddresses, node }, ...memory };
    const own = findOwn ? findOwn(leases) : (currentLease(leases, claimant) ?? supersededLeases(leases, claimant)[0]);
    const others = leases.filter((lease) => lease !== own && !isOfHost(lease, publicAddresses));
    const devices: { [family in Family]?: OwnDevice } = {};
    const leaseData: { [family in Family]?: unknown } = {};
    for (const family of families.filter((each) => config.networks[each])) {
      const prepared = this.#prepare(config, family, host, { own, held, others });
      if (!prepared) continue;
      devices[family] = prepared.device;
      if (prepared.leaseData !== undefined) leaseData[family] = prepared.leaseData;
    }
    return { identity: { publicAddresses, leaseData }, config, host, own, found, told, devices };
  }

  /** Whether a lease has our data that was not there at the proposal, or said something else. Each is compared once. */
  #isCopied(of: Proposal, leases: LeaseSet): boolean {
    const compared = this.#compared?.of === of ? this.#compared.leases : undefined;
    const { own, identity } = of;
    for (const lease of compared ? leases.differenceTo(compared).added : leases) {
      if (lease === own) continue;
      for (const family of families) {
        const data = identity.leaseData[family];
        if (data !== undefined && isDeepStrictEqual(lease.backendData[family], data)) return true;
      }
    }
    this.#compared = { of, leases };
    return false;
  }

  #prepare(
    { backend: config }: NetworkConfig,
    family: Family,
    host: HostState,
    { own, held, others }: { own: Lease | undefined; held: Lease | undefined; others: readonly Lease[] },
  ): { readonly device: OwnDevice; readonly leaseData?: unknown } | undefined {
    const { node, backends, remembered, randomMacBytes } = this.#options;
    const backend = backends.get(config.type)!;
    const name = backend.deviceName(config, family);
    if (name === undefined) return undefined;
    const isOfBackend = (lease: Lease): boolean => lease.backendType === backend.name;
    // A host made from another's image remembers the other's data. The older lease keeps it: otherwise both would change, and
    // a lease that copies ours would make us change it again and again.
    const ours = [own, held].flatMap((lease) => lease ?? []).sort(compareSeniority)[0];
    const isOthers = (lease: Lease): boolean =>
      isOfBackend(lease) && lease.node !== node && (!ours || compareSeniority(lease, ours) < 0);
    const link = host.links.find((candidate) => candidate.name === name && isTunnelKind(candidate.kind));
    const prepared = backend.prepare?.(config, {
      said: [this.#said.get(name), own && isOfBackend(own) ? own.backendData[family] : undefined],
      macs: [remembered.current.devices.get(name), link?.mac],
      isTaken: (test) =>
        !this.#changes.mustPause && others.some((lease) => isOthers(lease) && valuesOf(lease.backendData).some(test)),
      randomMacBytes,
    });
    return { device: { name, mac: prepared?.mac }, ...(prepared ? { leaseData: prepared.leaseData } : {}) };
  }

  /**
   * Makes it so: its devices are this process's, and it is remembered before anybody is told, so that the next start says
   * the same, and removal knows what to look for.
   * @throws DeviceBusyError
   */
  adopt(proposal: Proposal): Identity {
    if (proposal === this.#adopted) return proposal.identity;
    const { backends, external, remembered, lockDevice } = this.#options;
    const { identity, config, found, devices } = proposal;
    external.note(found);
    const { apart } = backends.get(config.backend.type)!;
    for (const { name } of valuesOf(devices)) lockDevice?.(name, apart);
    for (const family of families) {
      const device = devices[family];
      const data = identity.leaseData[family];
      if (!device || data === undefined) continue;
      const said = this.#said.get(device.name);
      if (said !== undefined && !isDeepStrictEqual(said, data)) this.#changes.noteWrite();
      this.#said.set(device.name, data);
    }
    remembered.add(
      perFamily((family) => config.networks[family]?.network),
      new Map(valuesOf(devices).map(({ name, mac }) => [name, mac])),
    );
    this.#adopted = proposal;
    return identity;
  }
}
