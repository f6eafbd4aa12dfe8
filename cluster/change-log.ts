/**
 * The changes of a list, one by one. Changes travel from the store to the kernel in this way alone. The list at some time
 * is a version of the log. A reader that has followed the list up to a version gets just the changes after it.
 */

/** Something before and after a change: the first is undefined if it is new, the second if it was removed. */
export type Change<T> = readonly [was: T | undefined, is: T | undefined];

/** Older changes are forgotten, since each holds a lease in memory. Comparing two lists takes their place. */
const keptAtLeast = 256;

export class ChangeLog<T> {
  #changes: Change<T>[] = [];
  /** The version that the first change kept was made to. */
  #first = 0;

  /** Grows by one with each change. */
  get version(): number {
    return this.#first + this.#changes.length;
  }

  add(change: Change<T>): void {
    this.#changes.push(change);
    if (this.#changes.length < 2 * keptAtLeast) return;
    this.#changes.splice(0, keptAtLeast);
    this.#first += keptAtLeast;
  }

  /** In their order; undefined where they are forgotten. */
  between(from: number, to: number): readonly Change<T>[] | undefined {
    return from < this.#first || from > to || to > this.version
      ? undefined
      : this.#changes.slice(from - this.#first, to - this.#first);
  }
}
