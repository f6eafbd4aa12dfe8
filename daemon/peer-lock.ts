/**
 * The peer lock: VXLAN packets are taken from peers alone. VXLAN itself asks nobody who they are, so that anyone who
 * reaches the port could speak to the containers as one of them.
 *
 * It looks at what arrives for this host, where fragments are put together again and before anything else can accept
 * it; a drop is final whatever other chains say. Each network judges its own packets only, those with its VNI, so that
 * several on a host may share the port.
 */

import {
  addressKeys,
  counter,
  destinationPort,
  drop,
  not,
  rule,
  sourceInSet,
  vxlanNetwork,
} from '../linux/nft/match.ts';
import { type NftChain, type NftRule, type NftSet, nftPriority } from '../linux/nft/table.ts';
import { type Address, type Family, isUnspecified } from '../net/address.ts';

export interface PeerLock {
  readonly vni: number;
  /** UDP port. */
  readonly port: number;
  /** Those that tunnels are carried by. */
  readonly families: readonly Family[];
  /** Public addresses; of other families, unspecified ones and repetitions are left out. */
  readonly peers: readonly Address[];
}

/** What was dropped. */
export interface LockCount {
  readonly packets: number;
  readonly bytes: number;
}
export type LockCounts = { readonly [family in Family]?: LockCount };

export const lockChainName = 'peer-lock';
const setNames: Readonly<Record<Family, string>> = { 4: 'peers4', 6: 'peers6' };

/** The set that the address belongs to; undefined where it is none of a host. */
export const lockSetOf = (address: Address): string | undefined =>
  isUnspecified(address) ? undefined : setNames[address.family];

export const lockSets = ({ families, peers }: PeerLock): NftSet[] =>
  families.map((family) => ({
    name: setNames[family],
    keyType: family === 4 ? 'ipv4_addr' : 'ipv6_addr',
    interval: false,
    elements: addressKeys(peers.filter((peer) => peer.family === family && !isUnspecified(peer))),
  }));

/** @param counts where counting begins */
export const lockChain = ({ families, vni, port }: PeerLock): NftChain => ({
  name: lockChainName,
  // Before everything else at this hook: a flood costs as little as it can.
  base: { type: 'filter', hook: 'input', priority: nftPriority.raw, policy: 'accept' },
  rules: families.map((family) =>
    rule(
      [destinationPort('UDP', port), vxlanNetwork(vni), not(sourceInSet(setNames[family], family)), counter(), drop()],
      { comment: 'weft: from no peer' },
    ),
  ),
});

const familyOf = ({ expressions }: NftRule): Family | undefined => {
  const lookup = expressions.find((expression) => expression.type === 'lookup');
  return ([4, 6] as const).find((family) => setNames[family] === lookup?.set);
};

/** What the chain's rules have counted, by family. */
export function readCounts(rules: readonly NftRule[]): LockCounts {
  const counts: { [family in Family]?: LockCount } = {};
  for (const each of rules) {
    const family = familyOf(each);
    const counted = each.expressions.find((expression) => expression.type === 'counter');
    if (family && counted) counts[family] = { packets: counted.packets, bytes: counted.bytes };
  }
  return counts;
}

/** The chain with its counting begun at `counts`. */
export const withCounts = (chain: NftChain, counts: LockCounts): NftChain => ({
  ...chain,
  rules: chain.rules.map((each) => {
    const family = familyOf(each);
    const count = family && counts[family];
    return count
      ? {
          ...each,
          expressions: each.expressions.map((expression) =>
            expression.type === 'counter' ? { ...expression, ...count } : expression,
          ),
        }
      : each;
  }),
});
