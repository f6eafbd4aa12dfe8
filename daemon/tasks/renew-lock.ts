/** Makes the peer lock hold on: without weftd it opens after its life. */

import { type Task, taskDeadlineMs } from '../pace/task.ts';
import type { MendFilter } from './mend-filter.ts';

/** Soon after the start: the lock of an earlier weftd may not hold for much longer, and the store may be away. */
const firstRenewalMs = 1000;

/** @param lifeMs for how long the lock holds without a renewal */
export function renewLockTask(
  rules: { renewLock(): void },
  mendFilter: Pick<MendFilter, 'heard'>,
  lifeMs: number,
): Task {
  return {
    name: 'renewing the peer lock',
    everyMs: lifeMs / 3,
    jitter: 0,
    deadlineMs: taskDeadlineMs,
    firstMs: Math.min(firstRenewalMs, lifeMs / 3),
    run() {
      try {
        rules.renewLock();
      } catch {
        // If somebody removed it, the look at the rules finds that, and reports what is wrong.
        mendFilter.heard();
      }
      return undefined;
    },
  };
}
