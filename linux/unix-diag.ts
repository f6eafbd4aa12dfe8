/** The owner of a unix socket: include/uapi/linux/sock_diag.h and unix_diag.h. The query needs no privileges. */

import { hasCode } from './errors.ts';
import { makeQuery, openNetlink } from './netlink/connection.ts';
import type { Sys } from './sys.ts';
import { unix } from './unix-socket.ts';

const NETLINK_SOCK_DIAG = 4;
const SOCK_DIAG_BY_FAMILY = 20;
const UDIAG_SHOW_UID = 0x40;
const UNIX_DIAG_UID = 7;
/** `struct unix_diag_msg` */
const messageBytes = 16;
/** INET_DIAG_NOCOOKIE: the inode number alone identifies the socket. */
const noCookie = 0xffffffff;

/**
 * The user who owns a unix socket, by the socket's inode number.
 * @returns undefined if there is no such socket, or if the kernel does not report the user (before Linux 5.3, or
 *   without unix_diag)
 */
export function unixSocketUser(sys: Sys, inode: number): number | undefined {
  const connection = openNetlink(sys, { protocol: NETLINK_SOCK_DIAG });
  try {
    return connection.get(
      makeQuery(
        SOCK_DIAG_BY_FAMILY,
        () => `find out whose unix socket ${inode} is`,
        (writer) => {
          // struct unix_diag_req: family, protocol, padding, states, inode, what to show, cookie
          writer.u8(unix.AF_UNIX);
          writer.u8(0);
          writer.u16(0);
          for (const word of [noCookie, inode, UDIAG_SHOW_UID, noCookie, noCookie]) writer.u32(word);
        },
        (_type, body) => {
          const r = body.attributes(messageBytes, 'unix socket');
          while (r.next()) if (r.type === UNIX_DIAG_UID) return r.u32();
          return undefined;
        },
      ),
    );
  } catch (error) {
    if (hasCode(error, 'EINVAL', 'EOPNOTSUPP', 'EPROTONOSUPPORT')) return undefined;
    throw error;
  } finally {
    connection.close();
  }
}
