/**
 * Kernel settings below /proc/sys. Those below `net` are of the calling thread's network namespace, also where the host's
 * folder is mounted at another place: a container may not write to its own /proc/sys.
 */

import { type Action, check, errno, hasCode } from './errors.ts';
import { readAll, writeAll } from './files.ts';
import { open, type Sys } from './sys.ts';

const defaultFolder = '/proc/sys';

/** The path is a list, not `net.ipv4.…`, because a segment may contain dots (an interface named `eth0.5`). */
function pathOf(segments: readonly string[], folder: string): string {
  for (const segment of segments) {
    if (segment === '' || segment === '.' || segment === '..' || segment.includes('/') || segment.includes('\0')) {
      throw new RangeError(`"${segment}" cannot be part of a sysctl's name`);
    }
  }
  return `${folder}/${segments.join('/')}`;
}

/** The value without the newline at its end, or undefined if this kernel or interface has no such setting. */
export function readSysctl(sys: Sys, segments: readonly string[], folder = defaultFolder): string | undefined {
  const path = pathOf(segments, folder);
  const fd = sys.open(path, open.O_RDONLY, 0);
  if (fd === -errno.ENOENT) return undefined;
  check(fd, ['open', path]);
  try {
    const bytes = readAll(sys, fd, 65536, ['read', path]);
    return sys.decodeUtf8(bytes.buffer as ArrayBuffer, bytes.byteOffset, bytes.byteLength).trimEnd();
  } finally {
    sys.close(fd);
  }
}

/**
 * Sets the value if it differs; returns whether it wrote. Writing the same value again costs the kernel work
 * (`forwarding` walks all interfaces), and fails needlessly if /proc/sys is read-only.
 * @throws SyscallError ENOENT if there is no such setting
 */
export function ensureSysctl(sys: Sys, segments: readonly string[], value: string, folder = defaultFolder): boolean {
  if (readSysctl(sys, segments, folder) === value) return false;
  writeSysctl(sys, segments, value, folder);
  return true;
}

/**
 * Sets the value of a link that was just made, without reading it first: the kernel's default is another value.
 * @throws SyscallError ENOENT if there is no such setting
 */
export function setNewSysctl(sys: Sys, segments: readonly string[], value: string): void {
  try {
    writeSysctl(sys, segments, value, defaultFolder);
  } catch (error) {
    // /proc/sys is read-only, and the value may be right by `net.….conf.default`.
    if (!hasCode(error, 'EROFS', 'EACCES', 'EPERM') || readSysctl(sys, segments) !== value) throw error;
  }
}

function writeSysctl(sys: Sys, segments: readonly string[], value: string, folder: string): void {
  const path = pathOf(segments, folder);
  const action: Action = ['set', path, `to "${value}"`];
  const fd = check(sys.open(path, open.O_WRONLY, 0), action);
  try {
    writeAll(sys, fd, new Uint8Array(sys.encodeUtf8(value)), action);
  } finally {
    sys.close(fd);
  }
}
