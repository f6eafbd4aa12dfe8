/**
 * What makes every node write to etcd at one instant is spread by chance: over so long for each node, but no longer than
 * that. Of a few nodes none need wait.
 */
const spreadPerNodeMs = 2;
const longestSpreadMs = 10_000;
const fewNodes = 10;

/** How long one node waits where so many have to do the same. */
export const spreadMs = (nodes: number, random: () => number): number =>
  nodes <= fewNodes ? 0 : random() * Math.min(nodes * spreadPerNodeMs, longestSpreadMs);
