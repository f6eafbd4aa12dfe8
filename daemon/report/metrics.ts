/** weftd's counts and measurements, by their names in Prometheus. Other rooms call the narrow methods. */

import type { NodeStatus } from '../../cluster/status.ts';
import type { StoreObserver } from '../../cluster/store-observer.ts';
import { type Counter, type Gauge, type Histogram, Registry } from './exposition.ts';

/** Parts of the data path that weftd changes and heals. */
export const changeKinds = ['device', 'address', 'neighbour', 'fdb', 'route', 'rules', 'sysctl'] as const;
export type ChangeKind = (typeof changeKinds)[number];

export const claimWays = ['kept', 'previous', 'new'] as const;

/** Figures that are collected on request, not counted. undefined: unknown. */
export interface Figures {
  readonly node: string;
  readonly backend: string;
  readonly interface: string | undefined;
  readonly ready: boolean;
  readonly problems: number;
  readonly containers: number | undefined;
  readonly mtuBytes: number | undefined;
  readonly peers: {
    readonly total: number;
    readonly programmed: number;
    readonly withProblem: number;
  };
  /** Peers that do not answer through the network. */
  readonly peersSilent: number | undefined;
  /** Nodes that reported lately, this one included. */
  readonly nodesAlive: number | undefined;
  /** Seconds; undefined for a reservation, or before there is a lease. */
  readonly leaseTtlSeconds: number | undefined;
  readonly storeConnected: boolean;
  /** Seconds since the epoch. */
  readonly storeLastContactSeconds: number | undefined;
  /** By subnet. */
  readonly addresses: readonly { readonly subnet: string; readonly used: number; readonly free: number }[];
  readonly peerLock: NodeStatus['peerLock'];
  readonly process: ProcessFigures | undefined;
}

/** proc_pid_stat(5), in base units. */
export interface ProcessFigures {
  readonly cpuSeconds: number;
  readonly residentBytes: number;
  readonly virtualBytes: number;
  /** Since the epoch. */
  readonly startSeconds: number;
  readonly openDescriptors: number | undefined;
  readonly maxDescriptors: number | undefined;
}

const storeBounds = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5];
const kernelBounds = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5];

/** The number of the store's answers in the status's figures. */
const latenciesKept = 64;

export interface MetricsOptions {
  readonly version: string;
  /** Of the runtime. */
  readonly runtime: string;
  /** Milliseconds on a clock that does not go back. */
  readonly monotonic: () => number;
}

export class Metrics implements StoreObserver {
  readonly #registry = new Registry();
  readonly #monotonic: () => number;
  readonly #gauges: ReturnType<typeof gaugesOf>;
  readonly #programmedTotal: Counter;
  readonly #failedTotal: Counter;
  readonly #healedTotal: Counter;
  readonly #healSeconds: Histogram;
  readonly #followSeconds: Histogram;
  readonly #reconcileSeconds: Histogram;
  readonly #storeSeconds: Histogram;
  readonly #storeErrors: Counter;
  readonly #storeConnections: Counter;
  readonly #watchLosses: Counter;
  readonly #watchResyncs: Counter;
  readonly #watchEvents: Counter;
  readonly #claims: Counter;
  readonly #renewals: Counter;
  readonly #losses: Counter;
  readonly #peerLockPackets: Counter;
  readonly #peerLockBytes: Counter;
  readonly #cpuSeconds: Counter;
  #storeFailures = 0;
  #watching = false;
  #leaseSinceMs: number | undefined;
  /** The store's last answers, the newest last. */
  readonly #latencies: number[] = [];

  constructor({ version, runtime, monotonic }: MetricsOptions) {
    this.#monotonic = monotonic;
    const registry = this.#registry;
    const byKind = changeKinds.map((kind) => [kind]);
    registry
      .gauge({ name: 'weftd_build_info', help: 'Always 1.', labels: ['version', 'runtime'] })
      .set(1, version, runtime);
    this.#programmedTotal = registry.counter(
      {
        name: 'weftd_programmed_total',
        help: 'Changes made in the kernel because the cluster, or this host, wanted another state.',
        labels: ['kind'],
      },
      byKind,
    );
    this.#healedTotal = registry.counter(
      {
        name: 'weftd_healed_total',
        help: 'Changes made in the kernel because somebody else had changed or removed what weftd had set.',
        labels: ['kind'],
      },
      byKind,
    );
    this.#failedTotal = registry.counter(
      { name: 'weftd_failed_total', help: 'Changes that the kernel refused; they are tried again.', labels: ['kind'] },
      byKind,
    );
    this.#healSeconds = registry.histogram(
      { name: 'weftd_heal_seconds', help: "Time from the kernel's event of a foreign change to its repair." },
      kernelBounds,
    );
    this.#followSeconds = registry.histogram(
      { name: 'weftd_etcd_to_kernel_seconds', help: "Time from etcd's event of a change to its being in the kernel." },
      kernelBounds,
    );
    this.#reconcileSeconds = registry.histogram(
      { name: 'weftd_reconcile_seconds', help: 'Duration of a full comparison of the data path, changes included.' },
      kernelBounds,
    );
    this.#storeSeconds = registry.histogram(
      { name: 'weftd_etcd_request_seconds', help: "Duration of etcd's answers, by operation.", labels: ['operation'] },
      storeBounds,
    );
    this.#storeErrors = registry.counter({
      name: 'weftd_etcd_request_errors_total',
      help: 'Requests to etcd without success: timeout, unavailable, denied, refused.',
      labels: ['operation', 'outcome'],
    });
    this.#storeConnections = registry.counter({
      name: 'weftd_etcd_connections_total',
      help: 'Connections made to etcd; all but the first are reconnections.',
    });
    this.#watchLosses = registry.counter({
      name: 'weftd_etcd_watch_losses_total',
      help: 'Times that the watch ended; the next one continues where it was.',
    });
    this.#watchResyncs = registry.counter({
      name: 'weftd_etcd_watch_resyncs_total',
      help: 'Times that everything was listed again because the watch could not continue.',
    });
    this.#watchEvents = registry.counter({
      name: 'weftd_etcd_watch_events_total',
      help: 'Key changes that the watch reported.',
    });
    this.#claims = registry.counter(
      { name: 'weftd_lease_claims_total', help: 'Subnet leases claimed: kept, previous or new.', labels: ['how'] },
      claimWays.map((how) => [how]),
    );
    this.#renewals = registry.counter({ name: 'weftd_lease_renewals_total', help: 'Renewals of the subnet lease.' });
    this.#losses = registry.counter({
      name: 'weftd_lease_lost_total',
      help: 'Times that the subnet lease was gone from etcd or taken by another.',
    });
    this.#peerLockPackets = registry.counter(
      {
        name: 'weftd_peer_lock_dropped_packets_total',
        help: 'Packets that the peer lock dropped: from hosts that are no peers, or with a forged source.',
      },
      [],
    );
    this.#peerLockBytes = registry.counter(
      { name: 'weftd_peer_lock_dropped_bytes_total', help: 'Bytes of the packets dropped by the peer lock.' },
      [],
    );
    this.#gauges = gaugesOf(registry);
    this.#cpuSeconds = registry.counter(
      { name: 'process_cpu_seconds_total', help: 'User and system time of the process.' },
      [],
    );
  }

  /** weftd followed a change of the cluster or of this host's own settings. */
  programmed(kind: ChangeKind, count = 1): void {
    this.#programmedTotal.add(count, kind);
  }

  /** weftd undid a change by somebody else. */
  healed(kind: ChangeKind, count = 1): void {
    this.#healedTotal.add(count, kind);
  }

  failed(kind: ChangeKind, count = 1): void {
    this.#failedTotal.add(count, kind);
  }

  /** A repair took this long after the kernel's event. */
  healTook(seconds: number): void {
    this.#healSeconds.observe(seconds);
  }

  /** A change in the store is in the kernel. */
  followTook(seconds: number): void {
    this.#followSeconds.observe(seconds);
  }

  reconcileTook(seconds: number): void {
    this.#reconcileSeconds.observe(seconds);
  }

  storeRequest(operation: string, seconds: number, outcome: string): void {
    if (outcome !== 'ok') {
      this.#storeErrors.add(1, operation, outcome);
      this.#storeFailures++;
      return;
    }
    this.#storeSeconds.observe(seconds, operation);
    this.#latencies.push(seconds);
    if (this.#latencies.length > latenciesKept) this.#latencies.shift();
  }

  storeConnection(): void {
    this.#storeConnections.add(1);
  }

  watchStarted(): void {
    this.#watching = true;
  }

  watchLost(): void {
    this.#watching = false;
    this.#watchLosses.add(1);
  }

  watchResync(): void {
    this.#watchResyncs.add(1);
  }

  watchEvent(count: number): void {
    this.#watchEvents.add(count);
  }

  leaseClaimed(how: (typeof claimWays)[number]): void {
    this.#claims.add(1, how);
    this.#leaseSinceMs = this.#monotonic();
  }

  leaseRenewed(): void {
    this.#renewals.add(1);
    this.#leaseSinceMs = this.#monotonic();
  }

  leaseLost(): void {
    this.#losses.add(1);
  }

  /** Seconds since the lease was last claimed or renewed. */
  get leaseAgeSeconds(): number | undefined {
    return this.#leaseSinceMs === undefined ? undefined : (this.#monotonic() - this.#leaseSinceMs) / 1000;
  }

  /** Counts so far, for the status. */
  get summary() {
    const total = (counter: Counter): number => changeKinds.reduce((sum, kind) => sum + counter.value(kind), 0);
    const healed = changeKinds.map((kind) => [kind, this.#healedTotal.value(kind)] as const);
    const sorted = [...this.#latencies].sort((a, b) => a - b);
    const ms = (seconds: number | undefined): number | undefined =>
      seconds === undefined ? undefined : Math.round(seconds * 10_000) / 10;
    return {
      programmed: total(this.#programmedTotal),
      failed: total(this.#failedTotal),
      healed: Object.fromEntries(healed.filter(([, count]) => count > 0)),
      leaseRenewals: this.#renewals.value(),
      leaseLosses: this.#losses.value(),
      storeRequests: this.#storeSeconds.count,
      storeErrors: this.#storeFailures,
      storeMedianMs: ms(sorted[Math.floor(sorted.length / 2)]),
      storeWorstMs: ms(sorted.at(-1)),
      watchLosses: this.#watchLosses.value(),
      watchResyncs: this.#watchResyncs.value(),
      watching: this.#watching,
    };
  }

  get descriptions() {
    return this.#registry.descriptions;
  }

  /** The text for Prometheus. @param figures current ones; without them the gauges are left out */
  format(figures?: Figures): string {
    if (figures) this.#setGauges(figures);
    return this.#registry.format();
  }

  #setGauges(figures: Figures): void {
    const gauges = this.#gauges;
    for (const gauge of Object.values(gauges)) gauge.clear();
    gauges.nodeInfo.set(1, figures.node, figures.backend, figures.interface ?? '');
    gauges.ready.set(figures.ready ? 1 : 0);
    gauges.problems.set(figures.problems);
    gauges.containers.set(figures.containers);
    gauges.mtu.set(figures.mtuBytes);
    gauges.peers.set(figures.peers.total);
    gauges.peersProgrammed.set(figures.peers.programmed);
    gauges.peersWithProblem.set(figures.peers.withProblem);
    gauges.peersSilent.set(figures.peersSilent);
    gauges.nodesAlive.set(figures.nodesAlive);
    gauges.leaseAge.set(this.leaseAgeSeconds);
    gauges.leaseTtl.set(figures.leaseTtlSeconds);
    gauges.storeUp.set(figures.storeConnected ? 1 : 0);
    gauges.storeLastContact.set(figures.storeLastContactSeconds);
    gauges.watchUp.set(this.#watching ? 1 : 0);
    for (const { subnet, used, free } of figures.addresses) {
      gauges.addressesUsed.set(used, subnet);
      gauges.addressesFree.set(free, subnet);
    }
    const { peerLock, process } = figures;
    if (peerLock.enabled) {
      this.#peerLockPackets.raiseTo(peerLock.droppedPackets);
      this.#peerLockBytes.raiseTo(peerLock.droppedBytes);
    }
    if (!process) return;
    this.#cpuSeconds.raiseTo(process.cpuSeconds);
    gauges.resident.set(process.residentBytes);
    gauges.virtual.set(process.virtualBytes);
    gauges.start.set(process.startSeconds);
    gauges.openDescriptors.set(process.openDescriptors);
    gauges.maxDescriptors.set(process.maxDescriptors);
  }
}

const gaugesOf = (registry: Registry) => {
  const gauge = (name: string, help: string, ...labels: string[]): Gauge => registry.gauge({ name, help, labels });
  return {
    nodeInfo: gauge('weftd_node_info', 'Always 1.', 'node', 'backend', 'interface'),
    ready: gauge('weftd_ready', 'Whether containers could reach the others at any time since the start.'),
    problems: gauge('weftd_problems', 'Number of current problems, without peers; weftctl status lists them.'),
    containers: gauge('weftd_containers', "Containers' interfaces on this host."),
    mtu: gauge('weftd_mtu_bytes', "MTU of containers' interfaces."),
    peers: gauge('weftd_peers', 'Other nodes with a subnet.'),
    peersProgrammed: gauge('weftd_peers_programmed', 'Peers with complete entries in the kernel.'),
    peersWithProblem: gauge('weftd_peers_with_problem', 'Peers with a problem.'),
    peersSilent: gauge('weftd_peers_silent', 'Peers that missed two echo requests in a row, about a minute apart.'),
    nodesAlive: gauge('weftd_nodes_alive', 'Nodes whose weftd reported in the last 30 s; flanneld never reports.'),
    leaseAge: gauge('weftd_lease_age_seconds', 'Time since the subnet lease was claimed or renewed.'),
    leaseTtl: gauge('weftd_lease_ttl_seconds', 'Time until the subnet lease expires if it is not renewed.'),
    storeUp: gauge('weftd_etcd_up', 'Whether etcd answered the last request.'),
    storeLastContact: gauge('weftd_etcd_last_contact_timestamp_seconds', "Time of etcd's last answer."),
    watchUp: gauge('weftd_etcd_watch_up', 'Whether the watch is running.'),
    addressesUsed: gauge('weftd_addresses_used', 'Addresses that containers hold in the subnet.', 'subnet'),
    addressesFree: gauge('weftd_addresses_free', 'Free addresses for containers in the subnet.', 'subnet'),
    resident: gauge('process_resident_memory_bytes', 'Memory of the process.'),
    virtual: gauge('process_virtual_memory_bytes', 'Address space of the process.'),
    start: gauge('process_start_time_seconds', 'When the process started, since the epoch.'),
    openDescriptors: gauge('process_open_fds', 'Open file descriptors.'),
    maxDescriptors: gauge('process_max_fds', 'Maximum number of open file descriptors.'),
  };
};
