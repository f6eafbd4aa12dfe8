/** Requests a full comparison once no single peer has been followed for a while. */

import type { Bell } from '../pace/bell.ts';
import { type Task, taskDeadlineMs } from '../pace/task.ts';

const quietMs = 2000;

export interface VerifyFollowedOptions {
  readonly bells: { readonly verify: Bell; readonly network: Bell };
  /** Milliseconds on a clock that does not go back. */
  readonly now: () => number;
}

export class VerifyFollowed implements Task {
  readonly name = 'verifying changes of peers';
  readonly everyMs = Number.POSITIVE_INFINITY;
  readonly jitter = 0;
  readonly deadlineMs = taskDeadlineMs;
  readonly wakeOn: readonly Bell[];
  readonly #options: VerifyFollowedOptions;
  #lastMs = Number.NEGATIVE_INFINITY;

  constructor(options: VerifyFollowedOptions) {
    this.#options = options;
    this.wakeOn = [options.bells.verify];
  }

  /** Single peers were followed just now. */
  followed(): void {
    this.#lastMs = this.#options.now();
    this.#options.bells.verify.ring(quietMs);
  }

  run(): number {
    const leftMs = this.#lastMs + quietMs - this.#options.now();
    if (leftMs > 0) return leftMs;
    this.#options.bells.network.ring();
    return Number.POSITIVE_INFINITY;
  }
}
