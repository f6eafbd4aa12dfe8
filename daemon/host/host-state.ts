/** The host's state in the kernel: links, addresses and routes, and what follows from them. */

import { type InterfaceAddress, ifa } from '../../linux/netlink/address.ts';
import { iff, type Link } from '../../linux/netlink/link.ts';
import { gatewaysOf, outgoingInterface, type Route, rta } from '../../linux/netlink/route.ts';
import { type Address, type Family, isLinkLocal, isUnspecified } from '../../net/address.ts';
import { networkOf, type Prefix, prefixContains } from '../../net/prefix.ts';
import { isHostVethAlias } from '../../reservations/host-end.ts';
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

/** The state without the routes that weftd has made, to be kept: it makes thousands. */
export const withoutOwnRoutes = (host: HostState): HostState => ({
  ...host,
  routes: host.routes.filter(({ protocol }) => protocol !== routeProtocol.RTPROT_WEFT),
});

/** Routes as far as peers' entries depend on them: the same as long as nobody has changed them. */
export const routeFacts = ({ routes }: HostState): unknown =>
  routes.map((route) => {
    const { destination, oif, protocol, type, metric } = route;
    return { destination, oif, protocol, type, metric, gateways: gatewaysOf(route) };
  });

/** Whether other hosts can use the address: it is no duplicate, not tentative and not deprecated. */
const usable = ({ flags }: InterfaceAddress): boolean =>
  (flags & (ifa.IFA_F_TENTATIVE | ifa.IFA_F_DADFAILED | ifa.IFA_F_DEPRECATED)) === 0;

/** A network of one address: a failover or a load balancer moves such an address between hosts. */
const isFloating = ({ prefix, local }: InterfaceAddress): boolean =>
  local === undefined && prefix.length === (prefix.address.family === 4 ? 32 : 128);

/** Stable, global addresses first; floating ones last of a scope. IFA_F_SECONDARY is IFA_F_TEMPORARY for IPv6. */
const preference = (address: InterfaceAddress): number =>
  address.scope * 4 + (isFloating(address) ? 2 : 0) + (address.flags & ifa.IFA_F_SECONDARY ? 1 : 0);

/** Names that container programs give to the host's end of a veth, and to bridges of their own. */
const isContainerVethName = (name: string): boolean => /^(veth|cali|lxc)/.test(name);
const isContainerBridgeName = (name: string): boolean =>
  /^(docker0|br-[0-9a-f]{12}|cni\d+|(cni-)?podman\d+|docker_gwbridge|lxcbr\d+|lxdbr\d+|virbr\d+)$/.test(name);

const isContainerVeth = ({ kind, name, alias }: Link): boolean =>
  kind === 'veth' && (isContainerVethName(name) || isHostVethAlias(alias ?? ''));

/** How the link serves containers, if it does. A bridge with a port to the outside does not. */
function roleOf(link: Link, links: readonly Link[]): Pick<HostInterface, 'servesContainers' | 'isInnerBridge'> {
  if (isContainerVeth(link)) return { servesContainers: true };
  if (link.kind !== 'bridge') return {};
  const ports = links.filter(({ master }) => master === link.index);
  if (!ports.every(isContainerVeth)) return {};
  return { isInnerBridge: true, servesContainers: ports.length > 0 || isContainerBridgeName(link.name) };
}

export function hostInterfaces({ links, addresses }: HostState): HostInterface[] {
  const byIndex = new Map<number, InterfaceAddress[]>();
  for (const address of addresses) {
    if (!usable(address)) continue;
    const known = byIndex.get(address.index);
    if (known) known.push(address);
    else byIndex.set(address.index, [address]);
  }
  return links.map((link) => {
    const own = (byIndex.get(link.index) ?? []).sort((a, b) => preference(a) - preference(b));
    return {
      index: link.index,
      name: link.name,
      ...(link.altNames ? { altNames: link.altNames } : {}),
      up: link.up,
      loopback: (link.flags & iff.IFF_LOOPBACK) !== 0,
      mtuBytes: link.mtuBytes,
      addresses: own.map(({ local, prefix }) => local ?? prefix.address),
      networks: own.map(({ prefix }) => prefix),
      ...roleOf(link, links),
    };
  });
}

/** The addresses of the host's interfaces, loopback aside. */
export const ownAddresses = (interfaces: readonly HostInterface[]): Address[] =>
  interfaces.flatMap(({ loopback, addresses }) => (loopback ? [] : addresses));

/** Protocols of routes that an interface has for its own network, by itself or by a network manager. */
const connectedProtocols: readonly number[] = [rta.RTPROT_KERNEL, rta.RTPROT_RA, rta.RTPROT_DHCP];

/** Whether the route is an interface's to its own network. */
export const isConnectedRoute = ({ type, protocol, gateway, oif }: Route): boolean =>
  type === rta.RTN_UNICAST && connectedProtocols.includes(protocol) && gateway === undefined && oif !== undefined;

/** The networks that the host is connected to, without those of the cluster's tunnels. */
export const connectedNetworks = (interfaces: readonly HostInterface[]): Prefix[] =>
  interfaces.flatMap(({ name, loopback, networks = [] }) =>
    loopback || isTunnelName(name) ? [] : networks.filter(({ address }) => !isLinkLocal(address)).map(networkOf),
  );

/**
 * Interfaces by which packets of containers come in: ports of bridges are not, their bridge is. A bridge that has an address
 * in one of this node's subnets counts before its first container.
 */
export function containerLinks(host: HostState, subnets: readonly Prefix[]): string[] {
  const ports = new Set(host.links.flatMap(({ index, master }) => (master === undefined ? [] : [index])));
  return hostInterfaces(host)
    .filter(
      ({ index, name, servesContainers, isInnerBridge, addresses }) =>
        !ports.has(index) &&
        !isTunnelName(name) &&
        (servesContainers ||
          (isInnerBridge && addresses.some((address) => subnets.some((subnet) => prefixContains(subnet, address))))),
    )
    .map(({ name }) => name);
}

export const answerOf = (route: Route | undefined): RouteAnswer | undefined =>
  route?.oif === undefined ? undefined : { index: route.oif, source: route.preferredSource };

/** The interfaces with a route that a router has advertised. */
export function advertisedInterfaces({ links, routes }: HostState): string[] {
  const indexes = new Set(
    routes.filter(({ protocol }) => protocol === rta.RTPROT_RA).flatMap((route) => outgoingInterface(route) ?? []),
  );
  return links.filter(({ index }) => indexes.has(index)).map(({ name }) => name);
}

const metricOf = ({ metric = 0 }: Route): number => metric;

/** The default routes, the lowest metric first; of several next hops the first. */
export function defaultRoutesOf({ routes }: HostState, family: Family): RouteAnswer[] {
  const candidates = routes.filter(
    (route) =>
      route.family === family &&
      route.destination.length === 0 &&
      isUnspecified(route.destination.address) &&
      route.type === rta.RTN_UNICAST,
  );
  candidates.sort((a, b) => metricOf(a) - metricOf(b));
  return candidates.flatMap((route) => {
    const index = outgoingInterface(route);
    return index === undefined ? [] : { index, source: route.preferredSource, gateway: route.gateway };
  });
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
