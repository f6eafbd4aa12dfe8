/** The unix sockets of a network namespace: include/uapi/linux/sock_diag.h and unix_diag.h. The query needs no privileges. */

import { hasCode } from './errors.ts';
import { makeQuery, openNetlink } from './netlink/connection.ts';
import type { Sys } from './sys.ts';
import { unix } from './unix-socket.ts';

const NETLINK_SOCK_DIAG = 4;
const SOCK_DIAG_BY_FAMILY = 20;
const UDIAG_SHOW_NAME = 0x01;
const UDIAG_SHOW_UID = 0x40;
const UNIX_DIAG_NAME = 0;
const UNIX_DIAG_UID = 7;
/** `struct unix_diag_msg`: family, type, state, padding, inode, cookie */
const messageBytes = 16;
const inodeOffset = 4;
const allStates = 0xffffffff;

/** A unix socket with a name. */
export interface UnixSocket {
  readonly inode: number;
  /** As `encodeUnixAddress` takes it: an abstract name begins with `@`. */
  readonly name: string;
  /** The user who made it; undefined if the kernel does not report that (before Linux 5.3). */
  readonly user: number | undefined;
}

/** @returns undefined if the kernel cannot be asked: it has no unix_diag */
export function dumpUnixSockets(sys: Sys): UnixSocket[] | undefined {
  const connection = openNetlink(sys, { protocol: NETLINK_SOCK_DIAG, receiveBytes: 32_768 });
  try {
    return connection.dump(
      makeQuery(
        SOCK_DIAG_BY_FAMILY,
        () => 'list unix sockets',
        (writer) => {
          // struct unix_diag_req: family, protocol, padding, states, inode, what to show, cookie
          writer.u8(unix.AF_UNIX);
          writer.u8(0);
          writer.u16(0);
          for (const word of [allStates, 0, UDIAG_SHOW_NAME | UDIAG_SHOW_UID, 0, 0]) writer.u32(word);
        },
        (_type, body) => {
          const inode = body.u32(inodeOffset);
          let name: string | undefined;
          let user: number | undefined;
          const r = body.attributes(messageBytes, 'unix socket');
          while (r.next()) {
            if (r.type === UNIX_DIAG_NAME) name = textOfName(r.bytes());
            else if (r.type === UNIX_DIAG_UID) user = r.u32();
          }
          return name === undefined ? undefined : { inode, name, user };
        },
      ),
    );
  } catch (error) {
    if (hasCode(error, 'EINVAL', 'ENOENT', 'EOPNOTSUPP', 'EPROTONOSUPPORT')) return undefined;
    throw error;
  } finally {
    connection.close();
  }
}

/** One character for each byte, so that two names are the same only if their bytes are. */
const textOfName = (bytes: Uint8Array): string =>
  (bytes[0] === 0 ? '@' : '') + String.fromCharCode(...(bytes[0] === 0 ? bytes.subarray(1) : bytes));
