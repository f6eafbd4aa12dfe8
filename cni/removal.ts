/** Removing rules that other programs remove at the same time. */

import { retryRace } from '../linux/nft/retry.ts';

/**
 * Looks for the rules and removes them, in one transaction of nf_tables. It fails as a whole if a rule is gone by then
 * (ENOENT) or a chain is in use (EBUSY); then `remove` looks again.
 */
export const retryRemoval = (remove: () => void): void => retryRace(remove, 'ENOENT', 'EBUSY');
