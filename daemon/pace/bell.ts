/** Signals that something may have changed. It exists before the work that waits for it, so that others can ring it. */
export class Bell {
  readonly #listeners: ((delayMs: number) => void)[] = [];

  /** @param delayMs how long the work may wait */
  ring(delayMs = 0): void {
    for (const listener of this.#listeners) listener(delayMs);
  }

  listen(listener: (delayMs: number) => void): void {
    this.#listeners.push(listener);
  }
}
