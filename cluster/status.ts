/**
 * The documents of weftd's API, which weftctl shows. HTTP/1.1 over the unix socket `<run-dir>/weftd.sock`, JSON bodies.
 * Times are ISO 8601 in UTC, addresses and prefixes are canonical text.
 *
 * Fields may be added, but are never renamed or removed. Readers must ignore unknown fields.
 *
 *   GET  /status            → NodeStatus
 *   GET  /nodes             → ClusterNodes
 *   GET  /config            → ConfigDocument; 404 if there is none
 *   PUT  /config            body: ConfigUpdate → 200 ConfigDocument; 400 invalid; 409 strands leases, or changed meanwhile
 *   GET  /logs?after=N      → RecentLog
 *
 *   PUT  /paths             → PathSurvey: asks the peers now; one at a time
 *
 *   GET  /healthz, /readyz  → text: 200 "ok", or 503 and why not
 *   GET  /metrics           → Prometheus' text format
 *
 * Any other outcome is `ApiError` with a status ≥ 400; 503 if etcd does not answer.
 */

export interface ApiError {
  /** One line: the failed action, a colon, the cause. */
  readonly error: string;
  /** Further lines, such as the leases a change would strand. */
  readonly details?: readonly string[];
}

export interface ConfigDocument {
  /** The text in etcd. */
  readonly text: string;
  readonly modRevision: string;
}

export interface ConfigUpdate {
  readonly text: string;
  /** The modRevision that was read before; '0' for none; absent: overwrite the current config. */
  readonly expected?: string;
  /** Write it even though leases lie outside the new network. */
  readonly force?: boolean;
}

/** A line of weftd's log. */
export interface LogEntry {
  /** Counts from 1 at weftd's start. */
  readonly number: number;
  readonly time: string;
  readonly level: string;
  readonly message: string;
  readonly fields: Readonly<Record<string, string | number | boolean>>;
}

/** The last lines of weftd's log, as many as it keeps. */
export interface RecentLog {
  /** When this weftd began, and with it the numbers. */
  readonly startedAt: string;
  /** Those after the requested number, oldest first. */
  readonly entries: readonly LogEntry[];
}

export interface EtcdStatus {
  /** The kind of the store: `etcd` or `Kubernetes`. */
  readonly kind?: string;
  readonly endpoints: readonly string[];
  readonly prefix: string;
  readonly connected: boolean;
  readonly lastContact?: string;
  readonly error?: string;
  /** Whether the watch reports changes as they happen. */
  readonly watching: boolean;
  /** Since the start: requests that etcd answered, and those that failed or were refused. */
  readonly requests: number;
  readonly errors: number;
  /** Of its last 64 answers; absent before the first. */
  readonly medianMs?: number;
  readonly worstMs?: number;
  /** How often the watch ended, and how often everything had to be listed again because it could not continue. */
  readonly watchLosses: number;
  readonly watchResyncs: number;
}

/** weftd's changes in the kernel since its start, by cause. */
export interface ChangesStatus {
  /** Changes that followed the cluster, the configuration or this host's own interface. */
  readonly programmed: number;
  /** Changes that undid somebody else's. */
  readonly healed: number;
  readonly healedLastHour: number;
  /** By kind: device, address, neighbour, fdb, route, rules, sysctl; without zeros. */
  readonly healedByKind: Readonly<Record<string, number>>;
  readonly lastHeal?: { readonly what: string; readonly at: string };
  /** Changes that the kernel refused; weftd retries them. */
  readonly failed: number;
  /** How long the last change took from etcd to the kernel; absent before the first. */
  readonly lastChangeMs?: number;
}

/** Addresses of a subnet of this node, by the plugins' reservations. */
export interface AddressStatus {
  readonly subnet: string;
  readonly used: number;
  readonly free: number;
}

export interface PeerStatus {
  /** The node's name; absent for a flannel node. */
  readonly node?: string;
  readonly version?: string;
  readonly subnets: readonly string[];
  readonly publicAddresses: readonly string[];
  readonly backend: string;
  /** By its liveness record; absent if it publishes none (flannel) or the records are unknown. */
  readonly alive?: boolean;
  /** By the same record: `ok`, or what is wrong there. */
  readonly health?: string;
  /** Whether the kernel has all entries for it. */
  readonly programmed: boolean;
  /** How packets travel: tunnel or plain route. */
  /** `direct`, `none`, or the backend's name if its tunnel leads there. */
  readonly path: string;
  /** Why it is not programmed. */
  readonly problem?: string;
}

/** A peer that does not answer echo requests through the network. */
export interface SilentPeer {
  /** Absent for a flannel node. */
  readonly node?: string;
  readonly subnet: string;
  /** The address that was asked. */
  readonly address: string;
  /** When it missed the first request. */
  readonly since: string;
}

/** Whether packets reach the peers: each is asked by an echo request about once a minute. */
export interface PathsStatus {
  /** Peers asked in the last whole round; 0 before the first. */
  readonly asked: number;
  /** Of these, peers that missed at least two requests in a row. */
  readonly silent: number;
  /** Some twenty of them. */
  readonly list: readonly SilentPeer[];
  /** Why this host cannot ask. */
  readonly unavailable?: string;
}

/** What a peer answered. */
export interface SurveyedPeer {
  readonly node?: string;
  readonly subnet: string;
  /** The address that was asked. */
  readonly address: string;
  readonly publicAddress?: string;
  /** By the tunnel, or to the peer's public address where it has no address in a tunnel. */
  readonly through: 'tunnel' | 'network';
  readonly answers: boolean;
  /** Whether it answered a packet as large as containers send. */
  readonly answersLarge: boolean;
  /** The largest packet that was answered, if not those; bytes with the IP header. */
  readonly largestBytes?: number;
  /** Whether its public address answers; absent where that was not asked. */
  readonly hostAnswers?: boolean;
  /** Its answers come in by another interface than the tunnel. */
  readonly returnsElsewhere?: boolean;
}

export interface PathSurvey {
  readonly peers: readonly SurveyedPeer[];
  /** The size of the large packets: the MTU of containers. */
  readonly mtuBytes: number;
  /** Peers that were not asked, because there are many. */
  readonly left: number;
  readonly unavailable?: string;
}

/** A current problem, by its code in daemon/report/problem-catalogue.ts. */
export interface FindingStatus {
  readonly code: string;
  readonly severity: 'warning' | 'error';
  /** The peer, the device or the file; empty if there is one only. */
  readonly subject: string;
  readonly message: string;
  readonly since: string;
}

export interface NodeStatus {
  readonly node: string;
  readonly version: string;
  readonly pid: number;
  readonly startedAt: string;
  /** starting: not yet programmed once. running. degraded: see problems; packets may still flow. */
  readonly state: 'starting' | 'running' | 'degraded' | 'stopping';
  /** The answer of `/healthz`: absent if weftd's loop is alive, else the part that hangs. */
  readonly stuck?: string;
  /** Current problems, one line each. */
  readonly problems: readonly string[];
  /** The same and the peers' problems, for programs. Absent from older versions. */
  readonly findings?: readonly FindingStatus[];
  readonly networks: readonly string[];
  readonly subnets: readonly string[];
  readonly publicAddresses: readonly string[];
  readonly backend: string;
  /** The external interface. */
  readonly interface?: string;
  /** The devices weftd made: `flannel.1`, …; none for host-gw. */
  readonly devices: readonly string[];
  /** MTU of containers. */
  readonly mtuBytes?: number;
  readonly ipMasq: boolean;
  /** Packets from hosts that are no peers or with a forged source, since the packet filter's table was made. */
  readonly peerLock: {
    readonly enabled: boolean;
    readonly droppedPackets: number;
    readonly droppedBytes: number;
    /** The senders of the last minutes, at most some twenty; those of most packets first. Absent from older versions. */
    readonly from?: readonly { readonly address: string; readonly packets: number }[];
  };
  /** Whether connection tracking sees the tunnel's packets. Absent from older versions. */
  readonly tracking?: {
    readonly tunnelIsTracked: boolean;
    /** Places in other programs' tables whose rules go by the state of connections. */
    readonly because: readonly string[];
  };
  readonly lease?: {
    readonly key: string;
    readonly reservation: boolean;
    /** Absent for a reservation. */
    readonly expiresAt?: string;
    /** Time since it was claimed, taken over or renewed. */
    readonly ageSeconds?: number;
    /** Since the start. */
    readonly renewals: number;
    readonly losses: number;
  };
  /** The store of the cluster, of whatever kind. */
  readonly etcd: EtcdStatus;
  readonly changes: ChangesStatus;
  readonly addresses: readonly AddressStatus[];
  readonly peers: readonly PeerStatus[];
  /** Absent from older versions, and where weftd does not ask. */
  readonly paths?: PathsStatus;
}

export interface NodeSummary {
  /** Absent for a flannel node. */
  readonly node?: string;
  readonly version?: string;
  readonly subnets: readonly string[];
  readonly publicAddresses: readonly string[];
  readonly backend: string;
  readonly reservation: boolean;
  /** By its liveness record; absent for a flannel node, which publishes none. */
  readonly alive?: boolean;
  readonly startedAt?: string;
  readonly health?: string;
  readonly containers?: number;
}

export interface ClusterNodes {
  readonly nodes: readonly NodeSummary[];
  /** Unreadable entries in etcd: `key: reason`. */
  readonly malformed: readonly string[];
}
