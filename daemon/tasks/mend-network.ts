/** Compares the whole data path with the view, and repairs it. It takes milliseconds. */

import type { ClusterStore } from '../../cluster/store.ts';
import { InterfaceError } from '../host/external-interface.ts';
import type { Membership } from '../membership/membership.ts';
import type { DataPath } from '../overlay/data-path.ts';
import type { Bell } from '../pace/bell.ts';
import { Budget } from '../pace/budget.ts';
import type { Task } from '../pace/task.ts';
import type { Logger } from '../report/log.ts';
import type { Metrics } from '../report/metrics.ts';
import type { Problems } from '../report/problems.ts';
import type { Progress } from '../report/progress.ts';
import type { ChangeStopwatch } from './stopwatch.ts';

export interface MendNetworkOptions {
  readonly membership: Pick<Membership, 'view'>;
  readonly dataPath: Pick<DataPath, 'reconcile' | 'healedTotal' | 'interfaceProblem'>;
  readonly store: Pick<ClusterStore, 'reconnect'>;
  readonly logger: Pick<Logger, 'debug' | 'info'>;
  readonly problems: Pick<Problems, 'has' | 'report'>;
  readonly metrics: Pick<Metrics, 'reconcileTook' | 'healTook'>;
  readonly progress: Progress;
  readonly stopwatch: ChangeStopwatch;
  readonly bells: { readonly sync: Bell; readonly network: Bell; readonly filter: Bell };
  /** Milliseconds on a clock that does not go back. */
  readonly now: () => number;
  /** CPU time of this thread in milliseconds. */
  readonly threadTime: () => number;
  readonly resyncMs: number;
  readonly deadlineMs: number;
}

/** Changes come in bursts: the first is handled at once, the rest together. */
const shortPauseMs = 20;
/** Full comparisons take at most a tenth of the CPU time, unless a repair would wait too long. */
const share = 0.1;
/** The burst: damage rarely comes alone. */
const burstMs = 100;
const longestPauseMs = 600;

export class MendNetwork implements Task {
  readonly name = 'mending the data path';
  readonly everyMs: number;
  readonly jitter = 0;
  readonly deadlineMs: number;
  readonly wakeOn: readonly Bell[];
  readonly #options: MendNetworkOptions;
  readonly #budget: Budget;
  /** When the kernel reported changes that are not handled yet. */
  #heardMs: number | undefined;
  #startedMs = Number.NEGATIVE_INFINITY;

  constructor(options: MendNetworkOptions) {
    this.#options = options;
    this.everyMs = options.resyncMs;
    this.deadlineMs = options.deadlineMs;
    this.wakeOn = [options.bells.network];
    this.#budget = new Budget(burstMs, share, options.now);
  }

  /** Something in the kernel may have changed. */
  heard(): void {
    const { now, bells, membership, problems } = this.#options;
    this.#heardMs ??= now();
    bells.network.ring();
    // Without a view, the cluster task may be waiting for the host: for an interface, an address, a route.
    if (!membership.view && problems.has('external interface')) bells.sync.ring();
  }

  readonly pauseMs = (): number => {
    // The interval counts from the last run, which may have had nothing to compare.
    if (this.#budget.waitMs === 0) return shortPauseMs;
    const sinceMs = this.#options.now() - this.#startedMs;
    return Math.min(longestPauseMs, Math.max(shortPauseMs, sinceMs + this.#budget.waitMs));
  };

  run(): number {
    const { store, membership, dataPath, problems, metrics, now, threadTime, bells, resyncMs } = this.#options;
    const { progress, stopwatch, logger } = this.#options;
    const { view } = membership;
    const heardMs = this.#heardMs;
    this.#heardMs = undefined;
    if (!view) return Number.POSITIVE_INFINITY;
    const healedBefore = dataPath.healedTotal;
    this.#startedMs = now();
    const threadStartMs = threadTime();
    const result = dataPath.reconcile(view);
    progress.noteComparison();
    this.#budget.spend(threadTime() - threadStartMs);
    metrics.reconcileTook((now() - this.#startedMs) / 1000);
    if (heardMs !== undefined && dataPath.healedTotal > healedBefore) metrics.healTook((now() - heardMs) / 1000);
    problems.report('external interface', dataPath.interfaceProblem, 'debug');
    problems.report('kernel', undefined);
    bells.filter.ring(Math.min(resyncMs, result.rulesAgainMs));
    // Answers would go to the old address, and the calls would wait until their deadline.
    if (result.addressChanged) store.reconnect?.();
    if (result.identityChanged) bells.sync.ring();
    stopwatch.programmed(result.changes);
    if (!progress.isReady && result.complete) {
      bells.filter.ring();
      logger.info('ready', { peers: view.peers.size });
      progress.becomeReady();
    }
    return Math.min(resyncMs, result.retryDelayMs);
  }

  failed(error: Error): void {
    const { problems, logger } = this.#options;
    const subject = error instanceof InterfaceError ? 'external interface' : 'kernel';
    if (subject === 'kernel' && !problems.has(subject))
      logger.debug('Cannot mend the data path', { stack: error.stack });
    problems.report(subject, `${error.message}; trying again`, 'debug');
  }
}
