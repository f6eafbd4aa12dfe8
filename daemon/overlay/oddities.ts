/**
 * Attributes that weftd and flannel never set, and that redirect or stop packets. A tunnel device belongs to weftd as a
 * whole: an entry with such an attribute counts as changed by somebody, on the device, its address, its routes and its FDB
 * entries. If it cannot be changed back in place, weftd recreates the device with its MAC, and all its entries.
 */

import { type InterfaceAddress, ifa } from '../../linux/netlink/address.ts';
import type { Route } from '../../linux/netlink/route.ts';
import { formatAddress } from '../../net/address.ts';

/** Why packets from this host might not have the address as their source. */
export function addressOddity({ flags, scope, prefix }: InterfaceAddress): string | undefined {
  if (flags & (ifa.IFA_F_DEPRECATED | ifa.IFA_F_DADFAILED)) return 'it is not to be used';
  return prefix.address.family === 4 && scope !== 0 ? 'it has another scope' : undefined;
}

export function routeOddity({ preferredSource, mtuBytes }: Route): string | undefined {
  if (preferredSource) return `source "${formatAddress(preferredSource)}"`;
  return mtuBytes === undefined ? undefined : `MTU ${mtuBytes}`;
}
