/** How many addresses of this node's subnets containers hold, by the plugins' address store (host-local's format). */

import type { Sys } from '../../linux/sys.ts';
import { type Address, addressBits, parseAddress } from '../../net/address.ts';
import { formatPrefix, type Prefix, prefixContains } from '../../net/prefix.ts';

export interface AddressUse {
  readonly subnet: string;
  readonly used: number;
  readonly free: number;
}

/**
 * What a subnet has for containers: not the network's own address, not the gateway's, for IPv4 not the broadcast
 * address. A number beyond what is exact counts as it is.
 */
export function capacityOf({ address: { family }, length }: Prefix): number {
  return Math.max(0, 2 ** (addressBits(family) - length) - (family === 4 ? 3 : 2));
}

/** Every address that is reserved in any network: `<dataDir>/<network>/<address>`. */
function reservedAddresses(sys: Sys, dataDir: string): Address[] {
  const networks = sys.getdents(dataDir);
  if (typeof networks === 'number') return [];
  return networks.flatMap((network) => {
    const names = sys.getdents(`${dataDir}/${network}`);
    // Locks and the index lie beside the addresses.
    return typeof names === 'number' ? [] : names.flatMap((name) => parseAddress(name) ?? []);
  });
}

export function countAddresses(sys: Sys, dataDir: string, subnets: readonly Prefix[]): AddressUse[] {
  const reserved = reservedAddresses(sys, dataDir);
  return subnets.map((subnet) => {
    const used = reserved.filter((address) => prefixContains(subnet, address)).length;
    return { subnet: formatPrefix(subnet), used, free: Math.max(0, capacityOf(subnet) - used) };
  });
}
