/** Removing rules that other programs remove at the same time. */

import { isNftMissing } from '../linux/nft/connection.ts';
import { retryRace } from '../linux/nft/retry.ts';

/**
 * Looks for the rules and removes them, in one transaction of nf_tables. It fails as a whole if a rule is gone by then
 * (ENOENT) or a chain is in use (EBUSY); then `remove` looks again.
 */
export const retryRemoval = (remove: () => void): void => retryRace(remove, 'ENOENT', 'EBUSY');

/** A kernel without nf_tables has no rules to remove. */
export function unlessNftIsMissing(remove: () => void): void {
  try {
    remove();
  } catch (error) {
    if (!isNftMissing(error)) throw error;
  }
}
