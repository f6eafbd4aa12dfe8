/** flock(2): one holder among all processes of the machine. The kernel releases the lock when the holder dies. */

import { check, errno, SyscallError } from './errors.ts';
import { readText } from './files.ts';
import { clock, flock, open, type Sys } from './sys.ts';
import { unix } from './unix-socket.ts';

/** A holder that works needs milliseconds, or a few seconds for a full store on a slow disk. */
const defaultLimitMs = 30_000;

/** Between two attempts. It grows with the time that has passed. */
const longestPauseMs = 16;

/** `08:01:1234`, as /proc/locks names a file (proc_locks(5)). The numbers of its device are those of makedev(3). */
function lockedFile(sys: Sys, fd: number): string | undefined {
  const status = sys.fstat(fd);
  if (typeof status === 'number') return undefined;
  const { dev, ino } = status;
  const hex = (number: number): string => number.toString(16).padStart(2, '0');
  return `${hex((dev >>> 8) & 0xfff)}:${hex((dev & 0xff) | ((dev >>> 12) & 0xfff00))}:${ino}`;
}

/** `process 123 ("flock")`; undefined where the kernel does not say it, as for a process of another namespace. */
function lockHolder(sys: Sys, fd: number): string | undefined {
  try {
    const file = lockedFile(sys, fd);
    const line = (readText(sys, '/proc/locks') ?? '')
      .split('\n')
      .find((each) => / FLOCK /.test(each) && !each.includes('->') && each.includes(` ${file} `));
    const pid = Number(/ (\d+) [0-9a-f]+:/.exec(line ?? '')?.[1] ?? 0);
    if (pid <= 0) return undefined;
    const name = (readText(sys, `/proc/${pid}/comm`) ?? '').trim();
    return `process ${pid}${name && ` ("${name}")`}`;
  } catch (error) {
    if (error instanceof SyscallError) return undefined;
    throw error;
  }
}

/**
 * Tries again and again, because flock(2) itself waits without end. Each attempt costs microseconds.
 * @throws SyscallError ETIMEDOUT, which names the holder if it is known
 */
function waitForLock(sys: Sys, fd: number, path: string, limitMs: number): void {
  const now = () => sys.clock_gettime(clock.CLOCK_MONOTONIC);
  const start = now();
  // Nothing is ever sent to it: waiting for its data is a pause.
  const quiet = check(sys.socket(unix.AF_UNIX, unix.SOCK_DGRAM, 0), ['wait for the lock', path]);
  try {
    for (;;) {
      const waitedMs = now() - start;
      if (waitedMs >= limitMs) {
        const holder = lockHolder(sys, fd) ?? 'another process';
        throw new SyscallError(['lock', path], errno.ETIMEDOUT, `${holder} has held it for ${limitMs / 1000} s`);
      }
      check(sys.poll(quiet, Math.ceil(Math.min(longestPauseMs, 1 + waitedMs / 16))), ['wait for the lock', path]);
      const locked = sys.flock(fd, flock.LOCK_EX | flock.LOCK_NB);
      if (locked !== -errno.EAGAIN) {
        check(locked, ['lock', path]);
        return;
      }
    }
  } finally {
    sys.close(quiet);
  }
}

/**
 * Runs `body` while holding the lock on `path`. The file is created (0600) if it is missing, and never removed. Not
 * recursive: a second call inside `body` waits in vain.
 * @throws SyscallError ETIMEDOUT if another holder keeps the lock for `limitMs`
 */
export function withLock<T>(sys: Sys, path: string, body: () => T, limitMs = defaultLimitMs): T {
  // O_RDWR never waits, even for a FIFO.
  const fd = check(sys.open(path, open.O_RDWR | open.O_CREAT, 0o600), ['open lock', path]);
  try {
    const locked = sys.flock(fd, flock.LOCK_EX | flock.LOCK_NB);
    if (locked === -errno.EAGAIN) waitForLock(sys, fd, path, limitMs);
    else check(locked, ['lock', path]);
    return body();
  } finally {
    // The last descriptor of the open file description: closing it unlocks.
    sys.close(fd);
  }
}
