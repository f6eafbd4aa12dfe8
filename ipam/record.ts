/**
 * Reads one file of the address store. Its name says that it is a small text file; what lies there may be anything, and
 * must neither stop the caller nor make it wait.
 */

import { check, errno, hasCode } from '../linux/errors.ts';
import { fileTypeName, readAll } from '../linux/files.ts';
import { open, type Sys, stat } from '../linux/sys.ts';

/** The entry is there, and is not a record. */
export interface ForeignEntry {
  /** `a folder` */
  readonly reason: string;
}

/** An id and an interface's name, with room. A longer record is read in a second step. */
export const recordBytes = 4096;

/** An id comes from an environment variable, which has at most 128 KiB (MAX_ARG_STRLEN, include/uapi/linux/binfmts.h). */
const longestRecordBytes = 256 * 1024;

/**
 * A record's text; undefined if there is none.
 * @param buffer of `recordBytes`, for many calls
 * @throws SyscallError if a record cannot be read
 */
export function readRecord(sys: Sys, path: string, buffer: ArrayBuffer): string | ForeignEntry | undefined {
  // A FIFO without a writer would wait for one.
  const fd = sys.open(path, open.O_RDONLY | open.O_NONBLOCK, 0);
  if (fd === -errno.ENOENT) return undefined;
  // A socket, and a link to itself.
  if (fd === -errno.ENXIO || fd === -errno.ELOOP) return { reason: 'no regular file' };
  check(fd, ['open', path]);
  try {
    const got = sys.read(fd, buffer, 0, recordBytes);
    // A device that gives data without end becomes too large.
    if (got === recordBytes) return readRest(sys, fd, path, buffer);
    if (got > 0) return sys.decodeUtf8(buffer, 0, got);
    const { mode } = check(sys.fstat(fd), ['stat', path]);
    if ((mode & stat.S_IFMT) !== stat.S_IFREG) return { reason: fileTypeName(mode) };
    check(got, ['read', path]);
    return '';
  } finally {
    sys.close(fd);
  }
}

/** `buffer` is full. */
function readRest(sys: Sys, fd: number, path: string, buffer: ArrayBuffer): string | ForeignEntry {
  try {
    const rest = readAll(sys, fd, longestRecordBytes, ['read', path], false);
    const whole = new Uint8Array(recordBytes + rest.length);
    whole.set(new Uint8Array(buffer, 0, recordBytes));
    whole.set(rest, recordBytes);
    return sys.decodeUtf8(whole.buffer, 0, whole.length);
  } catch (error) {
    if (hasCode(error, 'EFBIG')) return { reason: `larger than ${longestRecordBytes / 1024} KiB` };
    throw error;
  }
}
