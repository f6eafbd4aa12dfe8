/** The return of the memory that a start takes, as a task. */

import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { Bell } from '../../../../daemon/pace/bell.ts';
import { releaseMemoryTask } from '../../../../daemon/tasks/release-memory.ts';

const test = suite('daemon/tasks/release-memory');
const signal = new AbortController().signal;

test('the memory of the start is given back after 2 s and after 15 s, and then no more', () => {
  let released = 0;
  let nowMs = 2000;
  const options = { manyChanges: new Bell(), restedMs: () => 0, now: () => nowMs };
  const task = releaseMemoryTask({ release: () => void released++, ...options });
  assert.is(task.firstMs, 2000);
  assert.is(task.run(signal), 13_000);
  nowMs = 5000;
  assert.is(task.run(signal), 10_000, 'many changes have woken it');
  nowMs = 15_000;
  assert.is(task.run(signal), Number.POSITIVE_INFINITY);
  assert.is(released, 2);
});

test('the memory of many changes is given back when there have been none for 15 s', () => {
  let released = 0;
  let restedMs = 2000;
  const manyChanges = new Bell();
  let nowMs = 0;
  const options = { manyChanges, restedMs: () => restedMs, now: () => nowMs };
  const task = releaseMemoryTask({ release: () => void released++, ...options });
  assert.equal(task.wakeOn, [manyChanges]);
  task.run(signal);
  nowMs = 15_000;
  task.run(signal);
  assert.is(released, 2, 'those of the start');
  assert.is(task.run(signal), 13_000);
  restedMs = 15_000;
  assert.is(task.run(signal), Number.POSITIVE_INFINITY);
  assert.is(released, 3);
});

test.run();
