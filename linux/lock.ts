/** flock(2): one holder among all processes of the machine. The kernel releases the lock when the holder dies. */

import { check } from './errors.ts';
import { flock, open, type Sys } from './sys.ts';

/**
 * Runs `body` while holding the lock on `path`. The file is created (0600) if it is missing, and never removed. Waits
 * for other holders without a limit. Not recursive: a second call inside `body` deadlocks.
 */
export function withLock<T>(sys: Sys, path: string, body: () => T): T {
  const fd = check(sys.open(path, open.O_RDWR | open.O_CREAT, 0o600), ['open lock', path]);
  try {
    check(sys.flock(fd, flock.LOCK_EX), ['lock', path]);
    return body();
  } finally {
    // The last descriptor of the open file description: closing it unlocks.
    sys.close(fd);
  }
}
