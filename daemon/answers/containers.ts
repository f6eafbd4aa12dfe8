/** How many containers are attached to this host. */

import { openNetlink } from '../../linux/netlink/connection.ts';
import { dumpLinks } from '../../linux/netlink/link.ts';
import type { Sys } from '../../linux/sys.ts';

/** Interfaces that the plugins made carry an alias that begins with this. */
const containerAlias = /^weft /;

/** undefined where the kernel does not tell. */
export function countContainers(sys: Sys): number | undefined {
  try {
    const connection = openNetlink(sys);
    try {
      return connection.dump(dumpLinks({ kind: 'veth' })).filter(({ alias }) => containerAlias.test(alias ?? ''))
        .length;
    } finally {
      connection.close();
    }
  } catch {
    return undefined;
  }
}
