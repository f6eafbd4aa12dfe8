/** flock(2): one holder among all processes of the machine. The kernel releases the lock when the holder dies. */

import { check, errno, SyscallError } from './errors.ts';
import { readText } from './files.ts';
import { clock, type FileStatus, flock, open, type Sys } from './sys.ts';
import { unix } from './unix-socket.ts';

/** A holder that works needs milliseconds, or a few seconds for a full store on a slow disk. */
const defaultLimitMs = 30_000;

/** Between two attempts. It grows with the time that has passed. */
const longestPauseMs = 16;

/** The processes with a flock(2) lock on any file of this inode number, by /proc/locks (proc_locks(5)). */
function candidatesFor(sys: Sys, ino: number): number[] {
  return (readText(sys, '/proc/locks') ?? '').split('\n').flatMap((line) => {
    // 1: FLOCK ADVISORY WRITE 1234 08:01:5678 0 EOF; a waiter has "->" after the number.
    const [, kind, , , pid, file] = line.trim().split(/\s+/);
    return kind === 'FLOCK' && file?.endsWith(`:${ino}`) && Number(pid) > 0 ? [Number(pid)] : [];
  });
}

/** Whether the process runs as root or as our user, by `Uid:` in proc_pid_status(5): real, effective, saved, file system. */
function isTrusted(sys: Sys, pid: number): boolean {
  const line = (readText(sys, `/proc/${pid}/status`) ?? '').split('\n').find((each) => each.startsWith('Uid:'));
  const user = Number(line?.split(/\s+/)[2] ?? -1);
  return user === 0 || user === sys.geteuid();
}

function hasOpen(sys: Sys, pid: number, { dev, ino }: FileStatus): boolean {
  const descriptors = sys.getdents(`/proc/${pid}/fd`);
  if (typeof descriptors === 'number') return false;
  return descriptors.some((fd) => {
    const target = sys.stat(`/proc/${pid}/fd/${fd}`);
    return typeof target !== 'number' && target.dev === dev && target.ino === ino;
  });
}

/**
 * The process that holds the lock on an open file that only root can open.
 *
 * /proc/locks names files by numbers. Anybody can lock a file of another file system that has the same inode number, and
 * not every file system shows the device there that stat(2) shows. So the holder is proven: it is root's, and has this very
 * file open. The user is looked at first, because a stranger's descriptor could make the second question wait.
 * @returns undefined if none is proven, as for one in another process id namespace
 */
export function flockHolder(sys: Sys, fd: number): number | undefined {
  const file = sys.fstat(fd);
  if (typeof file === 'number') return undefined;
  try {
    return candidatesFor(sys, file.ino).find((pid) => isTrusted(sys, pid) && hasOpen(sys, pid, file));
  } catch (error) {
    // Such as ESRCH: a process has ended while it was looked at.
    if (error instanceof SyscallError) return undefined;
    throw error;
  }
}

/** `process 123 ("flock")` */
function describeHolder(sys: Sys, fd: number): string | undefined {
  const pid = flockHolder(sys, fd);
  if (pid === undefined) return undefined;
  const name = (readText(sys, `/proc/${pid}/comm`) ?? '').trim();
  return `process ${pid}${name && ` ("${name}")`}`;
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
        const holder = describeHolder(sys, fd) ?? 'another process';
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
