/** Whose a unix socket is: include/uapi/linux/sock_diag.h and unix_diag.h. Asking takes no rights. */

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
/** INET_DIAG_NOCOOKIE: the number alone says which. */
const noCookie = 0xffffffff;

/**
 * The user that a unix socket belongs to, by its inode number.
 * @returns undefined where there is no such socket, or the kernel does not tell (before Linux 5.3, or without unix_diag)
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
