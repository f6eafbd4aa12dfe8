/** The keys of subnet leases, `<prefix>/subnets/…`: flannel's byte for byte. */

import { formatAddress } from '../../net/address.ts';
import { hasHostBits, type Prefix, parsePrefix } from '../../net/prefix.ts';
import { excerpt } from '../excerpt.ts';
import { LeaseFormatError } from '../lease.ts';
import { type PerFamily, perFamily, valuesOf } from '../network-config.ts';
import type { Keys } from './keys.ts';

const formatKeyPart = (subnet: Prefix): string => `${formatAddress(subnet.address)}-${subnet.length}`;

/**
 * The key of a lease: `…/10.5.52.0-24`, dual stack `…/10.5.52.0-24&fd00:5:0:34::-64`. IPv6 alone has `0.0.0.0-0` in
 * IPv4's place, because flannel's pattern needs one there.
 */
export function formatLeaseKey(keys: Keys, subnets: PerFamily<Prefix>): string {
  const v4 = subnets[4] ? formatKeyPart(subnets[4]) : '0.0.0.0-0';
  return keys.subnets + (subnets[6] ? `${v4}&${formatKeyPart(subnets[6])}` : v4);
}

/** @throws LeaseFormatError */
export function parseLeaseKey(keys: Keys, key: string): PerFamily<Prefix> {
  const name = key.slice(keys.subnets.length);
  const match = key.startsWith(keys.subnets)
    ? /^(\d+\.\d+\.\d+\.\d+-\d+)(?:&([A-Fa-f\d:.]+-\d+))?$/.exec(name)
    : undefined;
  if (!match) throw new LeaseFormatError(`"${excerpt(name)}" is not a subnet in the form "10.5.52.0-24"`);
  const subnets = perFamily((family) => {
    const part = match[family === 4 ? 1 : 2];
    if (part === undefined || (family === 4 && part === '0.0.0.0-0')) return undefined;
    const subnet = parsePrefix(part.replace('-', '/'));
    if (!subnet || subnet.address.family !== family)
      throw new LeaseFormatError(`"${excerpt(part)}" is not an IPv${family} subnet`);
    if (hasHostBits(subnet)) throw new LeaseFormatError(`"${excerpt(part)}" has bits set beyond its length`);
    return subnet;
  });
  if (valuesOf(subnets).length === 0) throw new LeaseFormatError(`"${excerpt(name)}" contains no subnet`);
  return subnets;
}
