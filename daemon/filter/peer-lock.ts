/**
 * The peer lock: VXLAN packets are taken from peers alone. VXLAN itself asks nobody who they are, so that anyone who
 * reaches the port could speak to the containers as one of them.
 *
 * Containers, whose packets to the outside get their host's address, would be peers by that: what they send to a peer's
 * port is dropped by their own host.
 *
 * It looks at what arrives for this host, where fragments are put together again and before anything else can accept
 * it; a drop is final whatever other chains say. Each network judges its own packets only, those with its VNI, so that
 * several on a host may share the port.
 *
 * It holds for as long as weftd lives, and a moment longer: a restart opens nothing. After that peers are whoever
 * another program, flanneld perhaps, says they are, and it would know nothing of those that are new.
 */

import type { NetlinkRequest } from '../../linux/netlink/connection.ts';
import { formatExpression } from '../../linux/nft/expression.ts';
import {
  addressKeys,
  counter,
  destinationInSet,
  destinationPortInSet,
  drop,
  not,
  portKey,
  rule,
  sourceIn,
  sourceInSet,
  vxlanNetwork,
} from '../../linux/nft/match.ts';
import {
  deleteElements,
  type NftChain,
  type NftRule,
  type NftSet,
  newElements,
  nftPriority,
  type TableName,
} from '../../linux/nft/table.ts';
import { type Address, type Family, isUnspecified } from '../../net/address.ts';
import type { Prefix } from '../../net/prefix.ts';

export interface PeerLock {
  readonly vni: number;
  /** UDP port. */
  readonly port: number;
  /** For how long it holds unless it is renewed. */
  readonly lifeMs: number;
  /** Those that tunnels are carried by. */
  readonly families: readonly Family[];
  /** Public addresses; of other families, unspecified ones and repetitions are left out. */
  readonly peers: readonly Address[];
  /** Whose packets to peers' tunnel ports are dropped on their way out: the cluster's networks in these families. */
  readonly containers: readonly Prefix[];
}

/** Long enough for a restart, and for a machine that is slow. */
export const lockLifeMs = 30_000;

/** What was dropped. */
export interface LockCount {
  readonly packets: number;
  readonly bytes: number;
}
/** By the rule that dropped it. */
export type LockCounts = ReadonlyMap<string, LockCount>;

const chainNames = { in: 'peer-lock', out: 'peer-lock-out' } as const;
export const lockChainNames: readonly string[] = Object.values(chainNames);
/** The port, for as long as the lock holds. */
const portSet = 'locked-port';
const setNames: Readonly<Record<Family, string>> = { 4: 'peers4', 6: 'peers6' };

/** The set that the address belongs to; undefined where it is none of a host. */
export const lockSetOf = (address: Address): string | undefined =>
  isUnspecified(address) ? undefined : setNames[address.family];

export const lockSets = ({ families, peers, port, lifeMs }: PeerLock): NftSet[] => [
  { name: portSet, keyType: 'inet_service', interval: false, timeoutMs: lifeMs, elements: [portKey(port)] },
  ...families.map(
    (family): NftSet => ({
      name: setNames[family],
      keyType: family === 4 ? 'ipv4_addr' : 'ipv6_addr',
      interval: false,
      elements: addressKeys(peers.filter((peer) => peer.family === family && !isUnspecified(peer))),
    }),
  ),
];

/** What makes the lock of a table hold for its whole life again, in one transaction. */
export function renewLock(table: TableName, { port }: Pick<PeerLock, 'port'>): NetlinkRequest[] {
  const elements = [portKey(port)];
  // Whether it is there still or not: after the first it is, and the last one's time begins anew.
  return [
    ...newElements(table, portSet, elements),
    ...deleteElements(table, portSet, elements),
    ...newElements(table, portSet, elements),
  ];
}

/** The ports that a table's lock holds now; none where it has opened, or there is none. */
export const heldPorts = (sets: readonly NftSet[]): number[] =>
  sets
    .filter(({ name }) => name === portSet)
    .flatMap(({ elements }) => elements)
    .flatMap((key) => (key instanceof Uint8Array && key.length >= 2 ? [(key[0]! << 8) | key[1]!] : []));

export function lockChains({ families, vni, containers }: PeerLock): NftChain[] {
  const tunnelled = [destinationPortInSet('UDP', portSet), vxlanNetwork(vni)];
  return [
    {
      name: chainNames.in,
      // Before everything else at this hook: a flood costs as little as it can.
      base: { type: 'filter', hook: 'input', priority: nftPriority.raw, policy: 'accept' },
      rules: families.map((family) =>
        rule([...tunnelled, not(sourceInSet(setNames[family], family)), counter(), drop()], {
          comment: 'weft: from no peer',
        }),
      ),
    },
    {
      name: chainNames.out,
      base: { type: 'filter', hook: 'forward', priority: nftPriority.raw, policy: 'accept' },
      rules: containers.map((prefix) =>
        rule(
          [
            sourceIn(prefix),
            ...tunnelled,
            destinationInSet(setNames[prefix.address.family], prefix.address.family),
            counter(),
            drop(),
          ],
          { comment: 'weft: from a container' },
        ),
      ),
    },
  ];
}

/** The rule without what it has counted. */
const keyOf = (chain: string, each: NftRule): string => `${chain} ${each.expressions.map(formatExpression).join()}`;

/** What the chains' rules have counted. */
export function readCounts(chains: readonly NftChain[]): LockCounts {
  const counts = new Map<string, LockCount>();
  for (const { name, rules } of chains) {
    if (!lockChainNames.includes(name)) continue;
    for (const each of rules) {
      const counted = each.expressions.find((expression) => expression.type === 'counter');
      if (counted) counts.set(keyOf(name, each), { packets: counted.packets, bytes: counted.bytes });
    }
  }
  return counts;
}

/** The chains with their counting begun at `counts`. */
export const withCounts = (chains: readonly NftChain[], counts: LockCounts): NftChain[] =>
  chains.map((chain) => ({
    ...chain,
    rules: chain.rules.map((each) => {
      const count = lockChainNames.includes(chain.name) ? counts.get(keyOf(chain.name, each)) : undefined;
      if (!count) return each;
      const expressions = each.expressions.map((expression) =>
        expression.type === 'counter' ? { ...expression, ...count } : expression,
      );
      return { ...each, expressions };
    }),
  }));
