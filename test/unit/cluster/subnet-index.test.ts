import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import type { PerFamily } from '../../../cluster/network-config.ts';
import { overlapIndex } from '../../../cluster/subnet-index.ts';
import { formatAddress } from '../../../net/address.ts';
import { type Prefix, parsePrefix, prefixesOverlap } from '../../../net/prefix.ts';

const test = suite('subnet index');

test('the index answers like a comparison with each subnet', () => {
  // A generator of its own, so that a failure can be had again.
  let seed = 7;
  const random = (below: number): number => {
    seed = (seed * 1_103_515_245 + 12_345) % 2 ** 31;
    return Math.floor((seed / 2 ** 31) * below);
  };
  const v4 = (): Prefix => parsePrefix(`10.5.${random(64) * 4}.0/${22 + random(7)}`)!;
  const v6 = (): Prefix => parsePrefix(`fd00:5:0:${(random(64) * 4).toString(16)}::/${62 + random(4)}`)!;
  const subnets = (): PerFamily<Prefix> => [{ 4: v4() }, { 6: v6() }, { 4: v4(), 6: v6() }][random(3)]!;
  for (let round = 0; round < 50; round++) {
    const all = Array.from({ length: random(30) }, subnets);
    const overlaps = overlapIndex(all);
    for (let i = 0; i < 50; i++) {
      const one = subnets();
      const wanted = all.some((other) =>
        ([4, 6] as const).some((family) => {
          const [a, b] = [one[family], other[family]];
          return a && b && prefixesOverlap(a, b);
        }),
      );
      assert.is(
        overlaps(one),
        wanted,
        Object.values(one)
          .map(({ address }) => formatAddress(address))
          .join(),
      );
    }
  }
});

test.run();
