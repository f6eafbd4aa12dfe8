/** Runs a piece of work on request: one run at a time, and one run for several requests close together. */

export interface WakeupOptions {
  readonly work: () => Promise<void> | void;
  /** The minimum time from the start of one run to the start of the next. After a pause, a run starts at once. */
  readonly minimumIntervalMs: number | (() => number);
  /** Milliseconds on a clock that does not go back. */
  readonly now: () => number;
}

/** `work` must not throw. */
export class Wakeup {
  readonly #options: WakeupOptions;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #immediate: ReturnType<typeof setImmediate> | undefined;
  #dueMs = Number.POSITIVE_INFINITY;
  #lastStartMs = Number.NEGATIVE_INFINITY;
  #running = false;
  #closed = false;

  constructor(options: WakeupOptions) {
    this.#options = options;
  }

  /** Requests a run within `delayMs`. */
  wake(delayMs = 0): void {
    if (this.#closed) return;
    const now = this.#options.now();
    const { minimumIntervalMs } = this.#options;
    const pauseMs = typeof minimumIntervalMs === 'number' ? minimumIntervalMs : minimumIntervalMs();
    const dueMs = Math.max(now + delayMs, this.#lastStartMs + pauseMs);
    if (dueMs >= this.#dueMs) return;
    this.#dueMs = dueMs;
    if (!this.#running) this.#schedule();
  }

  /** When the current run started; undefined if none runs. */
  get runningSinceMs(): number | undefined {
    return this.#running ? this.#lastStartMs : undefined;
  }

  /** When the next run is due; infinite if none was requested. */
  get nextMs(): number {
    return this.#dueMs;
  }

  /** Prevents further runs. */
  close(): void {
    this.#closed = true;
    this.#unschedule();
  }

  #unschedule(): void {
    clearTimeout(this.#timer);
    clearImmediate(this.#immediate);
  }

  #schedule(): void {
    this.#unschedule();
    const delayMs = Math.min(Math.max(0, this.#dueMs - this.#options.now()), 2 ** 31 - 1);
    // A timer takes at least a millisecond.
    if (delayMs === 0) this.#immediate = setImmediate(() => void this.#run());
    else this.#timer = setTimeout(() => void this.#run(), delayMs);
  }

  async #run(): Promise<void> {
    if (this.#closed) return;
    this.#running = true;
    this.#dueMs = Number.POSITIVE_INFINITY;
    this.#lastStartMs = this.#options.now();
    await this.#options.work();
    this.#running = false;
    if (!this.#closed && this.#dueMs !== Number.POSITIVE_INFINITY) this.#schedule();
  }
}

/** Delays that double from `firstMs` to `lastMs`, each shortened by up to a half at random, so that hosts do not retry in step. */
export class Backoff {
  readonly #firstMs: number;
  readonly #lastMs: number;
  readonly #random: () => number;
  #failures = 0;

  /** @param random from 0 to below 1 */
  constructor(firstMs: number, lastMs: number, random: () => number) {
    this.#firstMs = firstMs;
    this.#lastMs = lastMs;
    this.#random = random;
  }

  next(): number {
    const fullMs = Math.min(this.#firstMs * 2 ** this.#failures, this.#lastMs);
    this.#failures++;
    return fullMs * (1 - this.#random() / 2);
  }

  reset(): void {
    this.#failures = 0;
  }
}
