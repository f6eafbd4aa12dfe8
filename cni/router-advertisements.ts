/**
 * Keeps the host's routes that routers advertise. A host that forwards ignores advertisements unless `accept_ra` is 2
 * (Documentation/networking/ip-sysctl.rst): with its switch to forwarding, it would lose its default route.
 */

import type { NetlinkConnection } from '../linux/netlink/connection.ts';
import { getLink } from '../linux/netlink/link.ts';
import { dumpAdvertisedInterfaces } from '../linux/netlink/route.ts';
import type { Sys } from '../linux/sys.ts';
import { ensureSysctl, readSysctl } from '../linux/sysctl.ts';

const forwarding = ['net', 'ipv6', 'conf', 'all', 'forwarding'];

/** Called before IPv6 forwarding is switched on. It looks at routes only if forwarding is still off. */
export function keepAdvertisedRoutes(sys: Sys, connection: NetlinkConnection): void {
  if (readSysctl(sys, forwarding) !== '0') return;
  for (const index of new Set(connection.dump(dumpAdvertisedInterfaces()))) {
    const link = connection.get(getLink({ index }));
    const path = link && ['net', 'ipv6', 'conf', link.name, 'accept_ra'];
    if (path && readSysctl(sys, path) === '1') ensureSysctl(sys, path, '2');
  }
}
