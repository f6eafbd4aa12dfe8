/**
 * Other programs' routes that hide ours: more specific ones, and those that the kernel prefers. weftd reports them and
 * leaves them, because somebody wants them. It replaces only a route in the very place of one of ours (same destination and
 * metric), unless it is an interface's route to its own network. Only one route can have that place, and the network config
 * gives the subnet to the peer: containers that cannot reach it would be the worse surprise. flannel does the same, and what
 * somebody puts there while weftd runs is damage. Any other route stays, whatever its gateway is.
 */

import { families } from '../../cluster/network-config.ts';
import type { Route } from '../../linux/netlink/route.ts';
import { rta } from '../../linux/netlink/route.ts';
import { type Address, sameAddress } from '../../net/address.ts';
import { formatPrefix, networkOf, type Prefix, prefixContains, samePrefix } from '../../net/prefix.ts';
import { defaultMetric, type RouteEntry, routeProtocol } from '../backends/entries.ts';
import { type HostState, isConnectedRoute } from '../host/host-state.ts';
import { leftoverProblem } from './admission.ts';
import type { Desired } from './desired.ts';
import { countPeers } from './peer-states.ts';

export interface Shadows {
  /** By route: the problem and what to do. */
  readonly problems: ReadonlyMap<string, string>;
  /** Subnets that another interface of this host has as its network: a route would cut that interface off. */
  readonly taken: readonly Prefix[];
}

const inside = (outer: Prefix, { address, length }: Prefix): boolean =>
  length >= outer.length && address.family === outer.address.family && prefixContains(outer, address);

/** The position of a route to the same subnet relative to ours. */
function rankOf(route: Route, ours: RouteEntry, { routes }: HostState): 'before' | 'in its place' | 'after' {
  const usual = defaultMetric[route.family];
  const metric = route.metric ?? usual;
  if (metric !== usual) return metric < usual ? 'before' : 'after';
  // Of several with one metric the first counts; ours replaces it if ours does not exist yet.
  const same = routes.filter(
    (other) => (other.metric ?? usual) === usual && samePrefix(networkOf(other.destination), ours.destination),
  );
  const isOurs = ({ gateway }: Route): boolean =>
    gateway !== undefined && ours.gateway !== undefined && sameAddress(gateway, ours.gateway);
  if (!same.some(isOurs)) return 'in its place';
  return same[0] === route ? 'before' : 'after';
}

/** @param ownDevices names of the tunnel devices: weftd repairs routes there */
export function findShadows({ state }: Desired, host: HostState, ownDevices: ReadonlySet<string>): Shadows {
  const nameOf = (index: number): string => host.links.find((link) => link.index === index)?.name ?? String(index);
  const ownIndexes = new Set(host.links.filter(({ name }) => ownDevices.has(name)).map(({ index }) => index));
  const problems = new Map<string, string>();
  const taken: Prefix[] = [];
  const isFlannels = (gateway: Address | undefined): boolean =>
    gateway !== undefined && state.flannelGateways.some((peer) => sameAddress(peer, gateway));
  for (const route of host.routes) {
    const { destination, protocol, oif, type } = route;
    if (destination.length === 0 || protocol === routeProtocol.RTPROT_WEFT) continue;
    if (oif !== undefined && ownIndexes.has(oif)) continue;
    if (!state.networks.some((network) => inside(network, destination))) continue;
    // The cluster's own, made by flannel.
    if (protocol === routeProtocol.RTPROT_BOOT && isFlannels(route.gateway)) continue;
    const ours = state.routes.find((candidate) => inside(candidate.destination, destination));
    if (!ours) continue;
    const rank = destination.length > ours.destination.length ? 'before' : rankOf(route, ours, host);
    const isConnected = isConnectedRoute(route);
    if (rank === 'in its place' && isConnected) taken.push(ours.destination);
    if (rank !== 'before' && !(rank === 'after' && isConnected)) continue;
    const text = formatPrefix(networkOf(destination));
    const where = oif === undefined ? '' : ` on "${nameOf(oif)}"`;
    const subnet = formatPrefix(networkOf(ours.destination));
    problems.set(
      `${text}${where}`,
      `Another program's ${type === rta.RTN_UNICAST ? 'route' : 'blackhole'} "${text}"${where} and a peer's subnet "${subnet}" are in each other's way; delete the one, or give what it leads to other addresses`,
    );
  }
  return { problems, taken };
}

/** Whether another program's route may hide one of these; `findShadows` decides. */
export const isShadowed = (routes: readonly RouteEntry[], host: HostState): boolean =>
  routes.some((ours) =>
    host.routes.some(
      // Onlink routes belong to a tunnel: ours, or flannel's.
      ({ protocol, onlink, destination }) =>
        protocol !== routeProtocol.RTPROT_WEFT && !onlink && inside(ours.destination, destination),
    ),
  );

/**
 * The desired state without routes to taken subnets; their peers have a problem.
 * @param former subnets that this node had before: its own bridge may still have an address of one
 */
export function withoutTaken(desired: Desired, taken: readonly Prefix[], former: readonly Prefix[] = []): Desired {
  if (taken.length === 0) return desired;
  const isTaken = (prefix: Prefix | undefined): boolean =>
    prefix !== undefined && taken.some((other) => samePrefix(networkOf(prefix), other));
  const peers = desired.peers.map((outcome) => {
    const { peer } = outcome;
    const family = families.find((candidate) => isTaken(peer.subnets[candidate]));
    if (family === undefined) return outcome;
    const { [family]: _, ...paths } = outcome.paths;
    const subnet = peer.subnets[family]!;
    const problem = former.some((each) => samePrefix(each, subnet))
      ? leftoverProblem(subnet)
      : `its subnet "${formatPrefix(subnet)}" is the network of an interface of this host; give that interface another address`;
    return { peer, paths, problem: outcome.problem ? `${outcome.problem}; ${problem}` : problem };
  });
  return {
    ...desired,
    state: { ...desired.state, routes: desired.state.routes.filter(({ destination }) => !isTaken(destination)) },
    peers,
    peerCounts: countPeers(peers),
  };
}
