/**
 * One weftd per tunnel device: two on one host whose networks use the same device would recreate it in turns forever.
 *
 * The lock is a socket with an abstract name (unix(7)). As with devices, the kernel keeps one per network namespace, and it
 * closes the socket when the process ends for any reason. A file could be in another mount namespace than the other
 * weftd's.
 *
 * Any program can take such a name. So only sockets of root count, and the kernel is asked whose they are. If somebody else
 * has the name, weftd adds a random ending that nobody can foresee, and looks for other such sockets of root afterwards: of
 * two weftds that do so at once, at least one sees the other.
 */

import { check, errno } from '../../linux/errors.ts';
import { readText } from '../../linux/files.ts';
import type { Sys } from '../../linux/sys.ts';
import { dumpUnixSockets, type UnixSocket } from '../../linux/unix-diag.ts';
import { encodeUnixAddress, unix } from '../../linux/unix-socket.ts';
import { processOf } from './socket-holder.ts';

/** Another weftd of this host uses the device. */
export class DeviceBusyError extends Error {
  override readonly name = 'DeviceBusyError';
}

/** Root, or the user that this weftd runs as. */
const isTrusted = (sys: Sys, { user }: UnixSocket): boolean =>
  user === undefined || user === 0 || user === sys.geteuid();

/** `process 77 ("nc") of user 1000` */
function describeHolder(sys: Sys, { inode, user }: UnixSocket): string {
  const pid = processOf(sys, inode);
  const name = pid === undefined ? undefined : readText(sys, `/proc/${pid}/comm`)?.trim();
  return `${pid === undefined ? 'a process' : `process ${pid}`}${name ? ` ("${name}")` : ''} of user ${user}`;
}

export class DeviceLocks {
  readonly #sys: Sys;
  readonly #onSquatter: (message: string) => void;
  readonly #held = new Map<string, number>();

  /** @param onSquatter called if a program without rights has taken a name of the locks */
  constructor(sys: Sys, onSquatter: (message: string) => void) {
    this.#sys = sys;
    this.#onSquatter = onSquatter;
  }

  /**
   * Reserves the device for this process until `close`.
   * @param advice how two networks of one host are kept apart
   * @throws DeviceBusyError
   */
  take(device: string, advice: string): void {
    if (this.#held.has(device)) return;
    const sys = this.#sys;
    const name = `@weftd/${device}`;
    const busy = (holder?: UnixSocket): DeviceBusyError => {
      const pid = holder && processOf(sys, holder.inode);
      return new DeviceBusyError(
        `Another weftd${pid === undefined ? '' : ` (process ${pid})`} of this host uses "${device}": stop one of them, or ${advice}`,
      );
    };
    let ownName = name;
    let fd = this.#bind(name);
    if (fd === undefined) {
      const sockets = dumpUnixSockets(sys);
      // It may have ended meanwhile; the next attempt succeeds then.
      const holder = sockets?.find((each) => each.name === name);
      if (!holder || isTrusted(sys, holder)) throw busy(holder);
      this.#onSquatter(
        `${describeHolder(sys, holder)} has the name of weftd's lock for "${device}"; weftd uses another name`,
      );
      ownName = `${name}/${randomEnding(sys)}`;
      fd = this.#bind(ownName);
      if (fd === undefined) throw busy();
    }
    const other = dumpUnixSockets(sys)?.find(
      (each) =>
        (each.name === name || each.name.startsWith(`${name}/`)) && each.name !== ownName && isTrusted(sys, each),
    );
    if (other) {
      sys.close(fd);
      throw busy(other);
    }
    this.#held.set(device, fd);
  }

  /** @returns the socket; undefined if somebody has the name */
  #bind(name: string): number | undefined {
    const sys = this.#sys;
    const fd = check(sys.socket(unix.AF_UNIX, unix.SOCK_DGRAM, 0), ['open a socket to lock', name]);
    const result = sys.bind(fd, encodeUnixAddress(sys, name));
    if (result >= 0) return fd;
    sys.close(fd);
    if (result !== -errno.EADDRINUSE) check(result, ['lock', name]);
    return undefined;
  }

  close(): void {
    for (const fd of this.#held.values()) this.#sys.close(fd);
    this.#held.clear();
  }
}

function randomEnding(sys: Sys): string {
  const bytes = new ArrayBuffer(8);
  check(sys.getrandom(bytes, 0, bytes.byteLength), 'get random bytes');
  return [...new Uint8Array(bytes)].map((byte) => byte.toString(16).padStart(2, '0')).join('');
}
