/** Addresses of unix(7) sockets. */

import type { Sys } from './sys.ts';

/** include/linux/socket.h, include/linux/net.h */
export const unix = { AF_UNIX: 1, SOCK_DGRAM: 2, MSG_DONTWAIT: 0x40 } as const;

/** include/uapi/linux/un.h */
const UNIX_PATH_MAX = 108;

/**
 * `struct sockaddr_un`.
 * @param path one that begins with `@` is an abstract name
 * @throws RangeError where it does not fit
 */
export function encodeUnixAddress(sys: Sys, path: string): ArrayBuffer {
  const bytes = new Uint8Array(sys.encodeUtf8(path));
  if (bytes.length >= UNIX_PATH_MAX) throw new RangeError(`"${path}" is too long for a socket's name`);
  const address = new Uint8Array(2 + bytes.length);
  address[0] = unix.AF_UNIX;
  address.set(bytes, 2);
  if (path.startsWith('@')) address[2] = 0;
  return address.buffer;
}
