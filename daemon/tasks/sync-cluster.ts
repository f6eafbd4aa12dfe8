/**
 * Follows the cluster: keeps this node's view and its lease up to date, and programs peers that joined or left at once.
 * It may wait for the store.
 */

import type { ClusterStore } from '../../cluster/store.ts';
import { StoreError, StoreRefusedError } from '../../cluster/store-errors.ts';
import { InterfaceError } from '../host/external-interface.ts';
import type { Membership } from '../membership/membership.ts';
import { NoLeaseError } from '../membership/own-lease.ts';
import type { ClusterView } from '../membership/view.ts';
import type { DataPath } from '../overlay/data-path.ts';
import type { Bell } from '../pace/bell.ts';
import { spreadMs } from '../pace/spread.ts';
import type { Task } from '../pace/task.ts';
import type { Logger } from '../report/log.ts';
import type { Problems } from '../report/problems.ts';
import type { Progress } from '../report/progress.ts';
import type { ChangeStopwatch } from './stopwatch.ts';
import type { VerifyFollowed } from './verify-followed.ts';

export interface SyncClusterOptions {
  readonly store: Pick<ClusterStore, 'kind'>;
  readonly membership: Pick<Membership, 'view' | 'sync' | 'renewalDelayMs' | 'memoryDelayMs'>;
  readonly dataPath: Pick<DataPath, 'follow' | 'interfaceProblem'>;
  readonly logger: Pick<Logger, 'debug'>;
  readonly problems: Pick<Problems, 'has' | 'report'>;
  readonly progress: Progress;
  readonly stopwatch: ChangeStopwatch;
  readonly verification: Pick<VerifyFollowed, 'followed'>;
  readonly bells: { readonly sync: Bell; readonly network: Bell; readonly filter: Bell; readonly publish: Bell };
  /** Whether a data path exists already, from this or an earlier weftd. */
  readonly isSetUp: () => boolean;
  /** Milliseconds on a clock that does not go back. */
  readonly now: () => number;
  /** From 0 to below 1. */
  readonly random: () => number;
  readonly resyncMs: number;
  readonly deadlineMs: number;
}

/** Kinds of problems that end when the cluster was followed. */
const ownSubjects = ['etcd', 'kubernetes', 'subnet lease', 'cluster'] as const;

function subjectOf(error: Error, kind: string) {
  if (error instanceof StoreError) return kind === 'Kubernetes' ? 'kubernetes' : 'etcd';
  if (error instanceof InterfaceError) return 'external interface';
  return error instanceof NoLeaseError ? 'subnet lease' : 'cluster';
}

export class SyncCluster implements Task {
  readonly name: string;
  readonly everyMs: number;
  readonly jitter = 0;
  readonly deadlineMs: number;
  readonly firstMs = 0;
  /** Changes come in bursts: the first is handled at once, the rest together. */
  readonly pauseMs = 5;
  readonly wakeOn: readonly Bell[];
  readonly #options: SyncClusterOptions;
  /** When the first change arrived that is not in the view yet. */
  #heardMs: number | undefined;

  constructor(options: SyncClusterOptions) {
    this.#options = options;
    this.name = `following ${options.store.kind}`;
    this.everyMs = options.resyncMs;
    this.deadlineMs = options.deadlineMs;
    this.wakeOn = [options.bells.sync];
  }

  /** Something in the store may have changed. */
  heard(): void {
    this.#heardMs ??= this.#options.now();
    this.#options.bells.sync.ring();
  }

  async run(): Promise<number | undefined> {
    const { membership, dataPath, problems, progress, stopwatch, bells, random, resyncMs } = this.#options;
    const heardMs = this.#heardMs;
    this.#heardMs = undefined;
    const before = membership.view;
    const view = await membership.sync();
    if (progress.isStopping) return undefined;
    const wasInSync = progress.isInSync;
    progress.noteSync(true);
    for (const subject of ownSubjects) problems.report(subject, undefined);
    problems.report('external interface', dataPath.interfaceProblem, 'debug');
    if (view) {
      stopwatch.viewed(heardMs);
      if (!this.#follow(view)) bells.network.ring();
      // After an outage the record may have expired.
      if (!before || !wasInSync) bells.publish.ring(spreadMs(view.peers.size, random));
    }
    return Math.min(resyncMs, membership.renewalDelayMs, membership.memoryDelayMs);
  }

  failed(error: Error): void {
    this.#options.progress.noteSync(false);
    this.watchFailed(error);
  }

  /** Changes of the cluster do not arrive; the view stays valid. */
  watchFailed(error: Error): void {
    const { problems, logger, isSetUp, store } = this.#options;
    const subject = subjectOf(error, store.kind);
    if (subject === 'cluster' && !problems.has('cluster'))
      logger.debug('Cannot follow the cluster', { stack: error.stack });
    const stays = isSetUp() ? '; the existing setup stays' : '';
    // Changes of a problem that a person must solve are logged; the store's own problems change their text too often.
    const changes = error instanceof StoreRefusedError ? 'warn' : 'debug';
    problems.report(subject, `${error.message}; trying again${stays}`, changes);
  }

  /** @returns false if everything must be compared */
  #follow(view: ClusterView): boolean {
    const { dataPath, logger, bells, stopwatch, verification, resyncMs } = this.#options;
    try {
      const result = dataPath.follow(view);
      if (!result) return false;
      stopwatch.programmed(result.changes);
      if (result.changes > 0) verification.followed(result.changes);
      // Possibly nothing was changed because everything failed.
      bells.network.ring(Math.min(resyncMs, result.retryDelayMs));
      bells.filter.ring(Math.min(resyncMs, result.rulesAgainMs));
      return true;
    } catch (error) {
      // The full comparison meets the error again, and reports it.
      logger.debug('Cannot follow the peers one by one', { stack: (error as Error).stack });
      return false;
    }
  }
}
