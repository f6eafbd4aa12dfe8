/** Measures how long changes take from the cluster to the kernel. */

import type { ClusterStore } from '../../cluster/store.ts';
import type { Logger } from '../report/log.ts';
import type { Metrics } from '../report/metrics.ts';
import type { Progress } from '../report/progress.ts';

export interface StopwatchOptions {
  readonly store: Pick<ClusterStore, 'kind'>;
  readonly logger: Pick<Logger, 'debug'>;
  readonly metrics: Pick<Metrics, 'followTook'>;
  readonly progress: Pick<Progress, 'noteChange'>;
  /** Milliseconds on a clock that does not go back. */
  readonly now: () => number;
}

export class ChangeStopwatch {
  readonly #options: StopwatchOptions;
  /** When the first change arrived that is in the view but not yet in the kernel. */
  #viewedMs: number | undefined;

  constructor(options: StopwatchOptions) {
    this.#options = options;
  }

  /** A change is in the view. @param heardMs when it arrived; undefined if there was none */
  viewed(heardMs: number | undefined): void {
    this.#viewedMs ??= heardMs;
  }

  /** The kernel matches the view. */
  programmed(changes: number): void {
    if (this.#viewedMs === undefined) return;
    const { store, logger, metrics, progress, now } = this.#options;
    const tookMs = Math.round((now() - this.#viewedMs) * 10) / 10;
    this.#viewedMs = undefined;
    if (changes === 0) return;
    progress.noteChange(tookMs);
    metrics.followTook(tookMs / 1000);
    logger.debug(`change in ${store.kind} programmed`, { tookMs, changes });
  }
}
