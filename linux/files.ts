/**
 * Whole files by the `Sys` port: read, write atomically, make folders. Errors are SyscallErrors that name the path.
 *
 * A path may lead to anything, and nothing that it leads to makes the caller wait: files are opened with O_NONBLOCK,
 * which has no effect on regular files, and what gives no data is looked at.
 */

import { withoutTrailing } from '../net/text.ts';
import { type Action, check, errno, formatAction, SyscallError } from './errors.ts';
import { open, type Sys, stat } from './sys.ts';

/** More than any configuration, state file or plugin result should ever be. */
const defaultLimitBytes = 16 * 1024 * 1024;

/**
 * Reads until the end of file. If the descriptor is non-blocking and has no data yet, waits for it: a runtime may pass
 * such a pipe.
 * @param action for errors
 * @param waits false: data that is not there yet is an error
 * @throws SyscallError EFBIG where there are more than `limitBytes`
 */
export function readAll(
  sys: Sys,
  fd: number,
  limitBytes: number,
  action: Action = ['read descriptor', fd],
  waits = true,
): Uint8Array {
  let buffer = new ArrayBuffer(Math.min(4096, limitBytes + 1));
  let length = 0;
  for (;;) {
    const got = sys.read(fd, buffer, length, buffer.byteLength - length);
    if (got === 0) return new Uint8Array(buffer, 0, length);
    if (got === -errno.EAGAIN && waits) {
      check(sys.poll(fd, -1), `wait to ${formatAction(action)}`);
      continue;
    }
    length += check(got, action);
    if (length > limitBytes)
      throw new SyscallError(`${formatAction(action)} of more than ${limitBytes} bytes`, errno.EFBIG);
    if (length === buffer.byteLength) {
      const larger = new ArrayBuffer(Math.min(buffer.byteLength * 4, limitBytes + 1));
      new Uint8Array(larger).set(new Uint8Array(buffer));
      buffer = larger;
    }
  }
}

/** Writes all of `bytes`. @param action for errors */
export function writeAll(sys: Sys, fd: number, bytes: Uint8Array, action: Action = ['write descriptor', fd]): void {
  const buffer = bytes.buffer as ArrayBuffer;
  const end = bytes.byteOffset + bytes.byteLength;
  for (let at = bytes.byteOffset; at < end; ) {
    const written = sys.write(fd, buffer, at, end - at);
    // The pipe is full and non-blocking. `poll` can wait for readability only, so wait a moment and try again.
    if (written === -errno.EAGAIN) sys.poll(fd, 1);
    else at += check(written, action);
  }
}

/** Tells a person one line, if stderr is there. */
export function sayOnStderr(sys: Sys, line: string): void {
  try {
    writeAll(sys, 2, new Uint8Array(sys.encodeUtf8(`${line}\n`)));
  } catch {
    // Nobody listens.
  }
}

const typeNames: Readonly<Record<number, string>> = {
  [stat.S_IFREG]: 'a regular file',
  [stat.S_IFDIR]: 'a folder',
  [stat.S_IFIFO]: 'a FIFO',
  [stat.S_IFSOCK]: 'a socket',
  [stat.S_IFCHR]: 'a character device',
  [stat.S_IFBLK]: 'a block device',
};

/** The type in st_mode, for messages: `a folder`. */
export const fileTypeName = (mode: number): string => typeNames[mode & stat.S_IFMT] ?? 'no regular file';

/** A FIFO without a writer looks empty. /dev/null stands for an empty file, and often hides one. */
function checkCanBeEmpty(sys: Sys, fd: number, path: string): void {
  const { mode } = check(sys.fstat(fd), ['stat', path]);
  const type = mode & stat.S_IFMT;
  if (type === stat.S_IFREG || type === stat.S_IFCHR) return;
  throw new SyscallError(['read', path], errno.EINVAL, `it is ${fileTypeName(mode)}`);
}

/**
 * The file's bytes, or undefined if the file or its folder does not exist.
 * @throws SyscallError EFBIG for more than `limitBytes`, EISDIR for a folder, EINVAL for a FIFO, EAGAIN for a FIFO or a
 *   terminal that somebody writes to
 */
export function readFile(sys: Sys, path: string, limitBytes = defaultLimitBytes): Uint8Array | undefined {
  const fd = sys.open(path, open.O_RDONLY | open.O_NONBLOCK, 0);
  if (fd === -errno.ENOENT || fd === -errno.ENOTDIR) return undefined;
  check(fd, ['open', path]);
  try {
    const bytes = readAll(sys, fd, limitBytes, ['read', path], false);
    if (bytes.length === 0) checkCanBeEmpty(sys, fd, path);
    return bytes;
  } finally {
    sys.close(fd);
  }
}

/** The file's text (UTF-8), or undefined if the file does not exist. */
export function readText(sys: Sys, path: string, limitBytes = defaultLimitBytes): string | undefined {
  const bytes = readFile(sys, path, limitBytes);
  return bytes && sys.decodeUtf8(bytes.buffer as ArrayBuffer, bytes.byteOffset, bytes.byteLength);
}

/**
 * Replaces the file by `text`. Readers see the old or the new text and never a part, even after a power cut. `mode` is
 * the file's permission bits (less the umask). Nothing is left behind on failure.
 */
export function writeFileAtomic(sys: Sys, path: string, text: string, mode: number): void {
  // Two writers of one process cannot overlap, because the calls are synchronous. Two processes have different ids.
  const bytes = new Uint8Array(sys.encodeUtf8(text));
  if (bytes.length > defaultLimitBytes) {
    const limit = `it would have ${bytes.length} bytes, and at most ${defaultLimitBytes} are read`;
    throw new SyscallError(['write', path], errno.EFBIG, limit);
  }
  const temporary = `${path}.${sys.getpid()}.tmp`;
  const flags = open.O_WRONLY | open.O_CREAT | open.O_TRUNC | open.O_NOFOLLOW | open.O_NONBLOCK;
  const fd = check(sys.open(temporary, flags, mode), ['create', temporary]);
  let closed = false;
  try {
    writeAll(sys, fd, bytes, ['write', temporary]);
    check(sys.fsync(fd), ['write', temporary, 'to disk']);
    closed = true;
    check(sys.close(fd), ['close', temporary]);
    check(sys.rename(temporary, path), ['rename', temporary, `to "${path}"`]);
  } catch (error) {
    if (!closed) sys.close(fd);
    sys.unlink(temporary);
    throw error;
  }
}

/** Makes the folder and its missing parents. It is no error if the folder exists. */
export function ensureDirectory(sys: Sys, path: string, mode: number): void {
  const made = sys.mkdir(path, mode);
  if (made === 0) return;
  if (made === -errno.ENOENT) {
    const named = withoutTrailing(path, '/');
    const parent = withoutTrailing(named.slice(0, named.lastIndexOf('/') + 1), '/');
    if (parent !== '' && parent !== path) {
      ensureDirectory(sys, parent, mode);
      const again = sys.mkdir(path, mode);
      if (again !== -errno.EEXIST) check(again, ['make folder', path]);
      return;
    }
  }
  // On a read-only file system mkdir returns EROFS even if the folder exists.
  if (made === -errno.EEXIST || made === -errno.EROFS) {
    const status = sys.stat(path);
    if (typeof status !== 'number') {
      if ((status.mode & 0o170000) === 0o040000) return;
      throw new SyscallError(['make folder', path], errno.ENOTDIR);
    }
  }
  check(made, ['make folder', path]);
}
