/**
 * From whom packets were dropped. A set holds the senders' addresses with their packets, for some minutes after the last one.
 * It is small: who forges thousands of addresses costs no memory, and the first ones tell enough.
 */

import type { PerFamily } from '../../cluster/network-config.ts';
import { counter, countSource, drop, rule } from '../../linux/nft/match.ts';
import type { NftChain } from '../../linux/nft/table.ts';
import { type Family, families } from '../../net/address.ts';
import type { PartSet } from './part.ts';

export const droppedSets: Readonly<Record<Family, string>> = { 4: 'dropped4', 6: 'dropped6' };
const mostSenders = 16;
const keptMs = 600_000;

/** The sets, for the families that have a tunnel. */
export const sendersOf = (outer: PerFamily<unknown>): PartSet[] =>
  families.flatMap((family) =>
    outer[family] === undefined
      ? []
      : [
          {
            name: droppedSets[family],
            keyType: family === 4 ? 'ipv4_addr' : 'ipv6_addr',
            timeoutMs: keptMs,
            dynamicSize: mostSenders,
            source: 'dynamic',
            elements: () => [],
          },
        ],
  );

/**
 * The chain that ends in a drop: rules go to it. Where the set is full, the rule about it ends, and the next one still drops.
 */
export const dropChain = (name: string, outer: PerFamily<unknown>, comment: string): NftChain => ({
  name,
  rules: [
    ...families.flatMap((family) => (outer[family] ? [rule([countSource(droppedSets[family], family)])] : [])),
    rule([counter(), drop()], { comment }),
  ],
});
