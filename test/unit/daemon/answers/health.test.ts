import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { stuckActivity } from '../../../../daemon/answers/health.ts';
import { Wakeup } from '../../../../daemon/pace/wakeup.ts';

const test = suite('daemon/answers/health');
const deadlineMs = 1000;
const lateMs = 100;
const never = Number.POSITIVE_INFINITY;

test('work that ends, and begins when it is due, is alive', () => {
  const idle = { deadlineMs, name: 'a', runningSinceMs: undefined, dueMs: never };
  const running = { deadlineMs, name: 'b', runningSinceMs: 4000, dueMs: 4100 };
  const waiting = { deadlineMs, name: 'c', runningSinceMs: undefined, dueMs: 4950 };
  assert.is(stuckActivity([idle, running, waiting], 5000, lateMs), undefined);
});

test('work that does not end, or does not begin, is stuck, and named', () => {
  assert.is(
    stuckActivity([{ deadlineMs, name: 'a', runningSinceMs: 4000, dueMs: never }], 6001, lateMs),
    '"a" has not ended for 2 s',
  );
  assert.is(
    stuckActivity([{ deadlineMs, name: 'a', runningSinceMs: undefined, dueMs: 4000 }], 7000, lateMs),
    '"a" should have begun 3 s ago',
  );
});

test('a task that waits for ever is reported', async () => {
  let nowMs = 0;
  let end = (): void => {};
  const work = new Wakeup({
    minimumIntervalMs: 0,
    now: () => nowMs,
    work: () => new Promise<void>((resolve) => (end = resolve)),
  });
  const stuck = (): string | undefined =>
    stuckActivity([{ deadlineMs, name: 'x', runningSinceMs: work.runningSinceMs, dueMs: work.nextMs }], nowMs, lateMs);
  assert.is(stuck(), undefined);
  work.wake();
  while (work.runningSinceMs === undefined) await new Promise((resolve) => setTimeout(resolve, 1));
  nowMs = 900;
  assert.is(stuck(), undefined);
  nowMs = 1100;
  assert.match(stuck() ?? '', /"x" has not ended/);
  end();
  while (work.runningSinceMs !== undefined) await new Promise((resolve) => setTimeout(resolve, 1));
  assert.is(stuck(), undefined);
  work.close();
});

test.run();
