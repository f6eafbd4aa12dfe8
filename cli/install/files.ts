/**
 * Files put in place whole: written beside their name, made durable, then renamed over it. Whoever opens the name gets the
 * old file or the new one, also after a power cut. A link at the name is replaced and never followed.
 */

import {
  chmodSync,
  closeSync,
  constants,
  copyFileSync,
  fchmodSync,
  fsyncSync,
  linkSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readSync,
  renameSync,
  statSync,
  unlinkSync,
  writeSync,
} from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { CliError, type CliHost } from '../host.ts';

const temporaryPrefix = '.weft-new-';

/** An unfinished file of an installation that was killed. A running one is done long before. */
const abandonedMs = 3_600_000;

const smallBytes = 64 * 1024;

const codeOf = (error: unknown): string => (error as NodeJS.ErrnoException).code ?? String(error);

/** A failed file operation as one line. */
export function fileError(doing: string, path: string, error: unknown): CliError {
  if (error instanceof CliError) return error;
  const code = codeOf(error);
  const advice =
    code === 'EROFS'
      ? ': it is on a read-only file system; name another folder'
      : code === 'EACCES' || code === 'EPERM'
        ? ': permission denied; run it as root'
        : code === 'ENOSPC'
          ? ': no space is left there'
          : `: ${code}`;
  return new CliError(`Cannot ${doing} "${path}"${advice}`, [], error);
}

export type Kind = 'missing' | 'file' | 'folder' | 'link' | 'other';

/** What is at the name itself. @throws CliError */
export function kindOf(path: string): Kind {
  try {
    const status = lstatSync(path, { throwIfNoEntry: false });
    if (!status) return 'missing';
    if (status.isFile()) return 'file';
    if (status.isDirectory()) return 'folder';
    return status.isSymbolicLink() ? 'link' : 'other';
  } catch (error) {
    if (codeOf(error) === 'ENOTDIR') return 'missing';
    throw fileError('look at', path, error);
  }
}

/** A regular file's text, also behind a link; undefined if there is none. @throws CliError */
export function readSmallFile(path: string, limitBytes: number): string | undefined {
  return readBytes(path, limitBytes)?.toString('utf8');
}

/** @throws CliError for a file that is no regular one, or that is larger */
export function readBytes(path: string, limitBytes: number): Buffer | undefined {
  let fd: number;
  try {
    // A FIFO would make the call wait without O_NONBLOCK.
    fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  } catch (error) {
    if (codeOf(error) === 'ENOENT' || codeOf(error) === 'ENOTDIR') return undefined;
    throw fileError('read', path, error);
  }
  try {
    const status = statSync(`/proc/self/fd/${fd}`);
    if (!status.isFile()) throw new CliError(`Cannot read "${path}": it is no regular file`);
    // Files in /proc tell no size.
    const buffer = Buffer.alloc(Math.min(limitBytes, Math.max(status.size, smallBytes)) + 1);
    let length = 0;
    for (;;) {
      const got = readSync(fd, buffer, length, buffer.length - length, null);
      if (got === 0) return buffer.subarray(0, length);
      length += got;
      if (length === buffer.length) throw new CliError(`Cannot read "${path}": it has more than ${limitBytes} bytes`);
    }
  } catch (error) {
    throw fileError('read', path, error);
  } finally {
    closeSync(fd);
  }
}

/** Makes a folder's entries durable. */
export function syncFolder(folder: string): void {
  const fd = openSync(folder, constants.O_RDONLY | constants.O_DIRECTORY);
  try {
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}

/** Makes the folder and those above it. @returns the folders that were missing, the outermost first */
export function ensureFolder(folder: string): string[] {
  const made: string[] = [];
  for (let at = folder; kindOf(at) === 'missing'; at = dirname(at)) made.unshift(at);
  try {
    for (const each of made) {
      mkdirSync(each, { mode: 0o755 });
      chmodSync(each, 0o755);
    }
    if (!statSync(folder).isDirectory()) throw new CliError(`Cannot use "${folder}": it is no folder`);
  } catch (error) {
    throw fileError('make the folder', folder, error);
  }
  return made;
}

/** Unfinished files beside the names that they were for. One instance puts files into one folder. */
export class Placing {
  readonly folder: string;
  readonly #token: string;
  readonly #temporary = new Map<string, string>();

  constructor(folder: string, host: Pick<CliHost, 'random'>) {
    this.folder = folder;
    // Two installations at once must not write into one file.
    this.#token = `${process.pid}-${Math.floor(host.random() * 2 ** 48).toString(16)}`;
  }

  /** Copies a file. Nobody sees it before `finish`. @throws CliError */
  addCopy(name: string, source: string, mode: number): void {
    this.#add(name, (path) => {
      copyFileSync(source, path, constants.COPYFILE_EXCL);
      chmodSync(path, mode);
      const fd = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW);
      try {
        fsyncSync(fd);
      } finally {
        closeSync(fd);
      }
    });
  }

  /** @throws CliError */
  addBytes(name: string, bytes: Uint8Array, mode: number): void {
    this.#add(name, (path) => {
      const fd = openSync(path, constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW, mode);
      try {
        for (let at = 0; at < bytes.length; ) at += writeSync(fd, bytes, at);
        fchmodSync(fd, mode);
        fsyncSync(fd);
      } finally {
        closeSync(fd);
      }
    });
  }

  /** Another name for a file that was added; a copy where the file system has no hard links. @throws CliError */
  addLink(name: string, added: string, mode: number): void {
    const source = this.#temporary.get(added)!;
    try {
      this.#add(name, (path) => linkSync(source, path));
    } catch (error) {
      const code = codeOf((error as CliError).cause);
      if (code !== 'EPERM' && code !== 'EMLINK' && code !== 'ENOTSUP' && code !== 'EOPNOTSUPP') throw error;
      this.addCopy(name, source, mode);
    }
  }

  #add(name: string, write: (path: string) => void): void {
    const path = join(this.folder, `${temporaryPrefix}${this.#token}-${name}`);
    try {
      this.#temporary.set(name, path);
      write(path);
    } catch (error) {
      throw fileError('write', join(this.folder, name), error);
    }
  }

  /** Gives the files their names. @throws CliError that says which names have the new file */
  finish(): void {
    const done: string[] = [];
    for (const [name, path] of this.#temporary) {
      try {
        renameSync(path, join(this.folder, name));
      } catch (error) {
        const failed = fileError('replace', join(this.folder, name), error);
        throw done.length === 0 ? failed : new CliError(`${failed.message}; these are new already: ${done.join(', ')}`);
      }
      this.#temporary.delete(name);
      done.push(name);
    }
    syncFolder(this.folder);
  }

  /** Removes what was not finished. */
  abandon(): void {
    for (const path of this.#temporary.values()) removeQuietly(path);
  }
}

function removeQuietly(path: string): void {
  try {
    unlinkSync(path);
  } catch {
    // It is not there, or the folder cannot be written any more: it is in nobody's way.
  }
}

/** Removes the unfinished files of installations that were killed. */
export function removeAbandoned(folder: string, nowMs: number): void {
  removeUnfinished(folder, (ctimeMs) => nowMs - ctimeMs > abandonedMs);
}

/** @param isMeant by the time of a file's last change */
export function removeUnfinished(folder: string, isMeant: (ctimeMs: number) => boolean = () => true): void {
  if (kindOf(folder) !== 'folder') return;
  for (const name of readdirSync(folder)) {
    if (!name.startsWith(temporaryPrefix)) continue;
    const path = join(folder, name);
    const status = lstatSync(path, { throwIfNoEntry: false });
    if (status?.isFile() && isMeant(status.ctimeMs)) removeQuietly(path);
  }
}

/** Puts one file in place. @throws CliError */
export function putFile(path: string, bytes: Uint8Array, mode: number, host: Pick<CliHost, 'random'>): void {
  const placing = new Placing(dirname(path), host);
  try {
    placing.addBytes(basename(path), bytes, mode);
    placing.finish();
  } finally {
    placing.abandon();
  }
}
