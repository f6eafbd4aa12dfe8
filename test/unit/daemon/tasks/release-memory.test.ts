/** The return of the memory that a start takes, as a task. */

import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { releaseMemoryTask } from '../../../../daemon/tasks/release-memory.ts';

const test = suite('daemon/tasks/release-memory');
const signal = new AbortController().signal;

test('the memory of the start is given back after 2 s and after 15 s, and then no more', () => {
  let released = 0;
  const task = releaseMemoryTask(() => void released++);
  assert.is(task.firstMs, 2000);
  assert.is(task.run(signal), 13_000);
  assert.is(task.run(signal), Number.POSITIVE_INFINITY);
  assert.is(released, 2);
});

test.run();
