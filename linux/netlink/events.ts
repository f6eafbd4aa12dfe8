/**
 * The kernel's events: rtnetlink's multicast groups (include/uapi/linux/rtnetlink.h). An event only wakes its listener,
 * who then looks at the state itself.
 */

import type { Sys } from '../sys.ts';
import { type NetlinkConnection, type NetlinkOptions, openNetlink, socket } from './connection.ts';

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

/** include/uapi/linux/netfilter/nfnetlink.h: enum nfnetlink_groups. The group hears of every change of every table. */
export const NFNLGRP_NFTABLES = 7;

/**
 * Opens a connection that receives the groups' events, also those that this process causes.
 * @param options `receiveTimeoutMs` is how long `receiveEvents` waits
 */
export function openEvents(sys: Sys, groups: readonly number[], options?: NetlinkOptions): NetlinkConnection {
  const connection = openNetlink(sys, options);
  try {
    // A peer's routes may all change at once: room for some thousands of events. Refused to unprivileged processes.
    sys.setsockopt(connection.fd, socket.SOL_SOCKET, socket.SO_RCVBUFFORCE, new Int32Array([4 * 1024 * 1024]).buffer);
    for (const group of groups) connection.join(group);
  } catch (error) {
    connection.close();
    throw error;
  }
  return connection;
}
