/**
 * The ports to the cluster's shared state: where its network config comes from, and who keeps its leases. A store for
 * each kind is in a folder of its own, such as `etcd/`; `stores/open-store.ts` opens one.
 *
 * Every call ends within the store's deadline: with a result, or with a StoreError, whose type says whether trying again
 * can help. No call retries by itself for longer than that; the caller decides on pace and persistence. Several calls may
 * be under way at once.
 *
 * Optional members are what some stores alone can do. To come with the stores that need them: `claimFurther` (one more
 * subnet beside the first), `setCondition` and `event` (tell people on the node's own object).
 */

import type { Address } from '../net/address.ts';
import type { Prefix } from '../net/prefix.ts';
import type { Lease, LeaseValue, OwnLease } from './lease.ts';
import type { LeaseSet } from './lease-set.ts';
import type { NetworkConfig, PerFamily } from './network-config.ts';
import type { StoreError } from './store-errors.ts';

export interface Closable {
  close(): void;
}

/** The network config as text. The reader parses it (`parseNetworkConfig`), reports a bad one, and keeps the last good one. */
export interface StoredConfig {
  readonly text: string;
  /** Another one after each change; never '0', which stands for "there is none". */
  readonly version: string;
}

export interface ConfigSource {
  /** The name that people know it by: `etcd`. */
  readonly kind: string;
  /** Where in it the config stands: a key, a file. */
  readonly path: string;
  /** The same in full: `etcd key "/coreos.com/network/config"`. */
  readonly place: string;
  /** undefined: there is no config yet. */
  read(): Promise<StoredConfig | undefined>;
  /** Calls `onWake` whenever the config may have changed, and at the start. It carries nothing: read again. */
  watch(onWake: () => void): Closable;
  /**
   * Writes the text as it is (validate first). With `expected` (the version read before; '0' for "there is none") the
   * write happens only if nobody wrote since: false if somebody did.
   */
  write?(text: string, expected?: string): Promise<boolean>;
}

/** An entry that cannot be read, and why. It is left alone, and its subnet, if the entry's name tells one, counts as taken. */
export interface MalformedEntry {
  readonly ownerId: string;
  readonly reason: string;
  /** The subnets in the entry's name; absent if it contains none, or is not a lease's. */
  readonly subnets?: PerFamily<Prefix>;
}

/**
 * lost: the store no longer knows what it knew (it was restored from a backup, or begun anew), so that a lease that is
 * missing has not been given back, for all that can be told.
 */
export type Continuity = 'same' | 'lost';

export interface LeaseList {
  readonly leases: LeaseSet;
  readonly malformed: readonly MalformedEntry[];
  readonly continuity: Continuity;
  /** The point in the store's history. Opaque to everybody but the store. */
  readonly mark: unknown;
}

/** Knowledge of the caller of `list` from before. The list's continuity is judged against it. */
export interface Known {
  /** That of an earlier list, perhaps an earlier process's. */
  readonly mark?: unknown;
  /** The owner of our lease, if the store promised it beyond now. */
  readonly promised?: string;
}

export interface LeaseRequest {
  readonly config: NetworkConfig;
  /** The value to be written into the lease, with `node` and `version`. */
  readonly value: LeaseValue & { readonly node: string };
  /** Subnets that this node had before. Given again where free and compatible, if the store has a choice. */
  readonly previous?: PerFamily<Prefix>;
  /** One more although a lease with our public address exists. */
  readonly further?: boolean;
}

export type Acquired =
  | {
      readonly state: 'have';
      readonly own: OwnLease;
      /** kept: the lease was ours before; previous: ours again; new: picked. */
      readonly how: 'kept' | 'previous' | 'new';
      /** How many other nodes were faster for a subnet that was picked for us. */
      readonly lostRaces: number;
      /**
       * Other leases of this node (same public address) that the config no longer allows. They are left in place:
       * release them when nothing uses them any more.
       */
      readonly superseded: readonly Lease[];
    }
  /** The store gives one by itself later, and wakes those who watch it then. */
  | { readonly state: 'waiting'; readonly why: string }
  /** There is none to be had before somebody changes the config or gives a lease back. */
  | { readonly state: 'none'; readonly why: string };

/** Acquire again. gone: expired, or deleted. taken: somebody else has it. replaced: its owner was made anew, as another. */
export type Lost =
  | { readonly state: 'lost'; readonly how: 'gone' | 'replaced' }
  | { readonly state: 'lost'; readonly how: 'taken'; readonly holder: Lease };

export type Updated = { readonly state: 'held'; readonly own: OwnLease } | Lost;

/** A node's record beside its lease, which is there while its daemon lives. */
export interface NodeRecord {
  readonly node: string;
  readonly version: string;
  readonly publicAddresses: PerFamily<Address>;
  readonly backendType: string;
  /** Milliseconds since the epoch. */
  readonly startedAtMs: number;
  /** `ok`, or the problem in a few words. */
  readonly health: string;
  /** Containers attached on the node, if known. */
  readonly containers?: number;
}

export interface NodeList {
  /** Each was alive within the last 30 s. */
  readonly nodes: readonly NodeRecord[];
  readonly malformed: readonly MalformedEntry[];
}

export interface Liveness {
  /**
   * Writes this node's record and keeps it alive. Call it every 10 s, and with every changed record: the record expires
   * 30 s after the last call. If another live node has the name, it writes nothing and returns that node's record.
   */
  publish(record: NodeRecord): Promise<{ readonly conflict?: NodeRecord }>;
  /** Removes the record, at a clean stop. */
  withdraw(node: string): Promise<void>;
  list(): Promise<NodeList>;
  /** The number of records: cheap even for many. */
  count(): Promise<number>;
}

export interface RememberedLease {
  readonly lease: Lease;
  /** The time until which it was promised, in milliseconds since the epoch. */
  readonly untilMs: number;
}

/** A node's memory of the cluster across a restart. It is used only where the store has lost leases meanwhile. */
export interface LeaseMemory {
  readonly mark: unknown;
  /** The owner of our own lease. */
  readonly own: string;
  readonly ownUntilMs: number;
  readonly peers: readonly RememberedLease[];
}

/** How the memory is written down. */
export interface LeaseMemoryFormat {
  format(memory: LeaseMemory): string;
  /** undefined where the text is none, or another network's. */
  parse(text: string): LeaseMemory | undefined;
}

export interface StoreHealth {
  readonly endpoints: readonly string[];
  /** Whether the last finished call was answered. */
  readonly connected: boolean;
  /** Milliseconds since the epoch of the last answer. */
  readonly lastContactMs: number | undefined;
  /** Why the last call failed; undefined while connected. */
  readonly error: string | undefined;
}

export interface ClusterStore {
  /** The name that people know it by: `etcd`. */
  readonly kind: string;
  /** Where in it this network's leases stand, as people give it: etcd's prefix. */
  readonly place: string;
  /** Tells networks that share a host apart; undefined for the one that hosts have as a rule. */
  readonly scope: string | undefined;

  /** All leases at one time. A malformed entry does not hide the others. */
  list(known?: Known): Promise<LeaseList>;

  /**
   * Calls `onWake` whenever leases may have changed: at the start, after each change (several close together may give one
   * call), and after every loss of contact. It carries nothing: list again. Loss is mended inside, for ever, with
   * backoff; `onProblem` hears of it once per outage.
   */
  watch(onWake: () => void, onProblem?: (error: StoreError) => void): Closable;

  /**
   * Gets this node a lease: the one that it has, else the previous one, else another. A reservation of ours is filled in
   * and stays one.
   * @throws StoreError
   */
  acquire(request: LeaseRequest): Promise<Acquired>;

  /** Whether the lease as listed is still held as `own` says; if not, it has to be updated. */
  holds(own: OwnLease, listed: Lease): boolean;

  /**
   * Writes the value where it differs, only if the lease is still ours: at once when address, MAC or backend change. A
   * value that cannot be read is written over.
   */
  update(own: OwnLease, value: LeaseValue): Promise<Updated>;

  /** Where leases expire: the same, and another whole life for the lease. Not for a reservation, which has no end. */
  keepAlive?(own: OwnLease, value: LeaseValue): Promise<Updated>;

  /** Gives the lease back if it is still ours (a reservation too). False: it was not there, or not ours any more. */
  release?(lease: Lease): Promise<boolean>;

  /** Where a store may lose leases that it promised, the node remembers them. */
  readonly memory?: LeaseMemoryFormat;

  /** Where nodes tell each other that they live. */
  readonly liveness?: Liveness;

  /**
   * Drops the connection at once. If its local address is gone, calls would otherwise wait until their deadline. Running
   * calls are repeated over a new one.
   */
  reconnect?(): void;

  /** From memory, without asking the store. */
  health(): StoreHealth;

  /** Ends watches and connections. Leases stay. */
  close(): void;
}

/** Both ports of one cluster. Closing the leases' ends what they share. */
export interface Stores {
  readonly config: ConfigSource;
  readonly leases: ClusterStore;
}
