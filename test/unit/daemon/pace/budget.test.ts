import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { Budget } from '../../../../daemon/pace/budget.ts';

const test = suite('daemon/pace/budget');

test('a budget of time: a burst at once, then its share', () => {
  let nowMs = 1000;
  const budget = new Budget(100, 0.1, () => nowMs);
  for (let i = 0; i < 10; i++) {
    assert.is(budget.waitMs, 0);
    budget.spend(10);
  }
  budget.spend(10);
  assert.is(Math.round(budget.waitMs), 100);
  nowMs += 60;
  assert.is(Math.round(budget.waitMs), 40);
  nowMs += 1_000_000;
  budget.spend(150);
  assert.is(Math.round(budget.waitMs), 500, 'no more is kept than the burst');
});

test('a budget of lines: none where there is none left, and a clock that goes back takes none away', () => {
  let nowMs = 1000;
  const budget = new Budget(3, 0.002, () => nowMs);
  const taken = (): number => [1, 2, 3, 4, 5].filter(() => budget.take()).length;
  assert.is(taken(), 3);
  nowMs += 1000;
  assert.is(taken(), 2);
  nowMs -= 5000;
  assert.is(taken(), 0);
  nowMs += 500;
  assert.is(taken(), 1);
});

test.run();
