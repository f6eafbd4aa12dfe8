/** What has to be taken back where a later step fails: each step that succeeds leaves how to undo it. */

import { CniError, causeText, toCniError } from './spec/errors.ts';

export class UndoStack {
  readonly #steps: { readonly action: string; readonly undo: () => void }[] = [];

  /** @param action what undoing does, for errors: `delete "veth12"` */
  push(action: string, undo: () => void): void {
    this.#steps.push({ action, undo });
  }

  /**
   * Undoes everything, the last step first, going on past failures.
   * @returns the error to report: `cause`, its details saying what could not be undone
   */
  unwind(cause: unknown): CniError {
    const first = toCniError(cause);
    const failures: string[] = [];
    for (let step = this.#steps.pop(); step; step = this.#steps.pop()) {
      try {
        step.undo();
      } catch (error) {
        failures.push(`could not ${step.action}: ${causeText(error)}`);
      }
    }
    if (failures.length === 0) return first;
    return new CniError(first.code, first.message, {
      cause,
      details: [first.details, ...failures].filter((text) => text !== '').join('; '),
    });
  }
}
