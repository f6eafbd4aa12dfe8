/**
 * One weftd a tunnel device: two on one host whose networks have the same VNI would make it anew in turns for ever.
 *
 * The lock is a socket with an abstract name (unix(7)): the kernel keeps one of a name in a network namespace, as it
 * does devices, and gives it up when its process ends, however it does.
 */

import { check, errno } from '../../linux/errors.ts';
import { readText } from '../../linux/files.ts';
import type { Sys } from '../../linux/sys.ts';
import { unixSocketUser } from '../../linux/unix-diag.ts';
import { encodeUnixAddress, unix } from '../../linux/unix-socket.ts';

/** Another weftd of this host keeps the device. */
export class DeviceBusyError extends Error {
  override readonly name = 'DeviceBusyError';
}

/** The number of the bound socket in /proc/net/unix (proc(5)); undefined where it is gone. */
function inodeOf(sys: Sys, name: string): number | undefined {
  const line = (readText(sys, '/proc/thread-self/net/unix') ?? '')
    .split('\n')
    .find((text) => text.endsWith(` @${name}`));
  const inode = Number(line?.trim().split(/\s+/)[6]);
  return inode > 0 ? inode : undefined;
}

/** The process that has the socket; undefined where that cannot be seen from here. */
function processOf(sys: Sys, inode: number): number | undefined {
  const processes = sys.getdents('/proc');
  if (typeof processes === 'number') return undefined;
  for (const pid of processes) {
    const descriptors = /^\d+$/.test(pid) ? sys.getdents(`/proc/${pid}/fd`) : 0;
    if (typeof descriptors === 'number') continue;
    if (descriptors.some((fd) => sys.readlink(`/proc/${pid}/fd/${fd}`) === `socket:[${inode}]`)) return Number(pid);
  }
  return undefined;
}

export class DeviceLocks {
  private readonly sys: Sys;
  private readonly held = new Map<string, number>();

  constructor(sys: Sys) {
    this.sys = sys;
  }

  /**
   * Keeps the device to this process until `close`.
   * @throws DeviceBusyError
   */
  take(device: string): void {
    if (this.held.has(device)) return;
    const { sys } = this;
    const name = `weftd/${device}`;
    const fd = check(sys.socket(unix.AF_UNIX, unix.SOCK_DGRAM, 0), ['open a socket to lock', device]);
    const result = sys.bind(fd, encodeUnixAddress(sys, `@${name}`));
    if (result >= 0) {
      this.held.set(device, fd);
      return;
    }
    sys.close(fd);
    if (result !== -errno.EADDRINUSE) check(result, ['lock', device]);
    const inode = inodeOf(sys, name);
    // The names are anybody's to take: a program without rights must not be able to keep weftd from its work.
    const user = inode === undefined ? undefined : unixSocketUser(sys, inode);
    if (user !== undefined && user !== 0) return;
    const pid = inode === undefined ? undefined : processOf(sys, inode);
    throw new DeviceBusyError(
      `Another weftd${pid === undefined ? '' : ` (process ${pid})`} of this host keeps "${device}": stop one of them, or give one of the networks another Backend.VNI`,
    );
  }

  close(): void {
    for (const fd of this.held.values()) this.sys.close(fd);
    this.held.clear();
  }
}
