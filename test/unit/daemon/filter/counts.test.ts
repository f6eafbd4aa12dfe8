import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { doesCount, readCounts, sumOf, withCounts } from '../../../../daemon/filter/counts.ts';
import { counter, drop, rule } from '../../../../linux/nft/match.ts';
import { desiredTable } from '../../../lab/filter-rules.ts';
import { settings } from './settings-of.ts';

/** The lock's drops are counted in one chain; with a second one. */
const second = { name: 'second', rules: [rule([counter(), drop()])] };
const chainsOf = () => [...desiredTable(settings).chains, second];

const test = suite('daemon/filter/counts');

test('counts are taken over by the rule that has them', () => {
  const chains = chainsOf();
  assert.equal(
    [...readCounts(chains).values()],
    [
      { packets: 0, bytes: 0 },
      { packets: 0, bytes: 0 },
    ],
  );
  const [first] = [...readCounts(chains).keys()];
  const counted = withCounts(chains, new Map([[first!, { packets: 3, bytes: 180 }]]));
  assert.equal(
    [...readCounts(counted).values()],
    [
      { packets: 3, bytes: 180 },
      { packets: 0, bytes: 0 },
    ],
  );
});

test('which chains count, and what they come to', () => {
  const chains = chainsOf();
  assert.equal(
    chains.filter(doesCount).map(({ name }) => name),
    ['peer-lock-drop', 'second'],
  );
  const [one, other] = [...readCounts(chains).keys()] as [string, string];
  const counted = new Map([
    [one, { packets: 3, bytes: 180 }],
    [other, { packets: 1, bytes: 60 }],
  ]);
  assert.equal(sumOf(readCounts(withCounts(chains, counted))), { packets: 4, bytes: 240 });
  assert.equal(sumOf(new Map()), { packets: 0, bytes: 0 });
});

test.run();
