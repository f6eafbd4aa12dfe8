/**
 * The port to the cluster's shared state. `etcd/store.ts` implements it; tests of the daemon may fake it.
 *
 * Every call ends within the store's deadline: with a result, or with a StoreError, whose type says whether trying again can
 * help. No call retries by itself for longer than that; whoever calls decides on pace and persistence. Several calls
 * may be under way at once.
 */

import type { Address } from '../net/address.ts';
import type { Prefix } from '../net/prefix.ts';
import type { Lease, LeaseValue, OwnLease } from './lease.ts';
import type { NetworkConfig, PerFamily } from './network-config.ts';
import type { StoreError } from './store-errors.ts';

/** The network config as it stands; parsing is the reader's (`parseNetworkConfig`), so that one bad document can be reported and the last good one kept. */
export interface StoredConfig {
  readonly text: string;
  /** etcd's mod_revision of the key. */
  readonly modRevision: string;
}

/** An entry that cannot be read, and why. It is left alone, and its subnet, if the key tells one, counts as taken. */
export interface MalformedEntry {
  readonly ownerId: string;
  readonly reason: string;
  /** The subnets, as far as the entry's name tells them; absent where it tells nothing, or is not a lease's. */
  readonly subnets?: PerFamily<Prefix>;
}

/** A lease before and after: the second is undefined where it is gone, the first where it has come. */
export type LeaseChange = readonly [was: Lease | undefined, is: Lease | undefined];

/** The list with the changes made, in their order; undefined where it is not the one that they are of. */
export function patchList(list: readonly Lease[], changes: readonly LeaseChange[]): Lease[] | undefined {
  const next = list.slice();
  for (const [was, is] of changes) {
    if (!was) {
      if (is) next.push(is);
      continue;
    }
    const at = next.indexOf(was);
    if (at < 0) return undefined;
    if (is) next[at] = is;
    else next.splice(at, 1);
  }
  return next;
}

export interface LeaseList {
  readonly leases: readonly Lease[];
  /** How `leases` came about from those that were listed before, where that is known. */
  readonly since?: { readonly leases: readonly Lease[]; readonly changes: readonly LeaseChange[] };
  readonly malformed: readonly MalformedEntry[];
  /**
   * lost: the store no longer knows what it knew (it was restored from a backup, or begun anew), so that a lease that is
   * missing has not been given back, for all that can be told.
   */
  readonly continuity: 'same' | 'lost';
  /** At which point of its history the store said so. Opaque to everybody but the store. */
  readonly mark: unknown;
}

/** What whoever lists knew before: the list's continuity is told against it. */
export interface Known {
  /** That of an earlier list, perhaps an earlier process's. */
  readonly mark?: unknown;
  /** The owner of a lease that the store has promised us until later than now. */
  readonly promised?: string;
}

export interface RememberedLease {
  readonly lease: Lease;
  /** Until when it was promised, in milliseconds since the epoch. */
  readonly untilMs: number;
}

/** What a node remembers of the cluster across a restart. Needed only where the store has lost leases meanwhile. */
export interface LeaseMemory {
  readonly mark: unknown;
  /** The owner of our own lease. */
  readonly own: string;
  readonly ownUntilMs: number;
  readonly peers: readonly RememberedLease[];
}

export interface SubnetClaim {
  readonly config: NetworkConfig;
  /** What goes into the lease. `node` and `version` set. */
  readonly value: LeaseValue & { readonly node: string };
  /** Subnets that node.json or subnet.env remember. Taken again where free and compatible. */
  readonly previous?: PerFamily<Prefix>;
  /** Claim one more although a lease with our public address exists. */
  readonly further?: boolean;
}

export interface ClaimResult {
  readonly own: OwnLease;
  /** kept: the lease was ours before; previous: claimed again; new: picked. */
  readonly how: 'kept' | 'previous' | 'new';
  /** How many other nodes were faster for a subnet we had picked. */
  readonly lostRaces: number;
  /**
   * Other leases of this node (same public address) that the config no longer allows. They are left in place: release
   * them when nothing uses them any more.
   */
  readonly superseded: readonly Lease[];
}

export type RenewResult =
  | { readonly outcome: 'renewed'; readonly own: OwnLease }
  /** gone: the key is no longer there (expired, deleted). taken: somebody else's value is in it. Claim again. */
  | { readonly outcome: 'lost'; readonly reason: 'gone' }
  | { readonly outcome: 'lost'; readonly reason: 'taken'; readonly holder: Lease };

/** What a node says of itself besides its lease: `<prefix>/nodes/<node>`, on a short etcd lease: it is there while weftd lives. */
export interface NodeRecord {
  readonly node: string;
  readonly version: string;
  readonly publicAddresses: PerFamily<Address>;
  readonly backendType: string;
  /** Milliseconds since the epoch. */
  readonly startedAtMs: number;
  /** `ok`, or what is wrong, in a few words. */
  readonly health: string;
  /** Containers attached on the node, where known. */
  readonly containers?: number;
}

export interface NodeList {
  /** Each of them alive within the last 30 s. */
  readonly nodes: readonly NodeRecord[];
  readonly malformed: readonly MalformedEntry[];
}

export interface StoreHealth {
  readonly endpoints: readonly string[];
  /** Whether the last call that reached an outcome was answered. */
  readonly connected: boolean;
  /** Milliseconds since the epoch of the last answer. */
  readonly lastContactMs: number | undefined;
  /** Why the last call failed; undefined while connected. */
  readonly error: string | undefined;
}

export interface Closable {
  close(): void;
}

export interface ClusterStore {
  /** The prefix of all keys, without a slash at its end. */
  readonly prefix: string;

  /** undefined: there is no config yet. */
  readConfig(): Promise<StoredConfig | undefined>;

  /**
   * Writes the config text as it is (validate first). With `expected` (the mod_revision read before; '0' for "there is
   * none") the write happens only if nobody wrote since: false if somebody did.
   */
  writeConfig(text: string, expected?: string): Promise<boolean>;

  /** All leases at one time. One malformed entry does not hide the others. */
  listLeases(known?: Known): Promise<LeaseList>;

  /** Whether the lease as listed is still held as `own` says; if not, it has to be renewed. */
  holds(own: OwnLease, listed: Lease): boolean;

  /** How the memory is written down. `parse` gives undefined for what is none, or another network's. */
  readonly memory: {
    format(memory: LeaseMemory): string;
    parse(text: string): LeaseMemory | undefined;
  };

  /**
   * Leases a subnet: the one this public address already has, else the previous one, else a random pick of the first
   * 100 free; by a transaction, picking again after a lost race. A reservation of ours is filled in and stays one.
   * @throws StoreError; NoFreeSubnetError
   */
  claimSubnet(claim: SubnetClaim): Promise<ClaimResult>;

  /**
   * Gives the lease another whole TTL and writes the value if it differs: only if the key is still ours. To be called
   * with a changed value at once when address, MAC or backend change. A reservation is only written, never given a TTL.
   * What nobody could have claimed it with, because it cannot be read, is written over.
   */
  renewLease(own: OwnLease, value: LeaseValue): Promise<RenewResult>;

  /** Deletes the lease if it is still ours (a reservation too). False: it was not there, or not ours any more. */
  releaseLease(lease: Lease): Promise<boolean>;

  /**
   * Writes this node's record and keeps it alive; called again with the changed record, or to be sure that it is there.
   * Call it every 10 s: the record goes 30 s after the last call. Where another live node has the name, nothing is
   * written and that node's record is given.
   */
  publishNode(record: NodeRecord): Promise<{ readonly conflict?: NodeRecord }>;
  /** Takes the record back, at a clean stop. */
  withdrawNode(node: string): Promise<void>;
  listNodes(): Promise<NodeList>;
  /** How many records there are: cheap, however many they be. */
  countNodes(): Promise<number>;

  /**
   * Calls `onWake` whenever config or leases may have changed: at the start, after each change (several close together
   * may give one call), and after every loss of contact. It carries nothing: list again. Loss is mended inside, for
   * ever, with backoff; `onProblem` hears of it once per outage.
   */
  watch(onWake: () => void, onProblem?: (error: StoreError) => void): Closable;

  /**
   * Gives the connection up at once, for one whose local address is gone: it would be waited for until the deadline.
   * Calls under way are made again over a new one.
   */
  reconnect(): void;

  /** From memory, without asking etcd. */
  health(): StoreHealth;

  /** Ends watches and connections. Leases stay. */
  close(): void;
}
