/** Tells that something may have changed. It is made before the work that waits for it, so that others can ring it. */
export class Bell {
  readonly #listeners: ((delayMs: number) => void)[] = [];

  /** @param delayMs the work may wait for so long */
  ring(delayMs = 0): void {
    for (const listener of this.#listeners) listener(delayMs);
  }

  listen(listener: (delayMs: number) => void): void {
    this.#listeners.push(listener);
  }
}
