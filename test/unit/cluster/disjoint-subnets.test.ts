import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { DisjointSubnets } from '../../../cluster/disjoint-subnets.ts';
import { formatPrefix, networkOf, type Prefix, parsePrefix, prefixesOverlap } from '../../../net/prefix.ts';
import { randomStream } from '../../support/random.ts';

const test = suite('cluster/disjoint-subnets');
const prefix = (text: string): Prefix => parsePrefix(text)!;

test('property: it finds an overlap exactly where a look at each subnet does', () => {
  let found = 0;
  for (let seed = 1; seed <= 200; seed++) {
    const random = randomStream(seed);
    const below = (limit: number): number => Math.floor(random() * limit);
    const any = (): Prefix =>
      seed % 2 === 0
        ? networkOf({ ...prefix(`10.1.${below(8)}.${below(256)}/32`), length: 20 + below(13) })
        : networkOf({ ...prefix(`fd00:0:0:${below(8)}:8000::/128`), length: 58 + below(9) });
    const subnets = new DisjointSubnets();
    const all: Prefix[] = [];
    for (let round = 0; round < 60; round++) {
      const next = any();
      const expected = all.filter((other) => prefixesOverlap(other, next));
      const taken = subnets.find(next);
      assert.is(taken === undefined, expected.length === 0, `seed ${seed}: ${formatPrefix(next)}`);
      if (taken) {
        found++;
        assert.is(taken.owner, formatPrefix(taken.prefix));
        assert.ok(expected.includes(taken.prefix));
        if (below(2) === 0) {
          subnets.remove(taken.prefix);
          all.splice(all.indexOf(taken.prefix), 1);
        }
      } else {
        subnets.add(next, formatPrefix(next));
        all.push(next);
      }
    }
  }
  assert.ok(found > 1000, String(found));
});

test.run();
