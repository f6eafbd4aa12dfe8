/**
 * What the packet filter holds for the view of the cluster: derives its settings, has them put in place, and counts
 * and reports the result.
 */

import type { Lease } from '../../cluster/lease.ts';
import type { LeaseSet } from '../../cluster/lease-set.ts';
import { families, type NetworkConfig, type PerFamily, valuesOf } from '../../cluster/network-config.ts';
import type { NodeStatus } from '../../cluster/status.ts';
import { type Address, type Family, sameAddress } from '../../net/address.ts';
import type { Prefix } from '../../net/prefix.ts';
import type { OwnBackend } from '../backends/map.ts';
import type { Problems } from '../report/problems.ts';
import { lockLifeMs } from './peer-lock.ts';
import { formatStructure, type RuleSettings } from './rule-table.ts';
import type { EnsureOptions, Rules } from './rules.ts';
import type { FilterInterfaces, Ways } from './ways.ts';

/** The command line's choices for the packet filter, beside masquerading. */
export interface FilterOptions {
  /** Take VXLAN packets from peers alone. */
  readonly peerLock: boolean;
  /** Accept packets of containers where another program's chain would drop them. */
  readonly forward: boolean;
  /** Masquerade to ports at random. */
  readonly randomPorts: boolean;
}

/** The part of the cluster's view that the packet filter depends on. */
export interface FilterView {
  readonly config: NetworkConfig;
  readonly backend: OwnBackend;
  readonly own: Pick<Lease, 'subnets'>;
  readonly peers: LeaseSet;
  readonly formerSubnets: readonly PerFamily<Prefix>[];
}

/** The result of a look at the packet filter. */
export interface RuleResult {
  readonly changes: number;
  /** When to look again even if no event arrives; infinite where there is no need. */
  readonly againMs: number;
}

/** The packet filter, as the data path uses it. */
export interface FilterPort {
  /** The interfaces that the cluster's packets take; to be set before the first `ensure` and when they change. */
  useInterfaces(interfaces: FilterInterfaces): void;
  /**
   * Brings the whole packet filter to what `view` asks for. Never throws: a failure is a reported problem.
   * @param options what need not be looked at or changed now
   */
  ensure(view: FilterView, options?: EnsureOptions): RuleResult;
  /**
   * Admits added peers and shuts out removed ones, without a look at the rest. An address that a peer of `view` still
   * has stays admitted.
   * @returns false: the change could not be made this way; call `ensure`
   */
  change(view: FilterView, added: readonly Lease[], removed: readonly Lease[]): boolean;
  /** Removes everything. @throws Error: some of it could not be removed */
  remove(): void;
}

/** How the packet filter's repairs are counted. */
export interface FilterHealing {
  noteSettings(kind: 'rules', key: string, wanted: () => string, done: readonly string[]): void;
  noteFailure(kind: 'rules'): void;
}

export interface UpkeepOptions {
  readonly rules: Pick<Rules, 'ensure' | 'changePeers' | 'counters' | 'remove'>;
  readonly healing: FilterHealing;
  readonly problems: Pick<Problems, 'report' | 'reportAll'>;
  readonly ways: Ways;
  readonly ipMasq: boolean;
  readonly filter: FilterOptions;
  /** How long the peer lock holds without weftd. */
  readonly lockLifeMs?: number;
}

const retryMs = 1000;

/** Public addresses of the leases that tunnels lead to. */
const publicAddressesOf = (leases: readonly Lease[]): Address[] =>
  leases
    .filter(({ backendType }) => backendType === 'vxlan')
    .flatMap(({ publicAddresses }) => Object.values(publicAddresses));

/** Public addresses of removed leases that no other peer has. */
function unusedAddresses(
  removed: readonly Lease[],
  added: readonly Address[],
  peers: Iterable<Pick<Lease, 'publicAddresses'>>,
): Address[] {
  const isUsed = (address: Address): boolean => {
    const { family } = address;
    for (const { publicAddresses } of peers) {
      const other = publicAddresses[family];
      if (other && sameAddress(other, address)) return true;
    }
    return false;
  };
  return publicAddressesOf(removed).filter(
    // As a rule it is the same host's new lease that has it: found without a search through all peers.
    (address) => !added.some((other) => sameAddress(other, address)) && !isUsed(address),
  );
}

export class FilterUpkeep implements FilterPort {
  readonly #options: UpkeepOptions;
  #current: { readonly view: FilterView; readonly settings: RuleSettings } | undefined;

  constructor(options: UpkeepOptions) {
    this.#options = options;
  }

  useInterfaces(interfaces: FilterInterfaces): void {
    this.#options.ways.useInterfaces(interfaces);
  }

  ensure(view: FilterView, options: EnsureOptions = {}): RuleResult {
    const { rules, problems, healing } = this.#options;
    try {
      const settings = this.#settings(view);
      const { changes, forward, againMs } = rules.ensure(settings, options);
      const wanted = (): string => formatStructure(settings);
      const done = changes > 0 ? ['set packet filter table'] : [];
      healing.noteSettings('rules', 'packet filter table', wanted, done);
      let total = changes;
      for (const { place, mended, problem } of forward) {
        const here = mended === undefined ? [] : [`set packet filter rules in "${place}"`];
        total += here.length;
        healing.noteSettings('rules', place, wanted, here);
        if (problem !== undefined && !options.trust) healing.noteFailure('rules');
      }
      problems.reportAll(
        'forwarding',
        new Map(forward.flatMap(({ place, problem }) => (problem === undefined ? [] : [[place, problem]]))),
      );
      problems.report('packet filter', undefined);
      return { changes: total, againMs };
    } catch (error) {
      // Containers of different hosts reach each other all the same.
      problems.report('packet filter', (error as Error).message);
      healing.noteFailure('rules');
      return { changes: 0, againMs: retryMs };
    }
  }

  change({ backend, peers }: FilterView, added: readonly Lease[], removed: readonly Lease[]): boolean {
    const { filter, rules } = this.#options;
    if (!filter.peerLock || backend.type !== 'vxlan') return true;
    const admitted = publicAddressesOf(added);
    const shutOut = unusedAddresses(removed, admitted, peers);
    if (admitted.length + shutOut.length === 0) return true;
    try {
      return rules.changePeers(admitted, shutOut);
    } catch {
      // `ensure` meets the error again, and reports it.
      return false;
    }
  }

  remove(): void {
    this.#options.rules.remove();
  }

  /** Whether the peer lock is on, and how much it has dropped. */
  peerLock(): NodeStatus['peerLock'] {
    const count = this.#options.rules.counters();
    return { enabled: count !== undefined, droppedPackets: count?.packets ?? 0, droppedBytes: count?.bytes ?? 0 };
  }

  /** The same object for the same view. */
  #settings(view: FilterView): RuleSettings {
    if (this.#current?.view === view) return this.#current.settings;
    const { config, backend, own, peers } = view;
    const { ipMasq, filter } = this.#options;
    const networks: { [family in Family]?: Prefix } = {};
    for (const family of families) {
      const network = config.networks[family]?.network;
      if (network) networks[family] = network;
    }
    const settings: RuleSettings = {
      networks,
      subnets: [own.subnets, ...view.formerSubnets],
      ipMasq,
      randomPorts: filter.randomPorts,
      forward: filter.forward,
      lock:
        filter.peerLock && backend.type === 'vxlan'
          ? {
              vni: backend.vni,
              port: backend.port,
              lifeMs: this.#options.lockLifeMs ?? lockLifeMs,
              families: families.filter((family) => networks[family] !== undefined),
              containers: valuesOf(networks),
              peers: publicAddressesOf(peers.all),
            }
          : undefined,
    };
    this.#options.ways.useSubnets(settings.subnets);
    this.#current = { view, settings };
    return settings;
  }
}
