/** Logs from whom the peer lock drops packets. */

import type { FilterUpkeep } from '../filter/upkeep.ts';
import { type Task, taskDeadlineMs } from '../pace/task.ts';

const everyMs = 30_000;

export const tellDroppedTask = (filter: Pick<FilterUpkeep, 'tellDropped'>): Task => ({
  name: 'looking for dropped packets',
  everyMs,
  jitter: 0.1,
  deadlineMs: taskDeadlineMs,
  firstMs: everyMs,
  run() {
    filter.tellDropped();
    return undefined;
  },
});
