/** The host's state in the kernel: links, addresses and routes, and what follows from them. */

import { type InterfaceAddress, ifa } from '../../linux/netlink/address.ts';
import { iff, type Link } from '../../linux/netlink/link.ts';
import { outgoingInterface, type Route, rta } from '../../linux/netlink/route.ts';
import { type Address, type Family, isUnspecified } from '../../net/address.ts';
import { type Prefix, prefixContains } from '../../net/prefix.ts';
import { routeProtocol } from '../backends/entries.ts';
import { isTunnelName } from '../backends/map.ts';
import type { HostInterface, RouteAnswer } from './external-interface.ts';

/** The host's links, addresses and main routing table at one time. */
export interface HostState {
  readonly links: readonly Link[];
  readonly addresses: readonly InterfaceAddress[];
  /** Main table, both families. */
  readonly routes: readonly Route[];
}

/** Whether other hosts can use the address: it is no duplicate, not tentative and not deprecated. */
const usable = ({ flags }: InterfaceAddress): boolean =>
  (flags & (ifa.IFA_F_TENTATIVE | ifa.IFA_F_DADFAILED | ifa.IFA_F_DEPRECATED)) === 0;

/** Stable, global addresses first. IFA_F_SECONDARY is IFA_F_TEMPORARY for IPv6. */
const preference = ({ flags, scope }: InterfaceAddress): number => scope * 2 + (flags & ifa.IFA_F_SECONDARY ? 1 : 0);

export function hostInterfaces({ links, addresses }: HostState): HostInterface[] {
  return links.map((link) => ({
    index: link.index,
    name: link.name,
    up: link.up,
    loopback: (link.flags & iff.IFF_LOOPBACK) !== 0,
    mtuBytes: link.mtuBytes,
    addresses: addresses
      .filter((address) => address.index === link.index && usable(address))
      .sort((a, b) => preference(a) - preference(b))
      .map(({ local, prefix }) => local ?? prefix.address),
  }));
}

/** The addresses of the host's interfaces, loopback aside. */
export const ownAddresses = (interfaces: readonly HostInterface[]): Address[] =>
  interfaces.flatMap(({ loopback, addresses }) => (loopback ? [] : addresses));

/** Whether an interface other than the tunnel devices has an address in the subnet: a bridge with containers. */
export const isSubnetInUse = (interfaces: readonly HostInterface[], subnet: Prefix): boolean =>
  interfaces.some(
    ({ name, addresses }) => !isTunnelName(name) && addresses.some((address) => prefixContains(subnet, address)),
  );

export const answerOf = (route: Route | undefined): RouteAnswer | undefined =>
  route?.oif === undefined ? undefined : { index: route.oif, source: route.preferredSource };

const metricOf = ({ metric = 0 }: Route): number => metric;

/** The default route with the lowest metric; of several next hops the first. */
export function defaultRouteOf({ routes }: HostState, family: Family): RouteAnswer | undefined {
  const candidates = routes.filter(
    (route) =>
      route.family === family &&
      route.destination.length === 0 &&
      isUnspecified(route.destination.address) &&
      route.type === rta.RTN_UNICAST,
  );
  candidates.sort((a, b) => metricOf(a) - metricOf(b));
  const answers = candidates.map((route) => ({ index: outgoingInterface(route), source: route.preferredSource }));
  return answers.find((answer): answer is RouteAnswer => answer.index !== undefined);
}

/**
 * Whether an address is on a network that the interface is connected to: the host's best own route to it has no gateway.
 * Routes into the cluster's networks do not count, because this decides on them.
 */
export function neighbourTest(
  { routes }: HostState,
  interfaceIndex: number,
  tunnelIndexes: ReadonlySet<number>,
): (address: Address) => boolean {
  const connected = routes.filter(
    ({ oif, protocol, type }) =>
      type === rta.RTN_UNICAST &&
      protocol !== routeProtocol.RTPROT_WEFT &&
      !(oif !== undefined && tunnelIndexes.has(oif)),
  );
  connected.sort((a, b) => b.destination.length - a.destination.length || metricOf(a) - metricOf(b));
  return (address) => {
    const best = connected.find(({ destination }) => prefixContains(destination, address));
    return best !== undefined && best.gateway === undefined && best.oif === interfaceIndex;
  };
}
