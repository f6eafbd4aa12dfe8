/**
 * The interfaces of the cluster's shared state: ConfigSource for the network config, ClusterStore for the leases. Each kind
 * of store has a folder of its own, such as `etcd/`; `stores/open-store.ts` opens it.
 *
 * Every call ends within the store's deadline: with a result, or with a StoreError, whose type says whether another try
 * can help. No call retries for longer than that; the caller decides how often it tries again. Several calls may run at
 * once.
 *
 * Optional members are for stores that support them. Later stores may add `claimFurther`: one more subnet beside the first.
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
  /** Different after each change; never '0', which means "there is no config". */
  readonly version: string;
}

export interface ConfigSource {
  /** The name of this kind of store: `etcd`. */
  readonly kind: string;
  /** The place of the config in it: a key, a file. */
  readonly path: string;
  /** The same in full: `etcd key "/coreos.com/network/config"`. */
  readonly place: string;
  /** People write it as a file of this host's. What is wrong with that does not concern the store of the leases. */
  readonly isFile?: true;
  /** undefined: there is no config yet. */
  read(): Promise<StoredConfig | undefined>;
  /** Calls `onWake` whenever the config may have changed, and at the start. The call has no data: read the config again. */
  watch(onWake: () => void): Closable;
  /**
   * Writes the text as it is (validate first). With `expected` (the version read before; '0' for "there is no config")
   * it writes only if nobody has written since then, else it returns false.
   */
  write?(text: string, expected?: string): Promise<boolean>;
}

/** An entry that cannot be read, and why. It is left alone. If its name contains a subnet, that counts as taken. */
export interface MalformedEntry {
  readonly ownerId: string;
  readonly reason: string;
  /** The subnets in the entry's name; absent if it contains none, or is not a lease's. */
  readonly subnets?: PerFamily<Prefix>;
}

/**
 * lost: the store has lost data, because it was restored from a backup or started empty. A missing lease may not have been
 * given back.
 */
export type Continuity = 'same' | 'lost';

export interface LeaseList {
  readonly leases: LeaseSet;
  /** The same array as in the last list, if the store knows that none of them has changed. */
  readonly malformed: readonly MalformedEntry[];
  readonly continuity: Continuity;
  /** The point in the store's history. Opaque to everybody but the store. */
  readonly mark: unknown;
}

/** Earlier knowledge of the caller of `list`. The store compares the list's continuity with it. */
export interface Known {
  /** The mark of an earlier list, perhaps of an earlier process. */
  readonly mark?: unknown;
  /** The owner of our lease, if the store has promised it for longer than until now. */
  readonly promised?: string;
}

export interface LeaseRequest {
  readonly config: NetworkConfig;
  /** The value to be written into the lease, with `node` and `version`. */
  readonly value: LeaseValue & { readonly node: string };
  /** Subnets that this node had before. The store gives them again if it can choose, and if they are free and compatible. */
  readonly previous?: PerFamily<Prefix>;
  /** The seniority of the lease of these, if the node had it until just now: a younger lease does not keep it from them. */
  readonly previousAge?: string;
  /** Subnets of older leases, by this node's own memory. Anybody can write a lease that looks like an older one of ours. */
  readonly former?: readonly PerFamily<Prefix>[];
  /** The networks that this host is connected to. A subnet that is picked anew overlaps none of them. */
  readonly hostNetworks?: readonly Prefix[];
  /**
   * The lease that this node held until somebody deleted it, a moment ago. The node gets it again unless an older lease has its
   * subnets: it adopts no other, and writes over whoever was faster.
   */
  readonly lost?: Lease;
  /** Get one more lease, even if one with our public address exists. */
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
       * Other leases of this node, by its own memory, that the config no longer allows. They are left in place: release
       * them when nothing uses them any more.
       */
      readonly superseded: readonly Lease[];
    }
  /** The store will give a lease later, by itself. It then wakes its watchers. */
  | { readonly state: 'waiting'; readonly why: string }
  /** No lease is free until somebody changes the config or gives one back. */
  | { readonly state: 'none'; readonly why: string };

/** Acquire a lease again. gone: expired or deleted. taken: another node has it. replaced: its owner was recreated. */
export type Lost =
  | { readonly state: 'lost'; readonly how: 'gone' | 'replaced' }
  | { readonly state: 'lost'; readonly how: 'taken'; readonly holder: Lease };

export type Updated = { readonly state: 'held'; readonly own: OwnLease } | Lost;

/** A node's record beside its lease. It exists while the node's daemon runs. */
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

export interface Published {
  /** The record of another live node with the name, or one that somebody has written over ours. */
  readonly conflict?: NodeRecord;
  /** Somebody has written something over our record that cannot be read. */
  readonly isForged?: boolean;
}

export interface Liveness {
  /**
   * Writes this node's record and keeps it alive. Call it every 10 s, and with every changed record: the record expires
   * 30 s after the last call. If another live node had the name first, nothing is written. If somebody writes over our record,
   * it is written back, again and again with growing pauses.
   */
  publish(record: NodeRecord): Promise<Published>;
  /** Removes the record, at a clean stop. */
  withdraw(node: string): Promise<void>;
  list(): Promise<NodeList>;
  /**
   * Those of the nodes that have a live record; none where the records may not be read. Of very many nodes only some are looked
   * up, and the others count as living.
   */
  living(nodes: readonly string[]): Promise<ReadonlySet<string>>;
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

/** The memory as text. */
export interface LeaseMemoryFormat {
  /** leftOut: how many peers there was no room for. */
  format(memory: LeaseMemory): { readonly text: string; readonly leftOut: number };
  /** undefined if the text is not a memory, or belongs to another network. */
  parse(text: string): LeaseMemory | undefined;
}

/** Addresses that people have set for this node in the store. */
export interface NodeAddresses {
  /** The public addresses that peers get, instead of the interface's or those of the command line. */
  readonly overwrites: PerFamily<Address>;
  /** They choose the interface, as --public-ip does. */
  readonly interfaces: PerFamily<Address>;
  /** Why some of them are not used. */
  readonly problems: readonly string[];
}

/** A problem of this node that a person has to mend. */
export interface NodeEvent {
  /** One word: `ExternalInterface`. */
  readonly reason: string;
  readonly message: string;
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
  /** The name of this kind of store: `etcd`. */
  readonly kind: string;
  /** The place of this network's leases in it, as on the command line: etcd's prefix. */
  readonly place: string;
  /** Distinguishes the networks of one host; undefined for the default network. */
  readonly scope: string | undefined;

  /** All leases at one time. A malformed entry does not hide the others. */
  list(known?: Known): Promise<LeaseList>;

  /**
   * Calls `onWake` whenever leases may have changed: at the start, after each change (several close together may give one
   * call), and after every loss of contact. The call has no data: list again. The watch reconnects by itself, for
   * ever, with backoff. It calls `onProblem` once per outage.
   */
  watch(onWake: () => void, onProblem?: (error: StoreError) => void): Closable;

  /**
   * Gets this node a lease: the one that it has, else the previous one, else another. If the node has a reservation, the
   * value is written into it, and it stays a reservation.
   * @throws StoreError
   */
  acquire(request: LeaseRequest): Promise<Acquired>;

  /** Whether the lease as listed is still held as `own` says; if not, it has to be updated. */
  holds(own: OwnLease, listed: Lease): boolean;

  /**
   * Writes the value if it differs and the lease is still ours. A changed address, MAC or backend is written at
   * once. A value that cannot be read, or names nobody, is overwritten.
   * @param insists the lease is ours, whatever it says: another node's value is overwritten, too
   */
  update(own: OwnLease, value: LeaseValue, insists?: boolean): Promise<Updated>;

  /**
   * For stores whose leases expire: like `update`, and renews the lease for its whole life. Not for a reservation, which
   * has no end.
   */
  keepAlive?(own: OwnLease, value: LeaseValue, insists?: boolean): Promise<Updated>;

  /** Gives the lease back if it is still ours (a reservation, too). False: it did not exist, or was not ours any more. */
  release?(lease: Lease): Promise<boolean>;

  /** For stores in which a node has one place of its own: its lease among these. Absent: by address and memory. */
  findOwn?(leases: readonly Lease[]): Lease | undefined;

  /**
   * For stores that do not choose subnets by the config: whether it allows this lease of ours. Absent: by the config's length
   * and bounds.
   */
  allows?(config: NetworkConfig, lease: Lease): boolean;

  /** For stores in which people set addresses for this node. From memory; watchers are woken when they change. */
  nodeAddresses?(): NodeAddresses;

  /** For stores that show whether this node's network stands. Call it once it does, and again while `mustAnnounce` says so. */
  announceUp?(): Promise<void>;
  readonly mustAnnounce?: boolean;

  /** For stores in which a node has an object that people look at: shows the event there. */
  event?(event: NodeEvent): Promise<void>;

  /**
   * For stores without liveness: says in one word what is wrong with this node's network, undefined if nothing is. It is written
   * when it changes, and once a minute at most: call it again and again.
   */
  tellHealth?(health: string | undefined): Promise<void>;

  /** For stores that may lose promised leases: the node remembers them. */
  readonly memory?: LeaseMemoryFormat;

  /** For stores in which nodes tell each other that they are alive. */
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

/** Both interfaces of one cluster. `leases.close()` also closes the connection that they share. */
export interface Stores {
  readonly config: ConfigSource;
  readonly leases: ClusterStore;
}
