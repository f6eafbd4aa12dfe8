/** Changing chains that other programs change at the same time. */

import { type ErrnoName, hasCode } from '../errors.ts';

const attempts = 8;

/**
 * Runs `work` again, at once, if it failed with one of the codes. `work` looks at the chain and changes it in one
 * transaction, which fails as a whole if somebody else has changed the chain in between.
 */
export function retryRace<T>(work: () => T, ...codes: ErrnoName[]): T {
  for (let attempt = 1; ; attempt++) {
    try {
      return work();
    } catch (error) {
      if (attempt === attempts || !hasCode(error, ...codes)) throw error;
    }
  }
}
