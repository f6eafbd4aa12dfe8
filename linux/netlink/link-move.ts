/** Moves an interface to another network namespace. Its addresses and routes stay behind, and it is down there. */

import { makeRequest, type NetlinkRequest } from './connection.ts';
import { rtmLink } from './link.ts';

/** include/uapi/linux/if_link.h */
const IFLA_NET_NS_FD = 28;

/** @param namespace a descriptor */
export const moveLink = (index: number, namespace: number): NetlinkRequest =>
  makeRequest(
    rtmLink.RTM_NEWLINK,
    0,
    () => ['move link', index],
    (writer) => {
      // struct ifinfomsg
      writer.u32(0);
      writer.i32(index);
      writer.u32(0);
      writer.u32(0);
      writer.attributeU32(IFLA_NET_NS_FD, namespace);
    },
  );
