import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { Bell } from '../../../../daemon/pace/bell.ts';
import { VerifyFollowed } from '../../../../daemon/tasks/verify-followed.ts';

const test = suite('daemon/tasks/verify-followed');

test('everything is compared two seconds after the last change that was followed', () => {
  let nowMs = 0;
  let comparisons = 0;
  const rings: number[] = [];
  const bells = { verify: new Bell(), network: new Bell(), memory: new Bell() };
  bells.verify.listen((delayMs) => rings.push(delayMs));
  bells.network.listen(() => comparisons++);
  const task = new VerifyFollowed({ bells, now: () => nowMs });
  assert.equal(task.wakeOn, [bells.verify]);
  task.followed(3);
  nowMs = 1500;
  task.followed(3);
  assert.equal(rings, [2000, 2000]);
  nowMs = 2000;
  assert.is(task.run(), 1500, 'the run of the first change waits for the second');
  assert.is(comparisons, 0);
  nowMs = 3500;
  assert.is(task.run(), Number.POSITIVE_INFINITY);
  assert.is(comparisons, 1);
});

test('after many changes memory is to be given back; how long there have been none is told', () => {
  let nowMs = 0;
  let rings = 0;
  const bells = { verify: new Bell(), network: new Bell(), memory: new Bell() };
  bells.memory.listen(() => rings++);
  const task = new VerifyFollowed({ bells, now: () => nowMs });
  assert.is(task.restedMs, Number.POSITIVE_INFINITY);
  for (let i = 0; i < 33; i++) task.followed(3);
  assert.is(rings, 0);
  task.followed(3);
  nowMs = 700;
  assert.equal([rings, task.restedMs], [1, 700]);
  task.followed(3);
  assert.is(rings, 1, 'counted anew');
});

test.run();
