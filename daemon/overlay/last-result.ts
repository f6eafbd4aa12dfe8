/**
 * Keeps the last result of a pure derivation. The desired state of thousands of peers takes a tenth of a second and a hundred
 * thousand objects, and is compared with the kernel every minute, mostly unchanged.
 */

import { isDeepStrictEqual } from 'node:util';

export class LastResult<Result> {
  #last: { readonly list: readonly unknown[]; readonly rest: unknown; readonly result: Result } | undefined;

  /**
   * @param list the input that is large: the same array, or another one
   * @param rest all other inputs, compared by their content
   */
  of(list: readonly unknown[], rest: unknown, derive: () => Result): Result {
    if (this.#last?.list !== list || !isDeepStrictEqual(this.#last.rest, rest)) {
      // First, so that not both are in memory.
      this.#last = undefined;
      this.#last = { list, rest, result: derive() };
    }
    return this.#last.result;
  }

  /** The result has been changed, or is of no use any more. */
  forget(): void {
    this.#last = undefined;
  }
}
