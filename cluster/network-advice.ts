/** Which networks cannot serve a cluster, and which ones meet a host's own networks. Pure. */

import { formatPrefix, type Prefix, parsePrefix, prefixesOverlap } from '../net/prefix.ts';
import { type NetworkConfig, valuesOf } from './network-config.ts';

const prefix = (text: string): Prefix => parsePrefix(text)!;

/** The addresses that never leave a host, or never belong to one. */
const unusable: readonly { readonly network: Prefix; readonly what: string }[] = [
  { network: prefix('127.0.0.0/8'), what: 'the loopback network' },
  { network: prefix('224.0.0.0/4'), what: 'the multicast network' },
  { network: prefix('::1/128'), what: 'the loopback address' },
  { network: prefix('ff00::/8'), what: 'the multicast network' },
];

/** Why no container can have an address of the config's networks; undefined if they can. */
export function findUnusableNetwork({ networks }: NetworkConfig): string | undefined {
  for (const { network } of valuesOf(networks)) {
    const found = unusable.find((each) => prefixesOverlap(each.network, network));
    if (found) {
      const [own, other] = [formatPrefix(network), formatPrefix(found.network)];
      return `Network config: "${own}" overlaps ${found.what} "${other}": choose another network, such as "10.1.0.0/16"`;
    }
  }
  return undefined;
}

/** A network that an interface of a host is connected to. */
export interface HostNetwork {
  readonly name: string;
  readonly network: Prefix;
}

/** The host's networks that overlap the config's. */
export const overlapping = <N extends HostNetwork>({ networks }: NetworkConfig, ofHost: readonly N[]): N[] =>
  ofHost.filter((own) => valuesOf(networks).some(({ network }) => prefixesOverlap(network, own.network)));
