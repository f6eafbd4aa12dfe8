import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { Backoff, Wakeup } from '../../../../daemon/pace/wakeup.ts';

const test = suite('daemon/pace/wakeup');

const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

test('requests during a run lead to one more run; two runs never overlap', async () => {
  let running = 0;
  let most = 0;
  let runs = 0;
  const finished: (() => void)[] = [];
  const wakeup = new Wakeup({
    minimumIntervalMs: 0,
    now: () => performance.now(),
    async work() {
      runs++;
      running++;
      most = Math.max(most, running);
      await new Promise<void>((resolve) => finished.push(resolve));
      running--;
    },
  });
  wakeup.wake();
  while (finished.length < 1) await pause(1);
  for (let i = 0; i < 10; i++) wakeup.wake();
  finished[0]!();
  while (finished.length < 2) await pause(1);
  finished[1]!();
  await pause(20);
  assert.is(runs, 2);
  assert.is(most, 1);
  wakeup.close();
});

test('the earlier of two requests wins', async () => {
  const at: number[] = [];
  const start = performance.now();
  const wakeup = new Wakeup({
    minimumIntervalMs: 0,
    now: () => performance.now(),
    work: () => void at.push(performance.now() - start),
  });
  wakeup.wake(60_000);
  wakeup.wake(5);
  while (at.length === 0) await pause(1);
  assert.ok(at[0]! < 5000);
  wakeup.close();
});

test('runs keep their distance; the first after a pause is at once', async () => {
  const at: number[] = [];
  const wakeup = new Wakeup({
    minimumIntervalMs: 40,
    now: () => performance.now(),
    work: () => void at.push(performance.now()),
  });
  wakeup.wake();
  while (at.length < 1) await pause(1);
  wakeup.wake();
  while (at.length < 2) await pause(1);
  assert.ok(at[1]! - at[0]! >= 38, `${at[1]! - at[0]!} ms`);
  wakeup.close();
});

test('nothing runs after close', async () => {
  let runs = 0;
  const wakeup = new Wakeup({ minimumIntervalMs: 0, now: () => performance.now(), work: () => void runs++ });
  wakeup.wake(1);
  wakeup.close();
  wakeup.wake();
  await pause(10);
  assert.is(runs, 0);
});

test('backoff doubles up to its limit, less a random share, and begins anew', () => {
  const backoff = new Backoff(100, 1000, () => 0);
  assert.equal(
    [1, 2, 3, 4, 5].map(() => backoff.next()),
    [100, 200, 400, 800, 1000],
  );
  backoff.reset();
  assert.is(backoff.next(), 100);
  assert.is(new Backoff(100, 1000, () => 0.5).next(), 75);
});

test.run();
