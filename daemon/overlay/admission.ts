/**
 * Whether a peer's address and subnet are admitted at all, before the backend and other peers are asked. A lease is written
 * by anybody with a node's rights in etcd: whatever it says, it must not cut this host off, or take over a part of it.
 *
 * Each check takes the same time, however many peers there are.
 */

import type { PerFamily } from '../../cluster/network-config.ts';
import { peerAddressProblem } from '../../cluster/peer-address.ts';
import { type Address, addressKey, formatAddress } from '../../net/address.ts';
import { formatPrefix, type Prefix, prefixContains, prefixesOverlap, samePrefix } from '../../net/prefix.ts';
import type { ExternalInterface } from '../host/external-interface.ts';
import type { Surroundings } from '../host/surroundings.ts';

/** This host, as far as peers must leave it alone. */
export interface Surrounded {
  /** The cluster's network of each family. */
  readonly networks: PerFamily<Prefix>;
  /** The cluster's former networks that this node remembers. */
  readonly formerNetworks: readonly Prefix[];
  /** The subnets that this node had before, and that its bridge may still have. */
  readonly formerSubnets: readonly Prefix[];
  readonly subnets: PerFamily<Prefix>;
  readonly external: ExternalInterface;
  readonly surroundings: Surroundings;
}

/** Why no peer can be at the public address; undefined if one can. */
export function addressRefusal(host: Address, { external, surroundings }: Surrounded): string | undefined {
  const { family } = host;
  const problem =
    peerAddressProblem(host, [external.publicAddresses[family], external.addresses[family]]) ??
    (surroundings.ownAddresses.has(addressKey(host)) ? "is this host's own" : undefined);
  return problem && `its public address "${formatAddress(host)}" ${problem}`;
}

/** Why the next owner of a subnet that this node had before is not reached yet. */
export const leftoverProblem = (subnet: Prefix): string =>
  `its subnet "${formatPrefix(subnet)}" was this host's before, and containers here still have its addresses; it is reached when the last of them has ended`;

/**
 * Why no peer at `host` may have the subnet; undefined if it may. Only prefixes inside the cluster's network are routed, or
 * inside a former one that this node remembers: its containers are not gone yet. An IPv4 subnet that is exactly the network of
 * an interface is left to shadows.ts, where the first one stays. Over IPv6 the interface's route always comes first.
 */
export function subnetRefusal(subnet: Prefix, host: Address, of: Surrounded): string | undefined {
  const { networks, formerNetworks, subnets, external, surroundings } = of;
  const { family } = subnet.address;
  // Thousands of peers are admitted, and few refused: a text is made for those alone.
  const its = (problem: string): string => `its subnet "${formatPrefix(subnet)}" ${problem}`;
  if (prefixesOverlap(subnet, subnets[family]!)) return its("overlaps with this host's own");
  // A route to it would swallow the tunnel's own packets, or cut this host off from its network.
  const own = external.addresses[family];
  const swallowed = prefixContains(subnet, host) ? host : own && prefixContains(subnet, own) ? own : undefined;
  if (swallowed) return its(`contains the host address "${formatAddress(swallowed)}"`);
  const network = networks[family]!;
  const isInside = (outer: Prefix): boolean => subnet.length > outer.length && prefixContains(outer, subnet.address);
  if (!isInside(network) && !formerNetworks.some(isInside)) {
    return its(`is not inside the cluster's network "${formatPrefix(network)}"`);
  }
  // Somebody who gave the cluster a part of a connected network, or all of it, wants its subnets routed.
  const other = surroundings.networks.find(
    ({ prefix }) =>
      prefixesOverlap(prefix, subnet) &&
      !(family === 4 && samePrefix(prefix, subnet)) &&
      !(prefix.length <= network.length && prefixContains(prefix, network.address)),
  );
  if (other && of.formerSubnets.some((former) => samePrefix(former, other.prefix))) return leftoverProblem(subnet);
  if (other) return its(`overlaps with the network "${formatPrefix(other.prefix)}" of this host's "${other.device}"`);
  const lifeline = surroundings.lifelines.find(({ address }) => prefixContains(subnet, address));
  return lifeline && its(`contains the address "${formatAddress(lifeline.address)}" of ${lifeline.what}`);
}
