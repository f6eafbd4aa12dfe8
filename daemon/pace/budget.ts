/**
 * A token bucket: a steady rate plus a burst.
 *
 * weftd limits full comparisons to a tenth of the CPU time with it. It repairs a single damage at once. Damage without end
 * costs no more than that tenth, and no repair waits longer than 600 ms.
 */
export class Budget {
  readonly #burst: number;
  readonly #perMs: number;
  readonly #now: () => number;
  #left: number;
  #countedMs: number;

  /**
   * @param burst capacity and initial content: lines of a log, milliseconds of work
   * @param perMs refill per millisecond; for milliseconds of work, their share of the time
   * @param now milliseconds
   */
  constructor(burst: number, perMs: number, now: () => number) {
    this.#burst = burst;
    this.#perMs = perMs;
    this.#now = now;
    this.#left = burst;
    this.#countedMs = now();
  }

  #count(): void {
    const nowMs = this.#now();
    // The clock may be set back.
    this.#left = Math.min(this.#burst, this.#left + Math.max(0, nowMs - this.#countedMs) * this.#perMs);
    this.#countedMs = nowMs;
  }

  /** Takes one token if there is one. @returns whether there was */
  take(): boolean {
    this.#count();
    if (this.#left < 1) return false;
    this.#left--;
    return true;
  }

  /** Takes tokens, even if that leaves a debt. */
  spend(amount: number): void {
    this.#count();
    this.#left -= amount;
  }

  /** Whether nothing of the burst is used. */
  get isFull(): boolean {
    this.#count();
    return this.#left >= this.#burst;
  }

  /** How long until the debt is paid. */
  get waitMs(): number {
    this.#count();
    return Math.max(0, -this.#left / this.#perMs);
  }
}
