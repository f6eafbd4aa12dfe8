/**
 * Collects garbage while somebody floods the store with leases that make problems. The runtime by itself would first let the
 * heap grow to a multiple. Without a flood it knows better: a collection stops weftd for some tens of milliseconds.
 */

import type { Bell } from '../pace/bell.ts';
import { type Task, taskDeadlineMs } from '../pace/task.ts';

const leastPauseMs = 300;
/** At most this share of the time is spent on collections. With less, memory grows by more than 20 MB in a flood. */
const timeShare = 0.1;
/** Less garbage is not worth the work. */
const leastBytes = 2 * 2 ** 20;
const leastShare = 0.05;

export interface CollectGarbageOptions {
  readonly collect: () => void;
  /** This process's memory that no file holds; undefined where nobody tells. */
  readonly memoryBytes: () => number | undefined;
  readonly isFlooded: () => boolean;
  /** Rung at each change. */
  readonly changed: Bell;
  readonly now: () => number;
}

export function collectGarbageTask({ collect, memoryBytes, isFlooded, changed, now }: CollectGarbageOptions): Task {
  let least = Number.POSITIVE_INFINITY;
  let tookMs = 0;
  return {
    name: 'collecting garbage',
    everyMs: Number.POSITIVE_INFINITY,
    jitter: 0,
    deadlineMs: taskDeadlineMs,
    pauseMs: () => Math.max(leastPauseMs, tookMs / timeShare),
    wakeOn: [changed],
    run() {
      if (!isFlooded()) return Number.POSITIVE_INFINITY;
      const bytes = memoryBytes() ?? 0;
      least = Math.min(least, bytes);
      if (bytes - least > Math.max(leastBytes, leastShare * least)) {
        const startMs = now();
        collect();
        tookMs = now() - startMs;
        least = memoryBytes() ?? least;
      }
      return Number.POSITIVE_INFINITY;
    },
  };
}
