/**
 * weftd's loop: what wakes it, and what it does then.
 *
 * Two pieces of work, each by itself and one run at a time: `syncCluster` talks to etcd and may take as long as etcd
 * does; `reconcile` mends the kernel and takes milliseconds. The first wakes the second; etcd's troubles never hold up
 * the repair of the data path.
 */

import { compareLeases, type Lease } from '../cluster/lease.ts';
import { families, valuesOf } from '../cluster/network-config.ts';
import type { NodeStatus } from '../cluster/status.ts';
import type { ClusterStore } from '../cluster/store.ts';
import { NoFreeSubnetError, StoreError, StoreRefusedError } from '../cluster/store-errors.ts';
import { formatAddress } from '../net/address.ts';
import { formatPrefix, type Prefix } from '../net/prefix.ts';
import type { AddressUse } from './answers/addresses.ts';
import { type HealthLimits, healthLimits, stuckActivity } from './answers/health.ts';
import type { FilterUpkeep } from './filter/upkeep.ts';
import { InterfaceError } from './host/external-interface.ts';
import type { Membership } from './membership/membership.ts';
import { type ClusterView, formatAddresses } from './membership/view.ts';
import type { DataPath } from './overlay/data-path.ts';
import { Budget } from './pace/budget.ts';
import { spreadMs } from './pace/spread.ts';
import { Backoff, Wakeup } from './pace/wakeup.ts';
import type { Logger } from './report/log.ts';
import type { Figures, Metrics, ProcessFigures } from './report/metrics.ts';
import type { Problems } from './report/problems.ts';

export interface LoopOptions {
  readonly store: ClusterStore;
  readonly membership: Membership;
  readonly dataPath: DataPath;
  readonly filter: Pick<FilterUpkeep, 'ensure' | 'peerLock'>;
  readonly logger: Logger;
  readonly problems: Problems;
  readonly metrics: Metrics;
  readonly node: string;
  readonly version: string;
  readonly pid: number;
  readonly ipMasq: boolean;
  /** Milliseconds since the epoch. */
  readonly now: () => number;
  /** Milliseconds on a clock that does not go back. */
  readonly monotonic: () => number;
  /** Milliseconds of the processor's time that this thread has had. */
  readonly threadTime: () => number;
  readonly random: () => number;
  /** Whether there is a data path already, of this or an earlier weftd. */
  readonly isSetUp: () => boolean;
  /** Containers attached on this host, where it can be told. */
  readonly countContainers: () => number | undefined;
  /** How many addresses of the subnets are in use. */
  readonly countAddresses: (subnets: readonly Prefix[]) => readonly AddressUse[];
  readonly readProcess: () => ProcessFigures | undefined;
  /** Something may have become otherwise than the status said last. */
  readonly onChange?: () => void;
  readonly intervals?: Partial<Intervals>;
  readonly healthLimits?: HealthLimits;
}

export interface Intervals {
  /** Of looking at etcd and at the kernel although nothing was heard of. */
  readonly resyncMs: number;
  /** Of telling the cluster that this node is alive. */
  readonly publishMs: number;
  /** First and last pause after a failure. */
  readonly retryFirstMs: number;
  readonly retryLastMs: number;
}

const defaultIntervals: Intervals = { resyncMs: 60_000, publishMs: 10_000, retryFirstMs: 500, retryLastMs: 15_000 };

/** Changes come in bursts; the first is acted on at once, the rest together. */
const syncPauseMs = 5;
const reconcilePauseMs = 20;
/** Comparing everything takes no more than a tenth of a processor's time, unless that would keep a repair waiting for too long. */
const reconcileShare = 0.1;
/** As long as that it may take at once: what somebody breaks is seldom one thing alone. */
const reconcileBurstMs = 100;
const longestReconcilePauseMs = 600;
/** Peers that were followed one by one are compared as a whole when no more have come for so long. */
const verifyPauseMs = 2000;
const rulesPauseMs = 20;

/** Kinds of problems that are not this node's: it is well all the same. */
const othersProblems = ['peer', 'lease'];

/** How long a stop waits for etcd, and how long a question of weftctl's does. */
const withdrawTimeoutMs = 250;
const statusTimeoutMs = 500;

const pause = (ms: number): Promise<undefined> => new Promise((resolve) => setTimeout(() => resolve(undefined), ms));

export class Loop {
  private readonly options: LoopOptions;
  private readonly intervals: Intervals;
  private readonly startedAtMs: number;
  private readonly syncWakeup: Wakeup;
  private readonly reconcileWakeup: Wakeup;
  private readonly rulesWakeup: Wakeup;
  private readonly publishWakeup: Wakeup;
  private readonly syncBackoff: Backoff;
  private readonly reconcileBackoff: Backoff;
  private watch: { close(): void } | undefined;
  private ready = false;
  /** The data path was looked at as a whole. */
  private hasCompared = false;
  private stopping = false;
  private inSync = false;
  /** When the first change in etcd was heard of that is not yet in the view, and that is there but not yet in the kernel. */
  private heardAtMs: number | undefined;
  private viewedAtMs: number | undefined;
  /** When the kernel told of changes that were not looked at yet: of the network, and of the packet filter. */
  private kernelHeardMs: number | undefined;
  private rulesHeardMs: number | undefined;
  /** Nodes that were alive when somebody asked last. Nobody else needs it: all nodes' records for every node are too much. */
  private alive: ReadonlySet<string> | undefined;
  /** Whether this node's record is in etcd, as far as we know. */
  private isPublished = false;
  /** The telling that is under way. */
  private publishing: Promise<void> | undefined;
  private lastChangeMs: number | undefined;
  private verifyTimer: ReturnType<typeof setTimeout> | undefined;
  /** How long the last comparison of everything took. */
  private reconcileTookMs = 0;
  private reconcileStartMs = Number.NEGATIVE_INFINITY;
  private readonly reconcileBudget: Budget;
  /** In a row, while etcd answered otherwise. */
  private publishFailures = 0;
  private readonly readyWaiters: (() => void)[] = [];

  constructor(options: LoopOptions) {
    this.options = options;
    this.intervals = { ...defaultIntervals, ...options.intervals };
    this.startedAtMs = options.now();
    const { retryFirstMs, retryLastMs } = this.intervals;
    this.syncBackoff = new Backoff(retryFirstMs, retryLastMs, options.random);
    this.reconcileBackoff = new Backoff(retryFirstMs, retryLastMs, options.random);
    const wakeup = (minimumIntervalMs: number | (() => number), work: () => Promise<void> | void): Wakeup =>
      new Wakeup({
        minimumIntervalMs,
        now: options.monotonic,
        async work() {
          await work();
          options.onChange?.();
        },
      });
    this.syncWakeup = wakeup(syncPauseMs, () => this.syncCluster());
    this.reconcileBudget = new Budget(reconcileBurstMs, reconcileShare, options.monotonic);
    this.reconcileWakeup = wakeup(
      () => {
        // The interval counts from the last run, which may have been before there was anything to compare.
        if (this.reconcileBudget.waitMs === 0) return reconcilePauseMs;
        const sinceMs = options.monotonic() - this.reconcileStartMs;
        return Math.min(longestReconcilePauseMs, Math.max(reconcilePauseMs, sinceMs + this.reconcileBudget.waitMs));
      },
      () => this.reconcile(),
    );
    this.rulesWakeup = wakeup(rulesPauseMs, () => this.reconcileRules());
    this.publishWakeup = wakeup(1000, () => {
      this.publishing = this.publish().finally(() => {
        this.publishing = undefined;
      });
      return this.publishing;
    });
  }

  start(): void {
    this.syncWakeup.wake();
    this.publishWakeup.wake(this.intervals.publishMs);
    this.watch = this.options.store.watch(
      () => this.wakeCluster(),
      (error) => this.noteSyncFailure(error),
    );
  }

  /** Something in etcd may have changed. */
  wakeCluster(): void {
    this.heardAtMs ??= this.options.monotonic();
    this.syncWakeup.wake();
  }

  /** Something in the kernel may have changed. */
  wakeKernel(): void {
    this.kernelHeardMs ??= this.options.monotonic();
    this.reconcileWakeup.wake();
    // Before there is a view, the host itself may be what is waited for: an interface, an address, a route.
    if (!this.options.membership.view && this.options.problems.has('external interface')) this.syncWakeup.wake();
  }

  /** The packet filter may have changed. */
  wakeRules(): void {
    this.rulesHeardMs ??= this.options.monotonic();
    this.rulesWakeup.wake();
  }

  /** Looks at everything again. */
  wakeAll(): void {
    this.wakeCluster();
    this.reconcileWakeup.wake();
  }

  /** Resolves once the data path is there for the first time. */
  whenReady(): Promise<void> {
    return this.ready ? Promise.resolve() : new Promise((resolve) => this.readyWaiters.push(resolve));
  }

  /** Ends at once; what is under way in etcd is hardly waited for. The data path and the lease stay. */
  async stop(): Promise<void> {
    this.stopping = true;
    clearTimeout(this.verifyTimer);
    for (const wakeup of [this.syncWakeup, this.reconcileWakeup, this.rulesWakeup, this.publishWakeup]) wakeup.close();
    this.watch?.close();
    this.options.membership.remember(true);
    // So that nobody has to wait for the record to expire to see that this node is down.
    if (!this.inSync) return;
    const { publishing } = this;
    // What is being written now would be there after the withdrawal. Where it takes too long, the withdrawal ends the
    // etcd lease that it would be written with.
    if (publishing) await Promise.race([publishing.catch(() => {}), pause(withdrawTimeoutMs)]);
    if (!this.isPublished && !this.publishing) return;
    const withdrawn = this.options.store.withdrawNode(this.options.node).catch(() => {});
    await Promise.race([withdrawn, pause(withdrawTimeoutMs)]);
  }

  private async syncCluster(): Promise<void> {
    const { membership, problems } = this.options;
    const heardAtMs = this.heardAtMs;
    this.heardAtMs = undefined;
    try {
      const before = membership.view;
      const view = await membership.sync();
      if (this.stopping) return;
      const wasInSync = this.inSync;
      this.inSync = true;
      for (const subject of ['etcd', 'subnet lease', 'cluster']) problems.report(subject, undefined);
      problems.report('external interface', this.options.dataPath.interfaceProblem, 'debug');
      this.syncBackoff.reset();
      this.syncWakeup.wake(Math.min(this.intervals.resyncMs, membership.renewalDelayMs, membership.memoryDelayMs));
      if (view) {
        this.viewedAtMs ??= heardAtMs;
        if (!this.follow(view)) this.reconcileWakeup.wake();
        // After an outage the record may have lapsed.
        if (!before || !wasInSync) this.publishWakeup.wake(spreadMs(view.peers.length, this.options.random));
      }
    } catch (error) {
      if (this.stopping) return;
      this.inSync = false;
      this.noteSyncFailure(error as Error);
      this.syncWakeup.wake(this.syncBackoff.next());
    }
  }

  private noteSyncFailure(error: Error): void {
    const { problems, logger } = this.options;
    const subject =
      error instanceof StoreError
        ? 'etcd'
        : error instanceof InterfaceError
          ? 'external interface'
          : error instanceof NoFreeSubnetError
            ? 'subnet lease'
            : undefined;
    if (subject === undefined && !problems.has('cluster'))
      logger.debug('Cannot follow the cluster', { stack: error.stack });
    const stays = this.options.isSetUp() ? '; what is set up stays as it is' : '';
    // What a person has to put right is told when it changes; etcd's own troubles change their words too often.
    const changes = error instanceof StoreRefusedError ? 'warn' : 'debug';
    problems.report(subject ?? 'cluster', `${error.message}; trying again${stays}`, changes);
  }

  /** @returns false where everything has to be compared */
  private follow(view: ClusterView): boolean {
    const { dataPath, logger } = this.options;
    try {
      const result = dataPath.follow(view);
      if (!result) return false;
      this.noteFollowed(result.changes);
      if (result.changes > 0) {
        clearTimeout(this.verifyTimer);
        this.verifyTimer = setTimeout(() => this.reconcileWakeup.wake(), verifyPauseMs);
      }
      // Nothing may have been changed because all of it failed.
      this.reconcileWakeup.wake(Math.min(this.intervals.resyncMs, result.retryDelayMs));
      this.rulesWakeup.wake(Math.min(this.intervals.resyncMs, result.rulesAgainMs));
      return true;
    } catch (error) {
      // The whole comparison meets it again, and tells.
      logger.debug('Cannot follow the peers one by one', { stack: (error as Error).stack });
      return false;
    }
  }

  /** What etcd told is in the kernel. */
  private noteFollowed(changes: number): void {
    const { metrics, logger, monotonic } = this.options;
    if (this.viewedAtMs === undefined) return;
    const tookMs = Math.round((monotonic() - this.viewedAtMs) * 10) / 10;
    this.viewedAtMs = undefined;
    if (changes === 0) return;
    this.lastChangeMs = tookMs;
    metrics.followTook(tookMs / 1000);
    logger.debug('change in etcd programmed', { tookMs, changes });
  }

  private reconcile(): void {
    const { store, membership, dataPath, problems, logger, metrics, monotonic, threadTime } = this.options;
    const { view } = membership;
    const heardMs = this.kernelHeardMs;
    this.kernelHeardMs = undefined;
    if (!view) return;
    const healedBefore = dataPath.healedTotal;
    try {
      this.reconcileStartMs = monotonic();
      const threadStartMs = threadTime();
      const result = dataPath.reconcile(view);
      this.hasCompared = true;
      this.reconcileTookMs = monotonic() - this.reconcileStartMs;
      this.reconcileBudget.spend(threadTime() - threadStartMs);
      metrics.reconcileTook(this.reconcileTookMs / 1000);
      this.noteHealing(healedBefore, heardMs);
      problems.report('external interface', dataPath.interfaceProblem, 'debug');
      problems.report('kernel', undefined);
      this.reconcileBackoff.reset();
      this.reconcileWakeup.wake(Math.min(this.intervals.resyncMs, result.retryDelayMs));
      this.rulesWakeup.wake(Math.min(this.intervals.resyncMs, result.rulesAgainMs));
      // Answers would go to the old address: nothing but the deadline would end the wait for them.
      if (result.addressChanged) store.reconnect();
      if (result.identityChanged) this.syncWakeup.wake();
      this.noteFollowed(result.changes);
      if (!this.ready && result.complete) this.becomeReady(view.peers);
    } catch (error) {
      const { name, message, stack } = error as Error;
      const subject = name === 'InterfaceError' ? 'external interface' : 'kernel';
      if (subject === 'kernel' && !problems.has(subject)) logger.debug('Cannot mend the data path', { stack });
      problems.report(subject, `${message}; trying again`, 'debug');
      this.reconcileWakeup.wake(this.reconcileBackoff.next());
    }
  }

  private becomeReady(peers: readonly Lease[]): void {
    this.ready = true;
    this.rulesWakeup.wake();
    this.options.logger.info('ready', { peers: peers.length });
    for (const waiter of this.readyWaiters.splice(0)) waiter();
  }

  private reconcileRules(): void {
    const { membership, dataPath, filter } = this.options;
    const heardMs = this.rulesHeardMs;
    this.rulesHeardMs = undefined;
    // Ready or not: what is set up already, perhaps by an earlier weftd, is looked after.
    if (!membership.view || !this.hasCompared) return;
    const healedBefore = dataPath.healedTotal;
    const { againMs } = filter.ensure(membership.view);
    this.rulesWakeup.wake(Math.min(this.intervals.resyncMs, againMs));
    this.noteHealing(healedBefore, heardMs);
  }

  /** @param heardMs when the kernel told of it; undefined where it did not */
  private noteHealing(healedBefore: number, heardMs: number | undefined): void {
    const { dataPath, metrics, monotonic } = this.options;
    if (heardMs !== undefined && dataPath.healedTotal > healedBefore) metrics.healTook((monotonic() - heardMs) / 1000);
  }

  private async publish(): Promise<void> {
    const { store, membership, node, version, problems } = this.options;
    // A tenth sooner by chance, so that nodes started together do not go on telling together.
    this.publishWakeup.wake(this.intervals.publishMs * (1 - this.options.random() / 10));
    const { view } = membership;
    // While etcd is away there is nothing to be told, and the listing tells when it is back.
    if (!view || !this.inSync) return;
    const containers = this.options.countContainers();
    try {
      const { conflict } = await store.publishNode({
        node,
        version,
        publicAddresses: view.own.publicAddresses,
        backendType: view.backend.type,
        startedAtMs: this.startedAtMs,
        health: problems.list(othersProblems)[0] ?? 'ok',
        ...(containers === undefined ? {} : { containers }),
      });
      this.isPublished = true;
      this.publishFailures = 0;
      problems.report('liveness', undefined);
      problems.report(
        'node name',
        conflict &&
          `Another host calls itself "${node}", the one at ${formatAddresses(conflict.publicAddresses)}; give one of them another name by --node`,
      );
    } catch (error) {
      this.isPublished = false;
      // The listing says what is wrong where etcd is away. Where it is not, this has to be said.
      this.syncWakeup.wake();
      if (++this.publishFailures > 1 || error instanceof StoreRefusedError) {
        problems.report('liveness', `${(error as Error).message}; nodes may be shown as down that are not`, 'debug');
      }
    }
  }

  /** What of the loop is stuck; undefined while it is alive. */
  health(): string | undefined {
    if (this.stopping) return undefined;
    const activities = [
      ['following etcd', this.syncWakeup],
      ['mending the data path', this.reconcileWakeup],
      ['mending the packet filter', this.rulesWakeup],
      ['telling the cluster', this.publishWakeup],
    ] as const;
    return stuckActivity(
      activities.map(([name, { runningSinceMs, nextMs }]) => ({ name, runningSinceMs, dueMs: nextMs })),
      this.options.monotonic(),
      this.options.healthLimits ?? healthLimits,
    );
  }

  /** Why containers cannot be started yet; undefined once they can. */
  readiness(): string | undefined {
    if (this.stopping) return 'stopping';
    return this.ready ? undefined : (this.options.problems.list()[0] ?? 'starting');
  }

  /** For the service manager: what weftd is at, in a line. */
  summary(): string {
    const { membership, problems } = this.options;
    const { view } = membership;
    const { total, programmed } = this.countPeers();
    const subnets = view ? valuesOf(view.own.subnets).map(formatPrefix).join(' ') : '';
    const peers = `${total} ${total === 1 ? 'peer' : 'peers'}${programmed < total ? `, ${total - programmed} not reached` : ''}`;
    const [problem] = problems.list(['peer']);
    return `${this.phase()}${view ? `: ${subnets}, ${peers}` : ''}${problem === undefined ? '' : `; ${problem}`}`;
  }

  private phase(): NodeStatus['state'] {
    if (this.stopping) return 'stopping';
    if (!this.ready) return 'starting';
    return this.options.problems.list(othersProblems).length > 0 ? 'degraded' : 'running';
  }

  private countPeers(): Figures['peers'] {
    const peers = this.options.dataPath.state?.peers ?? [];
    return {
      total: peers.length,
      programmed: peers.filter(({ path, problem }) => path !== 'none' && problem === undefined).length,
      withProblem: peers.filter(({ problem }) => problem !== undefined).length,
    };
  }

  /** How many nodes are alive; undefined where etcd does not tell soon. */
  private async countAlive(): Promise<number | undefined> {
    if (!this.inSync) return undefined;
    const counted = this.options.store.countNodes().catch(() => undefined);
    return await Promise.race([counted, pause(statusTimeoutMs)]);
  }

  /** What is shown as metrics besides what is counted. */
  async figures(): Promise<Figures> {
    const nodesAlive = await this.countAlive();
    const { membership, dataPath, problems, store, node, countAddresses, countContainers, readProcess, now } =
      this.options;
    const { view } = membership;
    const { connected, lastContactMs } = store.health();
    const expiresAtMs = view?.own.expiresAtMs;
    return {
      node,
      backend: view?.backend.type ?? '',
      interface: dataPath.state?.external.name,
      ready: this.readiness() === undefined,
      problems: problems.list(['peer']).length,
      containers: countContainers(),
      mtuBytes: dataPath.state?.mtuBytes,
      peers: this.countPeers(),
      nodesAlive,
      leaseTtlSeconds: expiresAtMs === undefined ? undefined : Math.max(0, (expiresAtMs - now()) / 1000),
      etcdConnected: connected,
      etcdLastContactSeconds: lastContactMs === undefined ? undefined : lastContactMs / 1000,
      addresses: view ? countAddresses(valuesOf(view.own.subnets)) : [],
      peerLock: this.options.filter.peerLock(),
      process: readProcess(),
    };
  }

  private async listAlive(): Promise<void> {
    this.alive = new Set((await this.options.store.listNodes()).nodes.map((record) => record.node));
  }

  /** The status with what etcd says now of who is alive; as it was known last where it does not answer soon. */
  async freshStatus(): Promise<NodeStatus> {
    if (this.inSync && this.options.membership.view) {
      const listed = this.listAlive().catch(() => {});
      await Promise.race([listed, pause(statusTimeoutMs)]);
    }
    const { view } = this.options.membership;
    return { ...this.status(), addresses: view ? this.options.countAddresses(valuesOf(view.own.subnets)) : [] };
  }

  private status(): NodeStatus {
    const { membership, dataPath, problems, store, metrics } = this.options;
    const { view } = membership;
    const { state } = dataPath;
    const health = store.health();
    // A peer's problem is told with the peer.
    const list = problems.list(['peer']);
    const iso = (ms: number): string => new Date(ms).toISOString();
    const stuck = this.health();
    const counted = metrics.summary;
    const { healed } = dataPath;
    const { etcdMedianMs: medianMs, etcdWorstMs: worstMs } = counted;
    const { leaseAgeSeconds } = metrics;
    return {
      node: this.options.node,
      version: this.options.version,
      pid: this.options.pid,
      startedAt: iso(this.startedAtMs),
      state: this.phase(),
      ...(stuck === undefined ? {} : { stuck }),
      problems: list,
      networks: view ? families.flatMap((family) => view.config.networks[family]?.network ?? []).map(formatPrefix) : [],
      subnets: view ? families.flatMap((family) => view.own.subnets[family] ?? []).map(formatPrefix) : [],
      publicAddresses: view
        ? families.flatMap((family) => view.own.publicAddresses[family] ?? []).map(formatAddress)
        : [],
      backend: view?.backend.type ?? '',
      ...(state ? { interface: state.external.name, mtuBytes: state.mtuBytes } : {}),
      devices: state?.devices ?? [],
      ipMasq: this.options.ipMasq,
      peerLock: this.options.filter.peerLock(),
      ...(view
        ? {
            lease: {
              key: view.own.ownerId,
              reservation: view.own.reservation,
              ...(view.own.expiresAtMs === undefined ? {} : { expiresAt: iso(view.own.expiresAtMs) }),
              ...(leaseAgeSeconds === undefined ? {} : { ageSeconds: Math.round(leaseAgeSeconds) }),
              renewals: counted.leaseRenewals,
              losses: counted.leaseLosses,
            },
          }
        : {}),
      etcd: {
        endpoints: health.endpoints,
        prefix: store.prefix,
        connected: health.connected,
        ...(health.lastContactMs === undefined ? {} : { lastContact: iso(health.lastContactMs) }),
        ...(health.error === undefined ? {} : { error: health.error }),
        watching: counted.watching,
        requests: counted.etcdRequests,
        errors: counted.etcdErrors,
        ...(medianMs === undefined ? {} : { medianMs }),
        ...(worstMs === undefined ? {} : { worstMs }),
        watchLosses: counted.watchLosses,
        watchResyncs: counted.watchResyncs,
      },
      changes: {
        programmed: counted.programmed,
        healed: healed.total,
        healedLastHour: healed.lastHour,
        healedByKind: counted.healed,
        ...(healed.last
          ? {
              lastHeal: {
                what: healed.last.what,
                at: iso(this.options.now() - this.options.monotonic() + healed.last.atMs),
              },
            }
          : {}),
        failed: counted.failed,
        ...(this.lastChangeMs === undefined ? {} : { lastChangeMs: this.lastChangeMs }),
      },
      addresses: [],
      peers: [...(state?.peers ?? [])]
        .sort((a, b) => compareLeases(a.lease, b.lease))
        .map(({ lease, path, problem }) => ({
          ...(lease.node === undefined ? {} : { node: lease.node }),
          ...(lease.version === undefined ? {} : { version: lease.version }),
          subnets: families.flatMap((family) => lease.subnets[family] ?? []).map(formatPrefix),
          publicAddresses: families.flatMap((family) => lease.publicAddresses[family] ?? []).map(formatAddress),
          backend: lease.backendType,
          ...(lease.node === undefined || !this.alive || !this.inSync ? {} : { alive: this.alive.has(lease.node) }),
          programmed: path !== 'none' && problem === undefined,
          path,
          ...(problem === undefined ? {} : { problem }),
        })),
    };
  }
}
