/**
 * A piece of weftd's work that runs again and again, and its schedule.
 *
 * A task never runs twice at once. When a run fails, this task alone is tried again, after growing pauses. Later tasks
 * (a collector, a mirror of allocations, probes of the data path) plug in here.
 */

import type { Bell } from './bell.ts';
import { Backoff, Wakeup } from './wakeup.ts';

export interface Task {
  /** As `/healthz` names it. */
  readonly name: string;
  /** From the start of a run to the start of the next, where the run names no other time; infinite: only when asked for. */
  readonly everyMs: number;
  /** By chance, `everyMs` is shorter by up to this share, so that hosts do not work in step. */
  readonly jitter: number;
  /** How long a run may take. After that its signal is aborted, and `/healthz` says that the task is stuck. */
  readonly deadlineMs: number;
  /** From the start of weftd to the first run; absent: not before a bell rings. */
  readonly firstMs?: number;
  /** The least time from the start of one run to the start of the next; 0 by default. */
  readonly pauseMs?: number | (() => number);
  /** Each of these asks for a run. */
  readonly wakeOn?: readonly Bell[];
  /**
   * @param signal aborted when the deadline has passed, and when weftd stops
   * @returns when to run next, in milliseconds from now; infinite: only when asked for; undefined: after `everyMs`
   * @throws Error: it is tried again after a pause
   */
  run(signal: AbortSignal): number | undefined | Promise<number | undefined>;
  /** Reports a failed run as a problem; absent: it is reported by the task's name. */
  failed?(error: Error): void;
}

/** More than claiming a subnet takes in a slow etcd, with all its deadlines. */
export const taskDeadlineMs = 180_000;

/** The first and the last pause after a failure. */
export const retryPauses = { firstMs: 500, lastMs: 15_000 } as const;

/** The longest time that a timer takes. */
const timerMs = 2 ** 31 - 1;

export interface ScheduleOptions {
  /** Milliseconds on a clock that does not go back. */
  readonly now: () => number;
  /** From 0 to below 1. */
  readonly random: () => number;
  /** After each run, but for one that ends after `close`. */
  readonly onEnd: (error: Error | undefined) => void;
}

/** When the task runs, and whether it does. */
export class Schedule {
  readonly task: Task;
  readonly #options: ScheduleOptions;
  readonly #wakeup: Wakeup;
  readonly #backoff: Backoff;
  #controller: AbortController | undefined;
  #closed = false;

  constructor(task: Task, options: ScheduleOptions) {
    this.task = task;
    this.#options = options;
    this.#backoff = new Backoff(retryPauses.firstMs, retryPauses.lastMs, options.random);
    this.#wakeup = new Wakeup({ minimumIntervalMs: task.pauseMs ?? 0, now: options.now, work: () => this.#run() });
    for (const bell of task.wakeOn ?? []) bell.listen((delayMs) => this.#wakeup.wake(delayMs));
  }

  start(): void {
    if (this.task.firstMs !== undefined) this.#wakeup.wake(this.task.firstMs);
  }

  /** Start of the run under way; undefined where there is none. */
  get runningSinceMs(): number | undefined {
    return this.#wakeup.runningSinceMs;
  }

  /** When the next run is due; infinite where none was asked for. */
  get dueMs(): number {
    return this.#wakeup.nextMs;
  }

  /** No run starts any more, and the one under way is told to end. */
  close(): void {
    this.#closed = true;
    this.#wakeup.close();
    this.#controller?.abort();
  }

  async #run(): Promise<void> {
    const { now, onEnd } = this.#options;
    const startedMs = now();
    let failure: Error | undefined;
    try {
      const delayMs = await this.#runOnce();
      this.#backoff.reset();
      this.#wakeup.wake(delayMs ?? this.#periodMs() - (now() - startedMs));
    } catch (error) {
      failure = error as Error;
      this.#wakeup.wake(this.#backoff.next());
    }
    if (!this.#closed) onEnd(failure);
  }

  #periodMs(): number {
    const { everyMs, jitter } = this.task;
    return everyMs * (1 - this.#options.random() * jitter);
  }

  async #runOnce(): Promise<number | undefined> {
    const controller = new AbortController();
    this.#controller = controller;
    let timer: ReturnType<typeof setTimeout> | undefined;
    try {
      const running = this.task.run(controller.signal);
      // Work that is done by now needs no deadline.
      if (running instanceof Promise) {
        timer = setTimeout(() => controller.abort(), Math.min(this.task.deadlineMs, timerMs));
        timer.unref();
      }
      return await running;
    } finally {
      clearTimeout(timer);
      this.#controller = undefined;
    }
  }
}
