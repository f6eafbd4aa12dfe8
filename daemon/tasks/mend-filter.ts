/** Checks the packet filter, and repairs it. */

import type { FilterUpkeep } from '../filter/upkeep.ts';
import type { Membership } from '../membership/membership.ts';
import type { DataPath } from '../overlay/data-path.ts';
import type { Bell } from '../pace/bell.ts';
import type { Task } from '../pace/task.ts';
import type { Metrics } from '../report/metrics.ts';
import type { Progress } from '../report/progress.ts';

export interface MendFilterOptions {
  readonly membership: Pick<Membership, 'view'>;
  readonly dataPath: Pick<DataPath, 'healedTotal'>;
  readonly filter: Pick<FilterUpkeep, 'ensure'>;
  readonly metrics: Pick<Metrics, 'healTook'>;
  readonly progress: Pick<Progress, 'hasCompared'>;
  readonly bells: { readonly filter: Bell };
  /** Milliseconds on a clock that does not go back. */
  readonly now: () => number;
  readonly resyncMs: number;
  readonly deadlineMs: number;
}

export class MendFilter implements Task {
  readonly name = 'mending the packet filter';
  readonly everyMs: number;
  readonly jitter = 0;
  readonly deadlineMs: number;
  readonly pauseMs = 20;
  readonly wakeOn: readonly Bell[];
  readonly #options: MendFilterOptions;
  /** When the kernel reported changes that are not handled yet. */
  #heardMs: number | undefined;

  constructor(options: MendFilterOptions) {
    this.#options = options;
    this.everyMs = options.resyncMs;
    this.deadlineMs = options.deadlineMs;
    this.wakeOn = [options.bells.filter];
  }

  /** The packet filter may have changed. */
  heard(): void {
    this.#heardMs ??= this.#options.now();
    this.#options.bells.filter.ring();
  }

  run(): number {
    const { membership, dataPath, filter, metrics, progress, now, resyncMs } = this.#options;
    const heardMs = this.#heardMs;
    this.#heardMs = undefined;
    // Ready or not: this also keeps a data path that an earlier weftd has set up.
    if (!membership.view || !progress.hasCompared) return Number.POSITIVE_INFINITY;
    const healedBefore = dataPath.healedTotal;
    const { againMs } = filter.ensure(membership.view);
    if (heardMs !== undefined && dataPath.healedTotal > healedBefore) metrics.healTook((now() - heardMs) / 1000);
    return Math.min(resyncMs, againMs);
  }
}
