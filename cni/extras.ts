/**
 * Which configurations ask for more than links and addresses of Weft's own: rules, VLANs, the wait for duplicate address
 * detection, another IPAM plugin. Few do. The code for that is a program of its own, and other configurations never load it.
 */

import { ownIpamType } from './settings.ts';
import { lookUp } from './spec/keys.ts';
import type { CniRequest, JsonObject } from './spec/request.ts';

/** Rules of the packet filter. */
const filterKeys = ['ipMasq', 'macspoofchk'] as const;
const otherKeys = ['vlan', 'vlanTrunk', 'enabledad'] as const;

const asksFor = ({ configuration }: CniRequest, keys: readonly string[]): boolean =>
  keys.some((key) => Boolean(lookUp(configuration, key)));

export const asksForFilters = (request: CniRequest): boolean => asksFor(request, filterKeys);

/** Whether another plugin gives the addresses. */
export function asksForPlugin({ configuration }: CniRequest): boolean {
  const ipam = lookUp(configuration, 'ipam');
  const type = typeof ipam === 'object' && ipam !== null ? lookUp(ipam as JsonObject, 'type') : undefined;
  return typeof type === 'string' && type !== '' && type !== ownIpamType;
}

export const asksForExtras = (request: CniRequest): boolean =>
  asksFor(request, [...filterKeys, ...otherKeys]) || asksForPlugin(request);
