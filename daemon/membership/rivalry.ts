/**
 * Limits the writes of a key that somebody else writes, too. The first few are made at once: most often somebody has
 * changed the key by mistake, and the first write ends it. If two programs want the same key, neither can win by writing.
 * Then the pauses grow.
 */

export interface RivalryOptions {
  /** So many writes are made without a pause. */
  readonly burst: number;
  /** The first pause; each further one is twice as long. */
  readonly pauseMs: number;
  readonly longestPauseMs: number;
  /** Milliseconds on a clock that does not go back. */
  readonly monotonic: () => number;
}

/** For a lease: a host with our public address writes it, or a program that keeps its own idea of it. */
export const writesBack = { burst: 3, pauseMs: 60_000, longestPauseMs: 16 * 60_000 };

/** After so many of the longest pauses without a write, everything starts again. */
const calmPauses = 4;

export class Rivalry {
  readonly #options: RivalryOptions;
  #writes = 0;
  #lastMs = Number.NEGATIVE_INFINITY;
  #nextMs = Number.NEGATIVE_INFINITY;

  constructor(options: RivalryOptions) {
    this.#options = options;
  }

  /** When the next write may be made; in the past where it may be made now. */
  get nextMs(): number {
    return this.#nextMs;
  }

  get mustPause(): boolean {
    return this.#options.monotonic() < this.#nextMs;
  }

  /** Whether the writes made at once have not helped. It ends when nobody has disturbed the key for a while. */
  get isOpen(): boolean {
    return this.#writes >= this.#options.burst && !this.#isCalm(this.#options.pauseMs);
  }

  /** Our write over somebody else's. */
  noteWrite(): void {
    const { burst, pauseMs, longestPauseMs, monotonic } = this.#options;
    if (this.#isCalm(longestPauseMs * calmPauses)) this.#writes = 0;
    this.#writes++;
    this.#lastMs = monotonic();
    const further = this.#writes - burst;
    if (further >= 0) this.#nextMs = this.#lastMs + Math.min(pauseMs * 2 ** further, longestPauseMs);
  }

  #isCalm(afterMs: number): boolean {
    return this.#options.monotonic() - this.#lastMs >= afterMs && !this.mustPause;
  }
}
