/**
 * What the kernel tells of changes: rtnetlink's multicast groups (include/uapi/linux/rtnetlink.h). Events only wake
 * their listener, who then looks at the state itself; so of each only the kind and the interface are decoded.
 *
 *     const events = openEvents(sys, [rtnlgrp.RTNLGRP_LINK, rtnlgrp.RTNLGRP_NEIGH]);
 *     // read events.fd as the runtime does it; ENOBUFS there means 'overrun'
 *     for (const event of decodeEvents(bytes)) …
 */

import type { Sys } from '../sys.ts';
import { type NetlinkConnection, type NetlinkOptions, openNetlink, socket } from './connection.ts';
import { eachMessage, nlmsg } from './wire.ts';

/** include/uapi/linux/rtnetlink.h: enum rtnetlink_groups */
export const rtnlgrp = {
  RTNLGRP_LINK: 1,
  RTNLGRP_NEIGH: 3,
  RTNLGRP_IPV4_IFADDR: 5,
  RTNLGRP_IPV4_ROUTE: 7,
  RTNLGRP_IPV6_IFADDR: 9,
  RTNLGRP_IPV6_ROUTE: 11,
  RTNLGRP_IPV4_NETCONF: 24,
  RTNLGRP_IPV6_NETCONF: 25,
} as const;

/** include/uapi/linux/netfilter/nfnetlink.h: enum nfnetlink_groups; any change of any table. */
export const NFNLGRP_NFTABLES = 7;

export interface NetlinkEvent {
  /** 'overrun': events were lost; look at everything. 'other': a message of a kind that is not told apart. */
  readonly kind: 'link' | 'address' | 'route' | 'neighbour' | 'overrun' | 'other';
  /** 'new' is also "changed". */
  readonly change?: 'new' | 'deleted';
  /** The interface; absent for routes, which may have several. */
  readonly index?: number;
}

/** enum of include/uapi/linux/rtnetlink.h: four numbers a family: NEW, DEL, GET, SET. */
const kinds: Readonly<Record<number, NetlinkEvent['kind']>> = {
  16: 'link',
  20: 'address',
  24: 'route',
  28: 'neighbour',
};

/**
 * Opens a connection that hears the groups. An event arrives whoever caused it, the listener's own process included.
 * @param options `receiveTimeoutMs` is how long `receiveEvents` waits
 */
export function openEvents(sys: Sys, groups: readonly number[], options?: NetlinkOptions): NetlinkConnection {
  const connection = openNetlink(sys, options);
  try {
    // A peer with many routes changes all at once: room for some thousands of events. Refused to the unprivileged.
    sys.setsockopt(connection.fd, socket.SOL_SOCKET, socket.SO_RCVBUFFORCE, new Int32Array([4 * 1024 * 1024]).buffer);
    for (const group of groups) connection.join(group);
  } catch (error) {
    connection.close();
    throw error;
  }
  return connection;
}

/**
 * The events in one datagram.
 * @throws DecodeError where it is cut off (read with at least 32 KiB)
 */
export function decodeEvents(bytes: Uint8Array): NetlinkEvent[] {
  const events: NetlinkEvent[] = [];
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  eachMessage(view, 0, bytes.byteLength, ({ type, body }) => {
    if (type === nlmsg.NLMSG_OVERRUN) {
      events.push({ kind: 'overrun' });
      return;
    }
    const kind = kinds[type & ~3];
    const operation = type & 3;
    if (kind === undefined || operation > 1) {
      events.push({ kind: 'other' });
      return;
    }
    const change = operation === 0 ? 'new' : 'deleted';
    // ifinfomsg, ifaddrmsg and ndmsg have the index in the same place; rtmsg has none.
    events.push(kind === 'route' ? { kind, change } : { kind, change, index: body.i32(4) });
  });
  return events;
}
