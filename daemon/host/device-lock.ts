/**
 * One weftd per tunnel device: two on one host whose networks use the same device would recreate it in turns forever.
 *
 * The lock is a socket with an abstract name (unix(7)). The kernel keeps one socket per name and network namespace, as
 * with devices, and closes it when the process ends for any reason.
 */

import { check, errno } from '../../linux/errors.ts';
import { readText } from '../../linux/files.ts';
import type { Sys } from '../../linux/sys.ts';
import { unixSocketUser } from '../../linux/unix-diag.ts';
import { encodeUnixAddress, unix } from '../../linux/unix-socket.ts';
import { processOf } from './socket-holder.ts';

/** Another weftd of this host uses the device. */
export class DeviceBusyError extends Error {
  override readonly name = 'DeviceBusyError';
}

/** The inode of the bound socket in /proc/net/unix (proc(5)); undefined if it is gone. */
function inodeOf(sys: Sys, name: string): number | undefined {
  const line = (readText(sys, '/proc/thread-self/net/unix') ?? '')
    .split('\n')
    .find((text) => text.endsWith(` @${name}`));
  const inode = Number(line?.trim().split(/\s+/)[6]);
  return inode > 0 ? inode : undefined;
}

export class DeviceLocks {
  readonly #sys: Sys;
  readonly #held = new Map<string, number>();

  constructor(sys: Sys) {
    this.#sys = sys;
  }

  /**
   * Reserves the device for this process until `close`.
   * @param advice how two networks of one host are kept apart
   * @throws DeviceBusyError
   */
  take(device: string, advice: string): void {
    if (this.#held.has(device)) return;
    const sys = this.#sys;
    const name = `weftd/${device}`;
    const fd = check(sys.socket(unix.AF_UNIX, unix.SOCK_DGRAM, 0), ['open a socket to lock', device]);
    const result = sys.bind(fd, encodeUnixAddress(sys, `@${name}`));
    if (result >= 0) {
      this.#held.set(device, fd);
      return;
    }
    sys.close(fd);
    if (result !== -errno.EADDRINUSE) check(result, ['lock', device]);
    const inode = inodeOf(sys, name);
    // Any program can take the names. One without rights must not stop weftd.
    const user = inode === undefined ? undefined : unixSocketUser(sys, inode);
    if (user !== undefined && user !== 0) return;
    const pid = inode === undefined ? undefined : processOf(sys, inode);
    throw new DeviceBusyError(
      `Another weftd${pid === undefined ? '' : ` (process ${pid})`} of this host uses "${device}": stop one of them, or ${advice}`,
    );
  }

  close(): void {
    for (const fd of this.#held.values()) this.#sys.close(fd);
    this.#held.clear();
  }
}
