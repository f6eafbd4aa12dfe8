/** For what may be asked for at any rate: so much a time, and what was not used is there for a burst. */
export class Budget {
  private readonly burst: number;
  private readonly perMs: number;
  private readonly now: () => number;
  private left: number;
  private countedMs: number;

  /**
   * @param burst the most that is kept, and what there is at first: lines of a log, milliseconds of work
   * @param perMs what comes in a millisecond; of milliseconds of work that is the share of the time that they may take
   * @param now milliseconds
   */
  constructor(burst: number, perMs: number, now: () => number) {
    this.burst = burst;
    this.perMs = perMs;
    this.now = now;
    this.left = burst;
    this.countedMs = now();
  }

  private count(): void {
    const nowMs = this.now();
    // A clock that people set may go back.
    this.left = Math.min(this.burst, this.left + Math.max(0, nowMs - this.countedMs) * this.perMs);
    this.countedMs = nowMs;
  }

  /** @returns whether there is one left, which is taken then */
  take(): boolean {
    this.count();
    if (this.left < 1) return false;
    this.left--;
    return true;
  }

  /** Takes what was used, whether or not it was there. */
  spend(amount: number): void {
    this.count();
    this.left -= amount;
  }

  /** Until nothing is owed any more. */
  get waitMs(): number {
    this.count();
    return Math.max(0, -this.left / this.perMs);
  }
}
