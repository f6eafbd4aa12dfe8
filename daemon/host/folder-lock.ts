/**
 * Locks on the folders that only one weftd may use. Each has a lock file with the process id, and the kernel releases the
 * locks when the process ends. Two weftds with the same state folder would mistake each other's devices for their own.
 *
 * `weftd --leave` ends the weftd that holds the lock, so the holder must be proven: see `flockHolder`. It must also run
 * weftd's executable.
 */

import { check, errno } from '../../linux/errors.ts';
import { ensureDirectory, writeAll } from '../../linux/files.ts';
import { flockHolder } from '../../linux/lock.ts';
import { flock, open, type Sys } from '../../linux/sys.ts';
import type { FilePaths } from './files.ts';

/** Somebody has locked the file: another weftd, as a rule. */
interface Holder {
  readonly pid: number;
  readonly isWeftd: boolean;
}

/** Another weftd uses one of the folders. */
export class FolderBusyError extends Error {
  override readonly name = 'FolderBusyError';
  /** The process id of the other weftd, if it is known for certain. */
  readonly pid: number | undefined;

  constructor(folder: string, option: string, holder: Holder | undefined) {
    const who =
      holder && !holder.isWeftd
        ? `Process ${holder.pid}, which is no weftd, has locked`
        : `Another weftd${holder ? ` (process ${holder.pid})` : ''} uses`;
    super(`${who} "${folder}"; stop it first, or give another folder by ${option}`);
    this.pid = holder?.isWeftd ? holder.pid : undefined;
  }
}

export interface FolderLock {
  release(): void;
}

/** The name of the executable; one that was replaced by an upgrade is "deleted". */
function executableOf(sys: Sys, pid: number | 'self'): string | undefined {
  const path = sys.readlink(`/proc/${pid}/exe`);
  return typeof path === 'string' ? path.slice(path.lastIndexOf('/') + 1).replace(/ \(deleted\)$/, '') : undefined;
}

/** The holder's id as this process sees it. The id in the file may be that of another process id namespace. */
function holderOf(sys: Sys, fd: number): Holder | undefined {
  const pid = flockHolder(sys, fd);
  if (pid === undefined) return undefined;
  const executable = executableOf(sys, pid);
  return { pid, isWeftd: executable !== undefined && executable === executableOf(sys, 'self') };
}

function lockFolder(sys: Sys, folder: string, path: string, option: string): FolderLock {
  ensureDirectory(sys, folder, 0o755);
  // Every program that can read a file can lock it, so only root may read it.
  const fd = check(sys.open(path, open.O_RDWR | open.O_CREAT, 0o600), ['open', path]);
  try {
    const locked = sys.flock(fd, flock.LOCK_EX | flock.LOCK_NB);
    if (locked === -errno.EAGAIN) throw new FolderBusyError(folder, option, holderOf(sys, fd));
    check(locked, ['lock', path]);
    check(sys.ftruncate(fd, 0), ['write', path]);
    writeAll(sys, fd, new Uint8Array(sys.encodeUtf8(`${sys.getpid()}\n`)), ['write', path]);
  } catch (error) {
    sys.close(fd);
    throw error;
  }
  // The file stays, because another weftd may have just opened it.
  return { release: () => void sys.close(fd) };
}

/** @throws FolderBusyError */
export function lockFolders(sys: Sys, { runDir, stateDir }: Pick<FilePaths, 'runDir' | 'stateDir'>): FolderLock {
  const run = lockFolder(sys, runDir, `${runDir}/weftd.pid`, '--run-dir');
  try {
    const state = lockFolder(sys, stateDir, `${stateDir}/weftd.lock`, '--state-dir');
    return {
      release() {
        state.release();
        run.release();
      },
    };
  } catch (error) {
    run.release();
    throw error;
  }
}
