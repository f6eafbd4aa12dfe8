/**
 * Events about settings of interfaces, such as forwarding: include/uapi/linux/netconf.h. The kernel sends them when a
 * setting is written.
 */

import type { NetlinkReader } from './wire.ts';

/** include/uapi/linux/rtnetlink.h */
export const RTM_NEWNETCONF = 80;

const NETCONFA_IFINDEX = 1;
export const NETCONFA_IFINDEX_ALL = -1;

/** `struct netconfmsg`: a family, aligned. */
const headerBytes = 4;

/** The interface that the settings are of, or NETCONFA_IFINDEX_ALL; undefined where the message names none. */
export function decodeNetconfIndex(body: NetlinkReader): number | undefined {
  const r = body.attributes(headerBytes, 'netconf');
  while (r.next()) if (r.type === NETCONFA_IFINDEX) return r.i32();
  return undefined;
}
