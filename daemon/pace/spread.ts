/**
 * Spreads work that would make every node write to the store at the same instant. The random delay grows with the number of
 * nodes, up to a limit. In a small cluster no node has to wait.
 */
const spreadPerNodeMs = 2;
const longestSpreadMs = 10_000;
const fewNodes = 10;

/** How long the last of that many nodes waits. */
export const longestWaitMs = (nodes: number): number =>
  nodes <= fewNodes ? 0 : Math.min(nodes * spreadPerNodeMs, longestSpreadMs);

/** How long one of that many nodes waits. */
export const spreadMs = (nodes: number, random: () => number): number => random() * longestWaitMs(nodes);
