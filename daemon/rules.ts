/**
 * The packet filter's part: one nftables table, `inet weft` unless the network's etcd prefix is another than flannel's, with flannel's masquerading and forwarding rules.
 *
 * It is compared as a whole with what is there, and replaced as a whole in one transaction when it differs: no packet
 * meets half of it. Nobody else's table is touched.
 */

import { defaultPrefix } from '../cluster/keys.ts';
import { families, type PerFamily } from '../cluster/network-config.ts';
import { type NftConnection, openNft, tableDifference } from '../linux/nft/connection.ts';
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
} from '../linux/nft/match.ts';
import { type NftChain, type NftRule, type NftTable, nftPriority } from '../linux/nft/table.ts';
import type { Sys } from '../linux/sys.ts';
import type { Family } from '../net/address.ts';
import { type Prefix, parsePrefix } from '../net/prefix.ts';
import type { Logger } from './log.ts';

/** What the rules are made from. */
export interface RuleSettings {
  /** The cluster's networks, for the families in use. */
  readonly networks: PerFamily<Prefix>;
  /** This node's subnets. */
  readonly subnets: PerFamily<Prefix>;
  /** Whether traffic between the cluster and elsewhere gets the host's address. */
  readonly ipMasq: boolean;
}

/** Kubernetes' mark for what it masquerades itself. */
const kubernetesMark = 0x4000;

const multicast: Readonly<Record<Family, Prefix>> = { 4: parsePrefix('224.0.0.0/4')!, 6: parsePrefix('ff00::/8')! };

/**
 * flannel's rules, in its order, with C the cluster's network and P this node's subnet: between containers nothing is
 * rewritten, nor is what comes from outside to this node's own; the rest that leaves C, or enters it by way of this
 * node for another's container, gets this host's address.
 */
function masqueradeRules(cluster: Prefix, subnet: Prefix): NftRule[] {
  const masquerading = (...items: RuleItem[]): NftRule =>
    rule([...items, masquerade({ fullyRandom: true })], { comment: 'weft' });
  const leaving = (...items: RuleItem[]): NftRule => rule([...items, returnVerdict()], { comment: 'weft' });
  return [
    leaving(sourceIn(subnet), destinationIn(cluster)),
    leaving(sourceIn(cluster), destinationIn(subnet)),
    leaving(not(sourceIn(cluster)), destinationIn(subnet)),
    masquerading(sourceIn(cluster), not(destinationIn(multicast[cluster.address.family]))),
    masquerading(not(sourceIn(cluster)), destinationIn(cluster)),
  ];
}

/**
 * The table's name: a host in several networks has a weftd for each, and each weftd a table of its own.
 * @param prefix of the network's keys in etcd
 */
export const tableName = (prefix: string): string =>
  prefix === defaultPrefix ? 'weft' : `weft${prefix.replace(/[^A-Za-z0-9/._-]/g, '_').slice(0, 200)}`;

/** The table as it should be. */
export function desiredTable({ networks, subnets, ipMasq }: RuleSettings, name = 'weft'): NftTable {
  const inUse = families.filter((family) => networks[family] !== undefined);
  const forward: NftChain = {
    name: 'forward',
    base: { type: 'filter', hook: 'forward', priority: nftPriority.filter, policy: 'accept' },
    rules: inUse.flatMap((family) => [
      rule([sourceIn(networks[family]!), accept()], { comment: 'weft' }),
      rule([destinationIn(networks[family]!), accept()], { comment: 'weft' }),
    ]),
  };
  const postrouting: NftChain = {
    name: 'postrouting',
    base: { type: 'nat', hook: 'postrouting', priority: nftPriority.srcnat, policy: 'accept' },
    rules: [
      rule([markIs(kubernetesMark, kubernetesMark), returnVerdict()], { comment: 'weft' }),
      ...inUse.flatMap((family) => masqueradeRules(networks[family]!, subnets[family]!)),
    ],
  };
  return { family: 'inet', name, sets: [], chains: ipMasq ? [forward, postrouting] : [forward] };
}

/** Keeps the table. */
export interface Rules {
  /** Puts the table there where it differs. @returns how many tables were replaced */
  ensure(settings: RuleSettings): number;
  /** Takes it away. */
  remove(): void;
  close(): void;
}

/** @param name the table's */
export function openRules(sys: Sys, logger: Logger, name: string): Rules {
  let connection: NftConnection | undefined;
  const close = (): void => {
    connection?.close();
    connection = undefined;
  };
  /** After any error the connection may hold answers that nobody waits for: a new one then. */
  const use = <T>(body: (nft: NftConnection) => T): T => {
    connection ??= openNft(sys);
    try {
      return body(connection);
    } catch (error) {
      close();
      throw error;
    }
  };
  return {
    ensure(settings) {
      return use((nft) => {
        const desired = desiredTable(settings, name);
        const actual = nft.readTable(desired);
        const difference = actual ? tableDifference(desired, actual) : 'it is not there';
        if (difference === undefined) return 0;
        nft.replaceTable(desired);
        logger.info(`packet filter table "inet ${name}" set`, { because: difference });
        return 1;
      });
    },
    remove() {
      use((nft) => nft.removeTable({ family: 'inet', name }));
    },
    close,
  };
}
