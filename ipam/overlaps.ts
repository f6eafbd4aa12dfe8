/**
 * Questions about many ranges: which overlap, and which holds an address. The answers come from sorted ranges, because a
 * configuration may have tens of thousands, and comparing all pairs of 20,000 takes minutes.
 */

import { type Address, compareAddresses } from '../net/address.ts';

interface Span {
  readonly start: Address;
  /** The last address. */
  readonly end: Address;
}

const compareStarts = (a: Address, b: Address): number => a.family - b.family || compareAddresses(a, b);

/** Two of the ranges that overlap, in the order of the list; undefined if none do. */
export function findOverlap<S extends Span>(spans: readonly S[]): readonly [S, S] | undefined {
  const sorted = spans.map((span, index) => ({ span, index, start: span.start, end: span.end }));
  sorted.sort((a, b) => compareStarts(a.start, b.start) || a.index - b.index);
  let widest = sorted[0];
  for (const next of sorted.slice(1)) {
    if (widest!.start.family === next.start.family && compareAddresses(next.start, widest!.end) <= 0) {
      return widest!.index < next.index ? [widest!.span, next.span] : [next.span, widest!.span];
    }
    // They do not overlap, so the next one ends later.
    widest = next;
  }
  return undefined;
}

/** Finds the range that holds an address, of ranges that do not overlap. */
export class SpanIndex<S extends Span> {
  readonly #sorted: readonly S[];

  constructor(spans: readonly S[]) {
    this.#sorted = [...spans].sort((a, b) => compareStarts(a.start, b.start));
  }

  find(address: Address): S | undefined {
    let low = 0;
    let high = this.#sorted.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (compareStarts(this.#sorted[middle]!.start, address) <= 0) low = middle + 1;
      else high = middle;
    }
    const last = this.#sorted[low - 1];
    const isInside = last?.start.family === address.family && compareAddresses(address, last.end) <= 0;
    return isInside ? last : undefined;
  }
}
