/** Finds which of many subnets overlap a given one, without checking each. */

import type { Prefix } from '../net/prefix.ts';
import { addressToInteger, subnetSize } from './arithmetic.ts';
import { families, type PerFamily, valuesOf } from './network-config.ts';

interface Range {
  readonly start: bigint;
  /** The first address after it. */
  readonly end: bigint;
}

const rangeOf = ({ address, length }: Prefix): Range => {
  const start = addressToInteger(address);
  return { start, end: start + subnetSize(address.family, length) };
};

/** @returns a function: whether one of `subnets` overlaps its argument */
export function overlapIndex(subnets: readonly PerFamily<Prefix>[]): (others: PerFamily<Prefix>) => boolean {
  const sorted = new Map<number, readonly Range[]>();
  for (const family of families) {
    const ranges = subnets.flatMap((each) => each[family] ?? []).map(rangeOf);
    ranges.sort((a, b) => (a.start < b.start ? -1 : a.start > b.start ? 1 : 0));
    // Overlapping ranges are merged, so that the ends are sorted, too.
    const merged: Range[] = [];
    for (const range of ranges) {
      const last = merged.at(-1);
      if (!last || range.start >= last.end) merged.push(range);
      else if (range.end > last.end) merged[merged.length - 1] = { start: last.start, end: range.end };
    }
    sorted.set(family, merged);
  }
  return (others) =>
    valuesOf(others).some((prefix) => {
      const ranges = sorted.get(prefix.address.family)!;
      const { start, end } = rangeOf(prefix);
      // Only the first range that ends after our start can overlap.
      let [low, high] = [0, ranges.length];
      while (low < high) {
        const middle = (low + high) >> 1;
        if (ranges[middle]!.end > start) high = middle;
        else low = middle + 1;
      }
      return low < ranges.length && ranges[low]!.start < end;
    });
}
