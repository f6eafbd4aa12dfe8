/** Makes the peer lock hold on: without weftd it opens after its life. */

import type { LockRenewal } from '../filter/lock-renewal.ts';
import { type Task, taskDeadlineMs } from '../pace/task.ts';
import type { MendFilter } from './mend-filter.ts';

export const renewLockTask = (
  renewal: Pick<LockRenewal, 'run' | 'everyMs' | 'firstMs'>,
  mendFilter: Pick<MendFilter, 'heard'>,
): Task => ({
  name: 'renewing the peer lock',
  everyMs: renewal.everyMs,
  jitter: 0,
  deadlineMs: taskDeadlineMs,
  firstMs: renewal.firstMs,
  run() {
    try {
      renewal.run();
    } catch {
      // If somebody removed it, the look at the rules finds that, and reports what is wrong.
      mendFilter.heard();
    }
    return undefined;
  },
});
