/**
 * Which plain routes are flannel's, and so the cluster's. flannel's routes carry RTPROT_BOOT, as those of an administrator's
 * `ip route add` do. Without a mark, only this proves whose they are: flannel leads a peer's exact subnet through that
 * peer. The peer is remembered as a gateway then, for as long as such a route leads through it, and its stale routes inside
 * the cluster's networks can be removed. weftd's own routes carry a mark, and need no memory.
 *
 * A router that this host also uses for other networks is never remembered: a lease can name any address as its peer's, and
 * an administrator's routes through that router would be removed.
 */

import { gatewaysOf, type Route, rta } from '../../linux/netlink/route.ts';
import { type Address, addressKey } from '../../net/address.ts';
import { networkOf, type Prefix, prefixContains, samePrefix } from '../../net/prefix.ts';
import { routeProtocol } from '../backends/entries.ts';
import type { HostState } from '../host/host-state.ts';
import type { PeerOutcome } from './desired.ts';

export interface FlannelRoutes {
  readonly host: HostState;
  /** The cluster's networks, current and former. */
  readonly networks: readonly Prefix[];
  /** The gateways that were found before. */
  readonly remembered: readonly Address[];
  /** weftd was never on this host before. If flannel has made plain routes here, all peers can be their gateways. */
  readonly isTakeOver: boolean;
  /** Made only if needed. */
  readonly peers: () => readonly PeerOutcome[];
}

const isInside = ({ address, length }: Prefix, networks: readonly Prefix[]): boolean =>
  networks.some((network) => length > network.length && prefixContains(network, address));

/** The peers through which routes of flannel's lead now. */
export function flannelGateways({ host, networks, remembered, isTakeOver, peers }: FlannelRoutes): Address[] {
  const candidates = host.routes.filter(
    ({ protocol, gateway, type, destination }) =>
      protocol === routeProtocol.RTPROT_BOOT &&
      gateway !== undefined &&
      type === rta.RTN_UNICAST &&
      isInside(destination, networks),
  );
  if (candidates.length === 0) return [];
  const routers = new Set(
    host.routes
      .filter(({ destination }) => !isInside(destination, networks))
      .flatMap((route) => gatewaysOf(route).map(addressKey)),
  );
  const accepted = new Map<string | number, { readonly host: Address; readonly subnet: Prefix }[]>();
  for (const { peer, paths } of peers()) {
    for (const family of [4, 6] as const) {
      const { [family]: peerHost } = peer.publicAddresses;
      const subnet = peer.subnets[family];
      if (!paths[family] || !peerHost || !subnet) continue;
      const key = addressKey(peerHost);
      accepted.set(key, [...(accepted.get(key) ?? []), { host: peerHost, subnet: networkOf(subnet) }]);
    }
  }
  const isProof = ({ gateway, destination }: Route): boolean =>
    (accepted.get(addressKey(gateway!)) ?? []).some(({ subnet }) => samePrefix(subnet, networkOf(destination)));
  const proofs = candidates.filter(isProof);
  const found =
    proofs.length > 0 && isTakeOver ? candidates.filter(({ gateway }) => accepted.has(addressKey(gateway!))) : proofs;
  const known = new Set([...remembered, ...found.map(({ gateway }) => gateway!)].map(addressKey));
  const gateways = new Map(candidates.map(({ gateway }) => [addressKey(gateway!), gateway!]));
  return [...gateways].flatMap(([key, gateway]) => (known.has(key) && !routers.has(key) ? gateway : []));
}

/** Finds them later. A function of its own: a closure would keep everything in memory that stands around it. */
export const gatewayFinder =
  (inputs: Omit<FlannelRoutes, 'peers'>) =>
  (peers: FlannelRoutes['peers']): Address[] =>
    flannelGateways({ ...inputs, peers });
