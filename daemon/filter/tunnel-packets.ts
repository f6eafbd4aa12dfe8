/**
 * How rules recognise the tunnel's packets by their outer header. The parts of the peer lock share it, and the sets that
 * peer-lock.ts keeps: without the element of the timed set, none of their rules holds.
 */

import { type PerFamily, perFamily, valuesOf } from '../../cluster/network-config.ts';
import { ipProtocol } from '../../linux/nft/header.ts';
import {
  destinationPortInSet,
  greAnyKey,
  greKeyIs,
  grePackets,
  greWithoutKey,
  protocolInSet,
  type RuleItem,
  vxlanNetwork,
} from '../../linux/nft/match.ts';
import type { Family } from '../../net/address.ts';
import type { OuterHeader } from '../backends/backend.ts';
import { outer as outerOf } from '../backends/map.ts';
import type { FilterView } from './part.ts';

/** The key in the timed set: the tunnel's UDP port, or its IP protocol. */
export const portSet = 'locked-port';
export const protocolSet = 'locked-protocol';
/** The set of peers' public addresses. */
export const peerSets: Readonly<Record<Family, string>> = { 4: 'peers4', 6: 'peers6' };

/**
 * Forms of packets that a GRE device accepts. Over IPv6 the kernel treats no key and key 0 alike (ip6gre_tunnel_lookup),
 * over IPv4 it distinguishes them (ip_tunnel_key_match).
 */
function greShapes(key: OuterHeader['key'], family: Family): RuleItem[][] {
  if (key === 'any') return [[greAnyKey()]];
  if (family === 6 && (key ?? 0) === 0) return [[greWithoutKey()], ...greKeyIs(0)];
  return key === undefined ? [[greWithoutKey()]] : greKeyIs(key);
}

/** The names of the timed sets. */
export interface TunnelSets {
  readonly port: string;
  readonly protocol: string;
}
const lockedSets: TunnelSets = { port: portSet, protocol: protocolSet };

/** Conditions for the tunnel's packets; one list per possible form. */
export function tunnelItems(
  { ipProtocol: protocol, udpPort, vni, key }: OuterHeader,
  family: Family,
  sets = lockedSets,
): RuleItem[][] {
  switch (protocol) {
    case ipProtocol.IPPROTO_UDP:
      if (udpPort === undefined) throw new Error('A tunnel in UDP needs a port');
      return [[destinationPortInSet('UDP', sets.port), ...(vni === undefined ? [] : [vxlanNetwork(vni)])]];
    case ipProtocol.IPPROTO_GRE:
      return greShapes(key, family).map((items) => [protocolInSet(sets.protocol), grePackets(), ...items]);
    default:
      return [[protocolInSet(sets.protocol)]];
  }
}

/** The tunnel's headers for the families in use; undefined if no packet has one. */
export function tunnelOf({ backend, config }: FilterView): PerFamily<OuterHeader> | undefined {
  const outer = perFamily((family) => (config.networks[family] ? outerOf(backend, family) : undefined));
  return valuesOf(outer).length > 0 ? outer : undefined;
}
