/**
 * Which configurations ask for more than links and addresses: rules, VLANs, the wait for duplicate address detection. Few
 * do. The code for that is a program of its own, and other configurations never load it.
 */

import { lookUp } from './spec/keys.ts';
import type { CniRequest } from './spec/request.ts';

/** Rules of the packet filter. */
const filterKeys = ['ipMasq', 'macspoofchk'] as const;
const otherKeys = ['vlan', 'vlanTrunk', 'enabledad'] as const;

const asksFor = ({ configuration }: CniRequest, keys: readonly string[]): boolean =>
  keys.some((key) => Boolean(lookUp(configuration, key)));

export const asksForFilters = (request: CniRequest): boolean => asksFor(request, filterKeys);
export const asksForExtras = (request: CniRequest): boolean => asksFor(request, [...filterKeys, ...otherKeys]);
