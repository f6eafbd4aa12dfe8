/** Returns the start's memory: most of it soon, the rest when weftd is idle. */

import { type Task, taskDeadlineMs } from '../pace/task.ts';

const soonMs = 2000;
const atRestMs = 15_000;

export function releaseMemoryTask(release: () => void): Task {
  const pauses = [atRestMs - soonMs];
  return {
    name: 'giving memory back',
    everyMs: Number.POSITIVE_INFINITY,
    jitter: 0,
    deadlineMs: taskDeadlineMs,
    firstMs: soonMs,
    run() {
      release();
      return pauses.shift() ?? Number.POSITIVE_INFINITY;
    },
  };
}
