/**
 * A periodic piece of weftd's work, and its schedule.
 *
 * A task never runs twice at once. If a run fails, only this task is retried, after growing pauses. Later tasks (a
 * collector, a mirror of allocations, probes of the data path) plug in here.
 */

import { worded } from '../../command/fault.ts';
import type { Bell } from './bell.ts';
import { Backoff, Wakeup } from './wakeup.ts';

export interface Task {
  /** The name in `/healthz`. */
  readonly name: string;
  /** Time from the start of a run to the start of the next, unless the run names another; infinite: only on request. */
  readonly everyMs: number;
  /** `everyMs` is shortened randomly by up to this share, so that hosts do not work in step. */
  readonly jitter: number;
  /** How long a run may take. Then its signal is aborted, and `/healthz` reports the task as stuck. */
  readonly deadlineMs: number;
  /** Time from weftd's start to the first run; absent: the first run waits for a bell. */
  readonly firstMs?: number;
  /** The minimum time from the start of one run to the start of the next; 0 by default. */
  readonly pauseMs?: number | (() => number);
  /** Each of these requests a run. */
  readonly wakeOn?: readonly Bell[];
  /**
   * @param signal aborted when the deadline has passed, and when weftd stops. A run that declares no parameter costs no signal
   * @returns when to run next, in milliseconds from now; infinite: only on request; undefined: after `everyMs`
   * @throws Error: the task is retried after a pause
   */
  run(signal: AbortSignal): number | undefined | Promise<number | undefined>;
  /** Reports a failed run as a problem; absent: the problem has the task's name. */
  failed?(error: Error): void;
}

/** Longer than a claim of a subnet in a slow store, with all its deadlines. */
export const taskDeadlineMs = 180_000;

/** The first and the last pause after a failure. */
export const retryPauses = { firstMs: 500, lastMs: 15_000 } as const;

/** For runs that take no signal, which are most: there is one with each change of a peer. */
const noSignal = new AbortController().signal;

/** The longest time that a timer supports. */
const timerMs = 2 ** 31 - 1;

export interface ScheduleOptions {
  /** Milliseconds on a clock that does not go back. */
  readonly now: () => number;
  /** From 0 to below 1. */
  readonly random: () => number;
  /** Called after each run, except one that ends after `close`. */
  readonly onEnd: (error: Error | undefined) => void;
}

/** The task's schedule and state. */
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

  /** Start of the current run; undefined if there is none. */
  get runningSinceMs(): number | undefined {
    return this.#wakeup.runningSinceMs;
  }

  /** When the next run is due; infinite if none was requested. */
  get dueMs(): number {
    return this.#wakeup.nextMs;
  }

  /** Prevents further runs, and tells the current one to end. */
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
      failure = worded(error);
      this.#wakeup.wake(this.#backoff.next());
    }
    if (!this.#closed) onEnd(failure);
  }

  #periodMs(): number {
    const { everyMs, jitter } = this.task;
    return everyMs * (1 - this.#options.random() * jitter);
  }

  async #runOnce(): Promise<number | undefined> {
    const controller = this.task.run.length > 0 ? new AbortController() : undefined;
    this.#controller = controller;
    let timer: ReturnType<typeof setTimeout> | undefined;
    try {
      const running = this.task.run(controller?.signal ?? noSignal);
      // Finished work needs no deadline.
      if (controller && running instanceof Promise) {
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
