/** What follows changes of single peers: a full comparison after a while without one, and the return of memory after many. */

import type { Bell } from '../pace/bell.ts';
import { type Task, taskDeadlineMs } from '../pace/task.ts';

const quietMs = 2000;
/** They leave some megabytes of garbage. */
const manyChanges = 100;

export interface VerifyFollowedOptions {
  readonly bells: { readonly verify: Bell; readonly network: Bell; readonly memory: Bell };
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
  #count = 0;

  constructor(options: VerifyFollowedOptions) {
    this.#options = options;
    this.wakeOn = [options.bells.verify];
  }

  /** Single peers were followed just now. @param changes how many steps that took */
  followed(changes: number): void {
    const { now, bells } = this.#options;
    this.#lastMs = now();
    bells.verify.ring(quietMs);
    this.#count += changes;
    if (this.#count < manyChanges) return;
    this.#count = 0;
    bells.memory.ring(quietMs);
  }

  /** How long no peer has been followed. */
  get restedMs(): number {
    return this.#options.now() - this.#lastMs;
  }

  run(): number {
    const leftMs = this.#lastMs + quietMs - this.#options.now();
    if (leftMs > 0) return leftMs;
    this.#options.bells.network.ring();
    return Number.POSITIVE_INFINITY;
  }
}
