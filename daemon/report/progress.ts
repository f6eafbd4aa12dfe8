/** How far weftd has come since its start. The tasks note it; the answers and the other tasks read it. */

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

  /** Whether containers have had their way to the others since the start. */
  get isReady(): boolean {
    return this.#isReady;
  }

  becomeReady(): void {
    this.#isReady = true;
    for (const waiter of this.#waiters.splice(0)) waiter();
  }

  /** Resolves once the data path is there for the first time. */
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

  /** Whether the data path was compared as a whole at least once. */
  get hasCompared(): boolean {
    return this.#hasCompared;
  }

  noteComparison(): void {
    this.#hasCompared = true;
  }

  /** How long the last change in the cluster took to the kernel; undefined before the first. */
  get lastChangeMs(): number | undefined {
    return this.#lastChangeMs;
  }

  noteChange(tookMs: number): void {
    this.#lastChangeMs = tookMs;
  }
}
