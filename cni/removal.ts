/** Removing what others remove at the same time. */

import { hasCode } from '../linux/errors.ts';

const attempts = 8;

/**
 * Looks for what is to go and removes it, in one transaction of nf_tables: what is gone meanwhile (ENOENT) or has come
 * (EBUSY) makes a whole one fail, and then `remove` looks again.
 */
export function retryRemoval(remove: () => void): void {
  for (let attempt = 1; ; attempt++) {
    try {
      remove();
      return;
    } catch (error) {
      if (!hasCode(error, 'ENOENT', 'EBUSY') || attempt === attempts) throw error;
    }
  }
}
