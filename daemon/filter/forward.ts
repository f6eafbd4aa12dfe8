/**
 * Forwarding: containers' packets are accepted in weftd's own table, as flannel does it. That
 * has no effect if another program's chain drops them: foreign-forward.ts puts rules there, from the same settings.
 */

import { families } from '../../cluster/network-config.ts';
import { accept, destinationIn, rule, sourceIn } from '../../linux/nft/match.ts';
import { type NftChain, nftPriority } from '../../linux/nft/table.ts';
import { type ClusterPrefixes, containerPrefixes, formatPrefixes, prefixesOf } from './cluster-prefixes.ts';
import type { ForwardSettings } from './foreign-forward.ts';
import { type Roads, samplePackets } from './packet-walk.ts';
import type { FilterPart, PartContent } from './part.ts';

const name = 'forward';
const comment = 'weft';

export const forwardContent = (prefixes: ClusterPrefixes): PartContent => ({
  name,
  family: 'inet',
  structure: formatPrefixes(prefixes),
  sets: [],
  chains: (): NftChain[] => [
    {
      name: 'forward',
      base: { type: 'filter', hook: 'forward', priority: nftPriority.filter, policy: 'accept' },
      rules: containerPrefixes(prefixes).flatMap((prefix) => [
        rule([sourceIn(prefix), accept()], { comment }),
        rule([destinationIn(prefix), accept()], { comment }),
      ]),
    },
  ],
});

export const forwarding = (): FilterPart => ({
  name,
  family: 'inet',
  wants: (view) => forwardContent(prefixesOf(view)),
});

/** The packets that must pass other programs' chains. */
export function forwardSettings(prefixes: ClusterPrefixes, roads: Roads): ForwardSettings {
  const { networks, subnets } = prefixes;
  const packets = families.flatMap((family) => {
    const network = networks[family];
    return network ? subnets.flatMap((each) => (each[family] ? samplePackets(network, each[family], roads) : [])) : [];
  });
  return { accepted: containerPrefixes(prefixes), packets };
}
