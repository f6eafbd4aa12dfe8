/**
 * The parts of this host's network that no peer's subnet may take over: its addresses, its interfaces' networks, and the
 * hosts without which it would be cut off. A lease is written by anybody with a node's rights, and could name any of them.
 */

import { gatewaysOf, rta } from '../../linux/netlink/route.ts';
import { type Address, addressKey, parseAddress } from '../../net/address.ts';
import { networkOf, type Prefix } from '../../net/prefix.ts';
import { isTunnelName } from '../backends/map.ts';
import { type HostState, isConnectedRoute } from './host-state.ts';

/** A host that this one cannot do without. */
export interface Lifeline {
  readonly address: Address;
  /** `etcd`, `the default gateway`, … */
  readonly what: string;
}

export interface Surroundings {
  /** Keys (`addressKey`) of all addresses of this host. */
  readonly ownAddresses: ReadonlySet<number | string>;
  /** Networks that interfaces other than tunnel devices are connected to. */
  readonly networks: readonly { readonly prefix: Prefix; readonly device: string }[];
  readonly lifelines: readonly Lifeline[];
}

/** @param lifelines beside the default gateways */
export function surroundingsOf({ links, addresses, routes }: HostState, lifelines: readonly Lifeline[]): Surroundings {
  const names = new Map(links.map(({ index, name }) => [index, name]));
  const nameOf = (index: number | undefined): string => names.get(index ?? 0) ?? String(index);
  // Thousands of routes lead to peers: the cheap questions come first.
  const others = routes.filter(
    (route) =>
      route.type === rta.RTN_UNICAST &&
      (route.destination.length === 0 || isConnectedRoute(route)) &&
      !isTunnelName(nameOf(route.oif)),
  );
  return {
    ownAddresses: new Set(addresses.map(({ local, prefix }) => addressKey(local ?? prefix.address))),
    networks: others
      .filter(({ destination }) => destination.length > 0)
      .map(({ destination, oif }) => ({ prefix: networkOf(destination), device: nameOf(oif) })),
    lifelines: [
      ...others
        .filter(({ destination }) => destination.length === 0)
        .flatMap(gatewaysOf)
        .map((address) => ({ address, what: 'the default gateway' })),
      ...lifelines,
    ],
  };
}

/** The hosts of endpoints: `http://10.0.0.1:2379`, `https://[fd00::1]:2379`, `https://etcd.example:2379`. */
export function hostsOf(endpoints: readonly string[]): { readonly addresses: Address[]; readonly names: string[] } {
  const addresses: Address[] = [];
  const names = new Set<string>();
  for (const endpoint of endpoints) {
    const match = /^(?:[a-z]+:\/\/)?(?:\[([^\]]+)\]|([^:/[\]]+))(?::\d+)?\/?$/.exec(endpoint);
    const host = match?.[1] ?? match?.[2];
    if (host === undefined) continue;
    const address = parseAddress(host);
    if (address) addresses.push(address);
    else names.add(host);
  }
  return { addresses, names: [...names] };
}

/** The name servers of resolv.conf(5). */
export const resolverLifelines = (text: string): Lifeline[] =>
  text.split('\n').flatMap((line) => {
    const [key, value] = line.trim().split(/\s+/, 2);
    const address = key === 'nameserver' && value !== undefined ? parseAddress(value) : undefined;
    return address ? [{ address, what: 'a name server' }] : [];
  });
