/**
 * Masquerading: traffic between the cluster and elsewhere gets the host's address. flannel's rules, in its order, with C
 * the cluster's network and P this node's subnets: between containers nothing is rewritten, nor is traffic from outside
 * to this node's own; the rest that leaves C, or enters it by way of this node for another's container, is masqueraded.
 */

import { families, type PerFamily } from '../../cluster/network-config.ts';
import {
  destinationIn,
  markIs,
  masquerade,
  not,
  type RuleItem,
  returnVerdict,
  rule,
  sourceIn,
} from '../../linux/nft/match.ts';
import { type NftChain, type NftRule, nftPriority } from '../../linux/nft/table.ts';
import type { Family } from '../../net/address.ts';
import { type Prefix, parsePrefix, prefixContains } from '../../net/prefix.ts';
import { type ClusterPrefixes, formatPrefixes, prefixesOf } from './cluster-prefixes.ts';
import type { FilterPart, PartContent } from './part.ts';

export const masqueradePart = 'masquerade';

/** Kubernetes' mark for packets that it masquerades itself. */
const kubernetesMark = 0x4000;

const multicast: PerFamily<Prefix> & Record<Family, Prefix> = {
  4: parsePrefix('224.0.0.0/4')!,
  6: parsePrefix('ff00::/8')!,
};
const comment = 'weft';

function masqueradeRules(cluster: Prefix, subnets: readonly Prefix[], fullyRandom: boolean): NftRule[] {
  const masquerading = (...items: RuleItem[]): NftRule => rule([...items, masquerade({ fullyRandom })], { comment });
  const leaving = (...items: RuleItem[]): NftRule => rule([...items, returnVerdict()], { comment });
  const elsewhere = not(destinationIn(multicast[cluster.address.family]));
  return [
    ...subnets.flatMap((subnet) => [
      leaving(sourceIn(subnet), destinationIn(cluster)),
      leaving(sourceIn(cluster), destinationIn(subnet)),
      leaving(not(sourceIn(cluster)), destinationIn(subnet)),
    ]),
    masquerading(sourceIn(cluster), elsewhere),
    // Of a network that the cluster had before.
    ...subnets
      .filter((subnet) => !prefixContains(cluster, subnet.address))
      .map((subnet) => masquerading(sourceIn(subnet), elsewhere)),
    masquerading(not(sourceIn(cluster)), destinationIn(cluster)),
  ];
}

export interface MasqueradeOptions {
  /** Whether ports are chosen at random, so that two packets at the same instant do not end up with the same one. */
  readonly randomPorts: boolean;
}

export function masqueradeContent(prefixes: ClusterPrefixes, { randomPorts }: MasqueradeOptions): PartContent {
  const { networks, subnets } = prefixes;
  const postrouting = (): NftChain => ({
    name: 'postrouting',
    base: { type: 'nat', hook: 'postrouting', priority: nftPriority.srcnat, policy: 'accept' },
    rules: [
      rule([markIs(kubernetesMark, kubernetesMark), returnVerdict()], { comment }),
      ...families.flatMap((family) => {
        const network = networks[family];
        const own = subnets.flatMap((each) => each[family] ?? []);
        return network ? masqueradeRules(network, own, randomPorts) : [];
      }),
    ],
  });
  return {
    name: masqueradePart,
    family: 'inet',
    structure: `${formatPrefixes(prefixes)} ${randomPorts}`,
    sets: [],
    chains: () => [postrouting()],
  };
}

export const masquerading = (options: MasqueradeOptions): FilterPart => ({
  name: masqueradePart,
  family: 'inet',
  wants: (view) => masqueradeContent(prefixesOf(view), options),
});
