/** The steps to undo if a later step fails. Each step registers its undo. */

import { CniError, causeText, toCniError } from './spec/errors.ts';

export class UndoStack {
  readonly #steps: { readonly action: string; readonly undo: () => void }[] = [];

  /** @param action names the undo in errors: `delete "veth12"` */
  push(action: string, undo: () => void): void {
    this.#steps.push({ action, undo });
  }

  /**
   * Undoes everything, the last step first. Continues after failures.
   * @returns the error to report: `cause`, whose details list the failed undos
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
