/**
 * What may be wrong with an entry of weftd's besides what it is wanted for: attributes that weftd and flannel never set,
 * and that send packets elsewhere, or stop them. An entry that has one counts as changed by somebody.
 */

import { type InterfaceAddress, ifa } from '../../linux/netlink/address.ts';
import type { Neighbour } from '../../linux/netlink/neighbour.ts';
import type { Route } from '../../linux/netlink/route.ts';
import type { VxlanData } from '../../linux/netlink/vxlan.ts';
import { formatAddress } from '../../net/address.ts';

/** IFLA_VXLAN_* of include/uapi/linux/if_link.h whose value is 0, or nothing at all, on a device of ours. */
const vxlanAttributes: Readonly<Record<number, string>> = {
  2: 'a remote host',
  5: 'a TTL',
  6: 'a TOS',
  9: 'a limit of addresses',
  11: 'ARP proxying',
  12: 'route short-circuiting',
  16: 'a remote host',
  21: 'remote checksums',
  22: 'remote checksums',
  25: 'external control',
  27: 'generic protocol extension',
  28: 'an inherited TTL',
  29: 'a DF bit of its own',
};

/** Flags whose attribute has no value: that it is there sets them. */
const vxlanFlags: readonly number[] = [27];

/** What the device has that one of weftd's has not: `a TTL`. */
export function vxlanOddity({ unknown = [] }: VxlanData): string | undefined {
  const odd = unknown.find(
    ({ type, value }) =>
      vxlanAttributes[type] !== undefined && (vxlanFlags.includes(type) || value.some((byte) => byte !== 0)),
  );
  return odd && vxlanAttributes[odd.type];
}

/** Why packets from this host might not have the address as their source. */
export function addressOddity({ flags, scope, prefix }: InterfaceAddress): string | undefined {
  if (flags & (ifa.IFA_F_DEPRECATED | ifa.IFA_F_DADFAILED)) return 'it is not to be used';
  return prefix.address.family === 4 && scope !== 0 ? 'it has another scope' : undefined;
}

/** Where else an FDB entry leads than its destination says. The kernel tells only what is not the device's own. */
export function fdbOddity({ port, vni, lower }: Neighbour): string | undefined {
  if (port !== undefined) return `port ${port}`;
  if (vni !== undefined) return `VNI ${vni}`;
  return lower === undefined ? undefined : 'another interface';
}

export function routeOddity({ preferredSource, mtuBytes }: Route): string | undefined {
  if (preferredSource) return `source "${formatAddress(preferredSource)}"`;
  return mtuBytes === undefined ? undefined : `MTU ${mtuBytes}`;
}
