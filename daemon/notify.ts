/** sd_notify(3): tells systemd that weftd is ready, or stops, where the unit is of `Type=notify`. */

import { check } from '../linux/errors.ts';
import type { Sys } from '../linux/sys.ts';

/** include/linux/socket.h, include/linux/net.h, include/uapi/linux/un.h */
const unix = { AF_UNIX: 1, SOCK_DGRAM: 2, pathBytes: 108 } as const;

/** `struct sockaddr_un`. A path that begins with `@` is an abstract name. */
function socketAddress(sys: Sys, path: string): ArrayBuffer {
  const bytes = new Uint8Array(sys.encodeUtf8(path));
  if (bytes.length >= unix.pathBytes) throw new RangeError(`"${path}" is too long for a socket's name`);
  const address = new Uint8Array(2 + bytes.length);
  address[0] = unix.AF_UNIX;
  address.set(bytes, 2);
  if (path.startsWith('@')) address[2] = 0;
  return address.buffer;
}

/**
 * @param path of NOTIFY_SOCKET; nothing is sent where it is not set
 * @param state such as `READY=1`
 * @throws SyscallError where nobody takes it
 */
export function notifyServiceManager(sys: Sys, path: string | undefined, state: string): void {
  if (path === undefined || path === '') return;
  const fd = check(sys.socket(unix.AF_UNIX, unix.SOCK_DGRAM, 0), 'open a socket for NOTIFY_SOCKET');
  try {
    const message = sys.encodeUtf8(state);
    check(
      sys.sendto(fd, message, 0, message.byteLength, 0, socketAddress(sys, path)),
      `tell "${state}" to NOTIFY_SOCKET "${path}"`,
    );
  } finally {
    sys.close(fd);
  }
}
