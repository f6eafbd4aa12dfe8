/** weftd's progress since its start. Tasks write it; answers and other tasks read it. */

export class Progress {
  readonly startedAtMs: number;
  readonly #waiters: (() => void)[] = [];
  #isReady = false;
  #isStopping = false;
  #isInSync = false;
  #hasCompared = false;
  #lastChangeMs: number | undefined;

  /** @param startedAtMs since the epoch */
  constructor(startedAtMs: number) {
    this.startedAtMs = startedAtMs;
  }

  /** Whether containers could reach the others at any time since the start. */
  get isReady(): boolean {
    return this.#isReady;
  }

  becomeReady(): void {
    this.#isReady = true;
    for (const waiter of this.#waiters.splice(0)) waiter();
  }

  /** Resolves once the data path is complete for the first time. */
  whenReady(): Promise<void> {
    return this.#isReady ? Promise.resolve() : new Promise((resolve) => this.#waiters.push(resolve));
  }

  get isStopping(): boolean {
    return this.#isStopping;
  }

  stop(): void {
    this.#isStopping = true;
  }

  /** Whether the last look at the cluster succeeded. */
  get isInSync(): boolean {
    return this.#isInSync;
  }

  noteSync(isInSync: boolean): void {
    this.#isInSync = isInSync;
  }

  /** Whether there was at least one full comparison of the data path. */
  get hasCompared(): boolean {
    return this.#hasCompared;
  }

  noteComparison(): void {
    this.#hasCompared = true;
  }

  /** How long the last change took from the cluster to the kernel; undefined before the first. */
  get lastChangeMs(): number | undefined {
    return this.#lastChangeMs;
  }

  noteChange(tookMs: number): void {
    this.#lastChangeMs = tookMs;
  }
}
