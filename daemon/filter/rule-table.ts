/**
 * What weftd's own nftables table holds, derived from what the cluster says: flannel's masquerading and forwarding
 * rules, and the peer lock.
 */

import { families, type PerFamily, valuesOf } from '../../cluster/network-config.ts';
import {
  accept,
  destinationIn,
  markIs,
  masquerade,
  not,
  type RuleItem,
  returnVerdict,
  rule,
  sourceIn,
} from '../../linux/nft/match.ts';
import { type NftChain, type NftRule, type NftTable, nftPriority } from '../../linux/nft/table.ts';
import type { Family } from '../../net/address.ts';
import { formatPrefix, type Prefix, parsePrefix, prefixContains } from '../../net/prefix.ts';
import type { ForwardSettings } from './foreign-forward.ts';
import { type Roads, samplePackets } from './packet-walk.ts';
import { lockChains, lockSets, type PeerLock } from './peer-lock.ts';

/** What the rules are made from. */
export interface RuleSettings {
  /** The cluster's networks, for the families in use. */
  readonly networks: PerFamily<Prefix>;
  /** This node's subnets: the one it has leased now first, then older ones that containers still have addresses of. */
  readonly subnets: readonly PerFamily<Prefix>[];
  /** Whether traffic between the cluster and elsewhere gets the host's address. */
  readonly ipMasq: boolean;
  /** Whether it gets ports at random, so that two packets at the same instant do not end up with the same one. */
  readonly randomPorts: boolean;
  /** Whether what the cluster's containers send and get is accepted where others would drop what is forwarded. */
  readonly forward: boolean;
  /** Undefined: anybody's packets are taken, or there is no tunnel. */
  readonly lock: PeerLock | undefined;
}

/** Kubernetes' mark for what it masquerades itself. */
const kubernetesMark = 0x4000;

const multicast: Readonly<Record<Family, Prefix>> = { 4: parsePrefix('224.0.0.0/4')!, 6: parsePrefix('ff00::/8')! };
const comment = 'weft';

/**
 * flannel's rules, in its order, with C the cluster's network and P this node's subnets: between containers nothing is
 * rewritten, nor is what comes from outside to this node's own; the rest that leaves C, or enters it by way of this
 * node for another's container, gets this host's address.
 */
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

/**
 * The table's name: a host in several networks has a weftd for each, and each weftd a table of its own.
 * @param scope of the network, by its store; undefined for the one that hosts have as a rule
 */
export const tableName = (scope: string | undefined): string =>
  scope === undefined ? 'weft' : `weft${scope.replace(/[^A-Za-z0-9/._-]/g, '_').slice(0, 200)}`;

/** What the accepted packets come from or go to: the cluster's networks, and older subnets of this node outside them. */
export function acceptedPrefixes({ networks, subnets }: Pick<RuleSettings, 'networks' | 'subnets'>): Prefix[] {
  const accepted = valuesOf(networks);
  const outside = (subnet: Prefix): boolean => !accepted.some((prefix) => prefixContains(prefix, subnet.address));
  return [...accepted, ...subnets.flatMap((each) => valuesOf(each)).filter(outside)];
}

/** What has to get through other programs' chains. */
export function forwardSettings(settings: RuleSettings, roads: Roads): ForwardSettings {
  const { networks, subnets } = settings;
  const packets = families.flatMap((family) => {
    const network = networks[family];
    return network ? subnets.flatMap((each) => (each[family] ? samplePackets(network, each[family], roads) : [])) : [];
  });
  return { accepted: acceptedPrefixes(settings), packets };
}

/** The table as it should be. */
export function desiredTable(settings: RuleSettings, name = 'weft'): NftTable {
  const { networks, subnets, ipMasq, lock } = settings;
  const inUse = families.filter((family) => networks[family] !== undefined);
  // It decides nothing where another program's chain drops what is forwarded: see foreign-forward.ts.
  const forward: NftChain = {
    name: 'forward',
    base: { type: 'filter', hook: 'forward', priority: nftPriority.filter, policy: 'accept' },
    rules: acceptedPrefixes(settings).flatMap((prefix) => [
      rule([sourceIn(prefix), accept()], { comment }),
      rule([destinationIn(prefix), accept()], { comment }),
    ]),
  };
  const postrouting: NftChain = {
    name: 'postrouting',
    base: { type: 'nat', hook: 'postrouting', priority: nftPriority.srcnat, policy: 'accept' },
    rules: [
      rule([markIs(kubernetesMark, kubernetesMark), returnVerdict()], { comment }),
      ...inUse.flatMap((family) =>
        masqueradeRules(
          networks[family]!,
          subnets.flatMap((each) => each[family] ?? []),
          settings.randomPorts,
        ),
      ),
    ],
  };
  return {
    family: 'inet',
    name,
    sets: lock ? lockSets(lock) : [],
    chains: [
      ...(lock ? lockChains(lock) : []),
      ...(settings.forward ? [forward] : []),
      ...(ipMasq ? [postrouting] : []),
    ],
  };
}

/** The same text for settings that come to the same table, but for the peers. */
export function formatStructure(settings: RuleSettings): string {
  const { networks, subnets, ipMasq, randomPorts, forward, lock } = settings;
  const prefixes = (each: PerFamily<Prefix>): string => valuesOf(each).map(formatPrefix).join();
  const lockText =
    lock &&
    `${lock.vni} ${lock.port} ${lock.lifeMs} ${lock.families.join()} ${lock.containers.map(formatPrefix).join()}`;
  return JSON.stringify([prefixes(networks), subnets.map(prefixes), ipMasq, randomPorts, forward, lockText]);
}
