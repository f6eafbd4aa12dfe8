/**
 * The corpus through the reference plugins and through Weft: no difference but those that are meant. The reference is Debian's;
 * WEFT_TEST_REFERENCE names a folder with another one, such as the newest release.
 */

import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { Scratch } from '../lab/scratch.ts';
import { fixture } from '../support/fixture.ts';
import { type Comparison, compareAll, type Difference, describeDifference } from './comparison.ts';
import { Family } from './corpus/family.ts';
import { corpus } from './corpus.ts';
import { exceptions } from './exceptions.ts';
import { referenceAge } from './sides.ts';

const test = suite('corpus');

/** Most of the time is the reference's waiting for IPv6. */
const lanes = 8;
/** So many are shown; the rest is counted. */
const shownAtMost = 25;

const judge = (difference: Difference) => exceptions.find(({ covers }) => covers(difference));

const comparisons = fixture<readonly Comparison[]>(
  test,
  async () => {
    const scratch = new Scratch('diff');
    try {
      return await compareAll(scratch, corpus(), lanes, judge);
    } finally {
      scratch.remove();
    }
  },
  () => undefined,
);

test('Weft differs from the reference only as listed', () => {
  const all = comparisons();
  const unlisted = all.flatMap(({ differences }) => differences).filter((difference) => !judge(difference));
  const steps = all.reduce((sum, comparison) => sum + comparison.steps, 0);
  const same = all.filter(({ differences }) => differences.length === 0).length;
  console.log(`\n  ${all.length} configurations, ${steps} calls on each side; ${same} without any difference`);
  assert.ok(all.length >= 400, 'four hundred or more');
  if (unlisted.length === 0) return;
  const names = new Set(unlisted.map(({ definition }) => definition.name));
  // One of each kind tells enough.
  const kinds = new Map(
    unlisted.toReversed().map((difference) => [`${difference.aspect} ${difference.line}`, difference]),
  );
  const shown = [...kinds.values()].toReversed().slice(0, shownAtMost).map(describeDifference).join('\n');
  console.log(`${shown}\nThese differ: ${[...names].join(' | ')}`);
  assert.is(unlisted.length, 0, `${names.size} configurations differ, in ${kinds.size} kinds of lines: see above`);
});

test('every listed exception occurs', () => {
  const age = referenceAge();
  const differences = comparisons().flatMap((comparison) => comparison.differences);
  const uses = exceptions.map((exception) => ({ ...exception, count: differences.filter(exception.covers).length }));
  console.log(`\n${uses.map(({ name, count }) => `  ${String(count).padStart(5)} ${name}`).join('\n')}`);
  assert.equal(
    uses.filter(({ count, byChance, only = age }) => count === 0 && !byChance && only === age).map(({ name }) => name),
    [],
  );
});

test('no two cases have the same name', () => {
  const names = corpus().map(({ name }) => name);
  assert.equal(
    names.filter((name, i) => names.indexOf(name) !== i),
    [],
  );
});

test('a new case changes no other: each draws by its family and its name', () => {
  const casesOf = (names: readonly string[]) => {
    const family = new Family('any');
    for (const name of names) family.main(name, { mtu: family.drawFor(name).integer(1500) });
    return family.cases;
  };
  const [first, , third] = casesOf(['one', 'new', 'two']);
  assert.equal(casesOf(['one', 'two']), [first, third]);
});

test.run();
