import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { Bell } from '../../../../daemon/pace/bell.ts';
import { VerifyFollowed } from '../../../../daemon/tasks/verify-followed.ts';

const test = suite('daemon/tasks/verify-followed');

test('everything is compared two seconds after the last change that was followed', () => {
  let nowMs = 0;
  let comparisons = 0;
  const rings: number[] = [];
  const bells = { verify: new Bell(), network: new Bell() };
  bells.verify.listen((delayMs) => rings.push(delayMs));
  bells.network.listen(() => comparisons++);
  const task = new VerifyFollowed({ bells, now: () => nowMs });
  assert.equal(task.wakeOn, [bells.verify]);
  task.followed();
  nowMs = 1500;
  task.followed();
  assert.equal(rings, [2000, 2000]);
  nowMs = 2000;
  assert.is(task.run(), 1500, 'the run of the first change waits for the second');
  assert.is(comparisons, 0);
  nowMs = 3500;
  assert.is(task.run(), Number.POSITIVE_INFINITY);
  assert.is(comparisons, 1);
});

test.run();
