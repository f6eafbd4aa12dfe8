/**
 * The seam of the packet filter: a part is something that weftd wants of nf_tables (masquerading, the peer lock), with
 * chains and sets of its own in a table that all parts of a family share. table-keeper.ts puts them there and keeps
 * them.
 *
 * What every part can rely on, and has to keep to:
 *
 * - Its packets meet base chains of its own, which no other part's rule is in. An accept ends the walk through the base
 *   chain that it is in, and no more; the packet goes on to the next base chain of the hook. A drop is final. So an
 *   accept of one part never goes past another's drop, in whatever order their chains are called.
 * - Names of chains and sets are unique among the parts of a family; the part's own name begins or is that of its main
 *   chain, so that people find it in `nft list ruleset`.
 * - All tables change in one transaction. Packets meet the old state or the new one, never a part of either.
 * - What a part's rules have counted is carried over when the table is replaced.
 *
 * What later parts bring with them, and nothing has today: maps (policy's verdicts), family netdev with the devices of
 * a base chain (linux/nft/table.ts has no attribute for them yet), kernel settings that a family needs to see packets
 * (br_netfilter's), and a state to hold until a part has its first data; today only the lock has one, see
 * lock-renewal.ts.
 */

import type { Lease } from '../../cluster/lease.ts';
import type { LeaseSet } from '../../cluster/lease-set.ts';
import type { NetworkConfig, PerFamily } from '../../cluster/network-config.ts';
import type { NftChain, NftKeyType } from '../../linux/nft/table.ts';
import type { Prefix } from '../../net/prefix.ts';
import type { OwnBackend } from '../backends/map.ts';

/** The part of the cluster's view that the packet filter depends on. */
export interface FilterView {
  readonly config: NetworkConfig;
  readonly backend: OwnBackend;
  readonly own: Pick<Lease, 'subnets'>;
  readonly peers: LeaseSet;
  /** Older subnets of this node that containers still have addresses of. */
  readonly formerSubnets: readonly PerFamily<Prefix>[];
}

/** nft(8)'s name of the table's family. */
export type PartFamily = 'inet' | 'bridge';

/** A set, with its elements apart: they come and go without a change of the rest. */
export interface PartSet {
  readonly name: string;
  readonly keyType: NftKeyType;
  /** How long an element stays unless it is added again; without it, until it is deleted. */
  readonly timeoutMs?: number;
  /** The elements are made from this alone: while it is identical (`===`) they are not even made. */
  readonly source: unknown;
  /** Keys, each of the key type's length. Repetitions do no harm. */
  readonly elements: () => readonly Uint8Array[];
}

/** What a part wants in the table. */
export interface PartContent {
  /** The part's name. */
  readonly name: string;
  readonly family: PartFamily;
  /** The same text as long as the sets, but for their elements, and the chains are the same. Asked for at every look. */
  readonly structure: string;
  readonly sets: readonly PartSet[];
  /** Base chains, and those that they jump to. */
  readonly chains: () => readonly NftChain[];
}

/** Keys that come and go in one set. */
export interface ElementChange {
  readonly family: PartFamily;
  readonly set: string;
  readonly added: readonly Uint8Array[];
  readonly removed: readonly Uint8Array[];
}

export interface FilterPart {
  /** In kebab-case; its counters are asked for by it. */
  readonly name: string;
  /** Undefined: nothing, and what was there goes. A question without effects. */
  wants(view: FilterView): PartContent | undefined;
  /**
   * What becomes of the part's elements where nothing but peers changed. The keeper leaves out what is so already.
   * A part whose elements have nothing to do with peers has no such method.
   * @param view the one after the change
   */
  changes?(view: FilterView, added: readonly Lease[], removed: readonly Lease[]): readonly ElementChange[];
}
