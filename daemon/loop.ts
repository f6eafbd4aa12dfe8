/**
 * weftd's loop: it schedules tasks. Each runs by itself, so that a slow store never delays the repair of the data path.
 */

import type { Activity } from './answers/health.ts';
import type { Bell } from './pace/bell.ts';
import { Schedule, type Task } from './pace/task.ts';
import type { Problems } from './report/problems.ts';

export interface LoopOptions {
  readonly tasks: readonly Task[];
  readonly problems: Pick<Problems, 'reportAll'>;
  /** Milliseconds on a clock that does not go back. */
  readonly now: () => number;
  /** From 0 to below 1. */
  readonly random: () => number;
  /** Rings after each run: the status may have changed. */
  readonly changed: Bell;
}

export class Loop {
  readonly #schedules: readonly Schedule[];
  /** Failed tasks that report nothing themselves, by name. */
  readonly #failures = new Map<string, string>();

  constructor({ tasks, problems, now, random, changed }: LoopOptions) {
    this.#schedules = tasks.map((task) => {
      const onEnd = (error: Error | undefined): void => {
        if (task.failed) {
          if (error) task.failed(error);
        } else if (error || this.#failures.has(task.name)) {
          if (error) this.#failures.set(task.name, `Task "${task.name}" failed: ${error.message}; trying again`);
          else this.#failures.delete(task.name);
          problems.reportAll('task', this.#failures);
        }
        changed.ring();
      };
      return new Schedule(task, { now, random, onEnd });
    });
  }

  start(): void {
    for (const schedule of this.#schedules) schedule.start();
  }

  /** The tasks, for the health check. */
  get activities(): Activity[] {
    return this.#schedules.map(({ task, runningSinceMs, dueMs }) => ({
      name: task.name,
      deadlineMs: task.deadlineMs,
      runningSinceMs,
      dueMs,
    }));
  }

  /** Prevents further runs; does not wait for current ones. */
  stop(): void {
    for (const schedule of this.#schedules) schedule.close();
  }
}
