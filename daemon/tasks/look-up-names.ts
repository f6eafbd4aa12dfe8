/** Follows the addresses of endpoints that are given by name, so that no peer's subnet takes them over. */

import type { Lifelines } from '../host/lifelines.ts';
import type { DataPath } from '../overlay/data-path.ts';
import type { Bell } from '../pace/bell.ts';
import { type Task, taskDeadlineMs } from '../pace/task.ts';

/** The life of a name's address is unknown here. */
const everyMs = 60_000;

export const lookUpNamesTask = (
  lifelines: Pick<Lifelines, 'hasNames' | 'refresh'>,
  dataPath: Pick<DataPath, 'disturb'>,
  network: Bell,
): Task => ({
  name: 'looking up names',
  everyMs,
  jitter: 0.1,
  deadlineMs: taskDeadlineMs,
  firstMs: everyMs,
  async run() {
    if (lifelines.hasNames && (await lifelines.refresh())) {
      dataPath.disturb();
      network.ring();
    }
    return undefined;
  },
});
