/** Counters of rules: read, and carried over to the table that replaces theirs. */

import { formatExpression } from '../../linux/nft/expression.ts';
import type { NftChain, NftRule } from '../../linux/nft/table.ts';

export interface Count {
  readonly packets: number;
  readonly bytes: number;
}

/** By the rule that counts. */
export type Counts = ReadonlyMap<string, Count>;

/** A rule is identified by its chain and its text, without counters. */
const keyOf = (chain: string, { expressions }: NftRule): string =>
  `${chain} ${expressions.map(formatExpression).join()}`;

/** Whether any of the chain's rules counts. */
export const doesCount = ({ rules }: NftChain): boolean =>
  rules.some(({ expressions }) => expressions.some(({ type }) => type === 'counter'));

/** The counters of the chains' rules. */
export function readCounts(chains: readonly NftChain[]): Counts {
  const counts = new Map<string, Count>();
  for (const { name, rules } of chains) {
    for (const each of rules) {
      const counted = each.expressions.find((expression) => expression.type === 'counter');
      if (counted) counts.set(keyOf(name, each), { packets: counted.packets, bytes: counted.bytes });
    }
  }
  return counts;
}

/** The chains with counters that start at `counts`. */
export const withCounts = (chains: readonly NftChain[], counts: Counts): NftChain[] =>
  chains.map((chain) => ({
    ...chain,
    rules: chain.rules.map((each) => {
      const count = counts.get(keyOf(chain.name, each));
      if (!count) return each;
      const expressions = each.expressions.map((expression) =>
        expression.type === 'counter' ? { ...expression, ...count } : expression,
      );
      return { ...each, expressions };
    }),
  }));

export const sumOf = (counts: Counts): Count => {
  const all = [...counts.values()];
  return {
    packets: all.reduce((sum, { packets }) => sum + packets, 0),
    bytes: all.reduce((sum, { bytes }) => sum + bytes, 0),
  };
};
