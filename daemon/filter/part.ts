/**
 * The interface of packet filter rules. A part is one job of weftd in nf_tables, such as masquerading or the peer lock. It
 * has chains and sets of its own, in a table that all parts of a family share. table-keeper.ts puts them there and keeps
 * them.
 *
 * Rules for every part:
 *
 * - All its base chains are its own: no other part has rules in them. In nf_tables an accept ends the walk through its
 *   own base chain only, and the packet goes on to the next base chain of the hook; a drop is final. So an accept of one
 *   part never goes past another's drop, in whatever order the kernel calls their chains.
 * - Names of chains and sets are unique among the parts of a family.
 * - The tables of all families change in one transaction. Packets meet the old state or the new one, never a mixture.
 * - Counters of a part's rules continue when the table is replaced.
 *
 * Later parts may add: maps (verdicts of a policy); family netdev, with the devices of a base chain; kernel
 * settings that a family needs to see packets (those of br_netfilter); the state to hold until a part has its first
 * data. Today only the lock has such a state, see lock-renewal.ts.
 */

import type { Lease } from '../../cluster/lease.ts';
import type { LeaseSet } from '../../cluster/lease-set.ts';
import type { NetworkConfig, PerFamily } from '../../cluster/network-config.ts';
import type { NftChain, NftKeyType } from '../../linux/nft/table.ts';
import type { Address } from '../../net/address.ts';
import type { Prefix } from '../../net/prefix.ts';
import type { BackendConfig } from '../backends/backend.ts';

/** The part of the cluster's view that the packet filter depends on. */
export interface FilterView {
  readonly config: NetworkConfig;
  readonly backend: BackendConfig;
  readonly own: Pick<Lease, 'subnets' | 'publicAddresses'>;
  readonly peers: LeaseSet;
  /** Older subnets of this node that still contain containers' addresses. */
  readonly formerSubnets: readonly PerFamily<Prefix>[];
  /** Absent before they are known. */
  readonly links?: FilterLinks;
  readonly placements?: Placements;
  /** Places of other programs' rules that go by the state of the tunnel's packets; absent before they were looked for. */
  readonly stateJudges?: readonly string[];
}

/** A peer's subnet, and the host that sends its packets. */
export interface Placement {
  /** Without host bits. */
  readonly subnet: Prefix;
  readonly host: Address;
}

/** The placements of all peers that this host routes to: their subnets do not overlap. */
export interface Placements {
  /**
   * The placements depend on these values alone: while they are identical (`===`), so are the placements. Parts get the same
   * list of them then.
   */
  readonly placementSource: readonly unknown[];
  readonly placements: readonly Placement[];
}

export interface PlacementChanges {
  readonly added: readonly Placement[];
  readonly removed: readonly Placement[];
}

export const noPlacements: PlacementChanges = { added: [], removed: [] };

/** This host's interfaces by name, for where packets come in. */
export interface FilterLinks {
  readonly external: string;
  /** The tunnels, and the interfaces that lead to containers. The same list until one comes or goes. */
  readonly inner: readonly string[];
  /** The networks that other interfaces of this host are connected to. */
  readonly networks: readonly Prefix[];
  /** The external interface's. */
  readonly addresses: PerFamily<Address>;
}

/** nft(8)'s name of the table's family. */
export type PartFamily = 'inet' | 'bridge';

/** A set, with separate elements: they change without the rest. */
export interface PartSet {
  readonly name: string;
  readonly keyType: NftKeyType;
  /** How long an element stays unless it is added again; without it, until it is deleted. */
  readonly timeoutMs?: number;
  /** Rules add elements to it, at most this many. Nobody else does. */
  readonly dynamicSize?: number;
  /**
   * The elements depend on this, and on the changes of peers that were followed: while it is identical (`===`), they are not
   * computed again.
   */
  readonly source: unknown;
  /** Keys, each of the key type's length, as they should be when it is called. Duplicates are harmless. */
  readonly elements: () => readonly Uint8Array[];
}

/** The desired state of a part. */
export interface PartContent {
  /** The part's name. */
  readonly name: string;
  readonly family: PartFamily;
  /** The same text for the same chains and sets, apart from elements. Called at every look. */
  readonly structure: string;
  readonly sets: readonly PartSet[];
  /** Base chains, and the chains that they jump to. */
  readonly chains: () => readonly NftChain[];
  /** Ask the part again after this time, even if the view is the same; absent: no need. */
  readonly validMs?: number;
}

/** Keys to add to and remove from one set. */
export interface ElementChange {
  readonly family: PartFamily;
  readonly set: string;
  readonly added: readonly Uint8Array[];
  readonly removed: readonly Uint8Array[];
}

export interface FilterPart {
  /** In kebab-case. Its counters are read by this name. */
  readonly name: string;
  readonly family: PartFamily;
  /** Undefined: the part wants nothing, and its former content is removed. The call has no side effects. */
  wants(view: FilterView): PartContent | undefined;
  /**
   * Elements to add and remove when only peers changed; some may already be so. A part whose elements do not depend on
   * peers has no such method.
   * @param view the one after the change
   * @returns undefined if the change concerns more than elements
   */
  changes?(
    view: FilterView,
    added: readonly Lease[],
    removed: readonly Lease[],
    placed?: PlacementChanges,
  ): readonly ElementChange[] | undefined;
  /** All changes of elements up to this view were made, so that the last content holds, with the same sources. */
  followed?(view: FilterView): void;
}
