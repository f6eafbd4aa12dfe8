/** How many addresses of this node's subnets containers hold. */

import { type Address, addressBits } from '../../net/address.ts';
import { formatPrefix, type Prefix, prefixContains } from '../../net/prefix.ts';

export interface AddressUse {
  readonly subnet: string;
  readonly used: number;
  readonly free: number;
}

/**
 * The number of addresses that containers can have: all but the network's own, the gateway's and, for IPv4, the broadcast
 * address. Large numbers are not exact.
 */
export function capacityOf({ address: { family }, length }: Prefix): number {
  return Math.max(0, 2 ** (addressBits(family) - length) - (family === 4 ? 3 : 2));
}

/** @param reserved every reserved address of every network */
export function countAddresses(reserved: readonly Address[], subnets: readonly Prefix[]): AddressUse[] {
  return subnets.map((subnet) => {
    const used = reserved.filter((address) => prefixContains(subnet, address)).length;
    return { subnet: formatPrefix(subnet), used, free: Math.max(0, capacityOf(subnet) - used) };
  });
}
