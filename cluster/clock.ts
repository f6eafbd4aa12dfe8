/** Time and randomness. The entry point hands them in, so that tests can control them. */

export interface Timer {
  cancel(): void;
}

export interface Clock {
  /** Milliseconds since the epoch. */
  nowMs(): number;
  /** Calls back once, after `delayMs`. */
  setTimer(callback: () => void, delayMs: number): Timer;
}

/** A number from [0, 1). */
export type Random = () => number;
