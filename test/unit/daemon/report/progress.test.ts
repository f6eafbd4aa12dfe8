import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { Progress } from '../../../../daemon/report/progress.ts';

const test = suite('daemon/report/progress');

test('a waiter is told once weftd is ready, and at once afterwards', async () => {
  const progress = new Progress(5);
  assert.is(progress.startedAtMs, 5);
  let told = 0;
  const waiting = [progress.whenReady(), progress.whenReady()].map((ready) => ready.then(() => told++));
  await new Promise((resolve) => setImmediate(resolve));
  assert.is(told, 0);
  assert.not(progress.isReady);
  progress.becomeReady();
  await Promise.all(waiting);
  assert.is(told, 2);
  await progress.whenReady();
  assert.ok(progress.isReady);
});

test('every note is read back', () => {
  const progress = new Progress(0);
  const read = () => [progress.isInSync, progress.hasCompared, progress.isStopping, progress.lastChangeMs];
  assert.equal(read(), [false, false, false, undefined]);
  progress.noteSync(true);
  progress.noteComparison();
  progress.noteChange(1.5);
  assert.equal(read(), [true, true, false, 1.5]);
  progress.noteSync(false);
  progress.stop();
  assert.equal(read(), [false, true, true, 1.5]);
});

test.run();
