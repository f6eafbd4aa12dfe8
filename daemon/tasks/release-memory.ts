/**
 * Returns memory: the start's, most of it soon and the rest when weftd is idle; and that of many changes, once there are no more.
 * The runtime collects only while it allocates, so the garbage of a burst's end would stay.
 */

import type { Bell } from '../pace/bell.ts';
import { type Task, taskDeadlineMs } from '../pace/task.ts';

const soonMs = 2000;
/** A collection stops weftd for some tens of milliseconds: not while changes come. */
const atRestMs = 15_000;

export interface ReleaseMemoryOptions {
  readonly release: () => void;
  /** Rung when many changes have been followed. */
  readonly manyChanges: Bell;
  /** How long no change has been followed. */
  readonly restedMs: () => number;
  /** Milliseconds on a clock that does not go back. */
  readonly now: () => number;
}

export function releaseMemoryTask({ release, manyChanges, restedMs, now }: ReleaseMemoryOptions): Task {
  /** When the rest of the start's memory is due; undefined before the first run. */
  let restDueMs: number | undefined;
  return {
    name: 'giving memory back',
    everyMs: Number.POSITIVE_INFINITY,
    jitter: 0,
    deadlineMs: taskDeadlineMs,
    firstMs: soonMs,
    wakeOn: [manyChanges],
    run() {
      if (restDueMs === undefined) {
        restDueMs = now() + atRestMs - soonMs;
        release();
        return atRestMs - soonMs;
      }
      const isOfStart = restDueMs !== Number.POSITIVE_INFINITY;
      const leftMs = isOfStart ? restDueMs - now() : atRestMs - restedMs();
      if (leftMs > 0) return leftMs;
      restDueMs = Number.POSITIVE_INFINITY;
      release();
      return Number.POSITIVE_INFINITY;
    },
  };
}
