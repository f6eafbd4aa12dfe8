import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { Bell } from '../../../../daemon/pace/bell.ts';
import { Schedule, type Task } from '../../../../daemon/pace/task.ts';
import { waitFor } from '../../../lab/wait.ts';

const test = suite('daemon/pace/task');

/** A clock that stands still, so that the time until a run is due is exact, however long the test takes. */
const now = (): number => 1000;
const never = Number.POSITIVE_INFINITY;

/** A schedule of a small task, with the ends of its runs. */
function scheduleOf(task: Partial<Task> & Pick<Task, 'run'>): { schedule: Schedule; ends: (string | undefined)[] } {
  const ends: (string | undefined)[] = [];
  const schedule = new Schedule(
    { name: 'counting', everyMs: never, jitter: 0, deadlineMs: 1000, ...task },
    { now, random: () => 0, onEnd: (error) => ends.push(error?.message) },
  );
  return { schedule, ends };
}

test('a run comes after the first time, then when the run before said', async () => {
  let runs = 0;
  const { schedule, ends } = scheduleOf({ firstMs: 0, run: () => (++runs < 3 ? 1 : never) });
  assert.is(schedule.dueMs, never);
  schedule.start();
  await waitFor('three runs', () => ends.length === 3);
  assert.is(schedule.dueMs, never);
  assert.is(schedule.runningSinceMs, undefined);
  schedule.close();
});

test('a run that names no time is followed by one after the period, shortened by chance', async () => {
  let runs = 0;
  const schedule = new Schedule(
    {
      name: 'counting',
      everyMs: 60_000,
      jitter: 0.5,
      deadlineMs: 1000,
      firstMs: 0,
      run() {
        runs++;
        return undefined;
      },
    },
    { now, random: () => 0.5, onEnd: () => {} },
  );
  schedule.start();
  await waitFor('the next run to be planned', () => runs > 0 && schedule.dueMs !== never);
  assert.is(schedule.dueMs - now(), 45_000);
  schedule.close();
});

test('bells ask for runs; two never run at once', async () => {
  const bells = [new Bell(), new Bell()];
  let running = 0;
  let most = 0;
  let end = (): void => {};
  const { schedule, ends } = scheduleOf({
    wakeOn: bells,
    async run() {
      most = Math.max(most, ++running);
      await new Promise<void>((resolve) => (end = resolve));
      running--;
      return never;
    },
  });
  schedule.start();
  bells[0]!.ring();
  await waitFor('the first run', () => running === 1);
  for (let i = 0; i < 5; i++) bells[i % 2]!.ring();
  end();
  await waitFor('the second run', () => ends.length === 1 && running === 1);
  end();
  await waitFor('its end', () => ends.length === 2);
  assert.is(schedule.dueMs, never);
  assert.is(most, 1);
  schedule.close();
});

test('a failure is told, and tried again after growing pauses; a success ends that', async () => {
  const dues: number[] = [];
  let fails = true;
  const bell = new Bell();
  const { schedule, ends } = scheduleOf({
    wakeOn: [bell],
    run() {
      if (fails) throw new Error('no');
      return never;
    },
  });
  for (let i = 0; i < 3; i++) {
    bell.ring();
    await waitFor('the end of a run', () => ends.length > i);
    dues.push(schedule.dueMs - now());
  }
  assert.equal(ends, ['no', 'no', 'no']);
  assert.ok(dues[0]! < dues[1]! && dues[1]! < dues[2]!, dues.join(' '));
  fails = false;
  bell.ring();
  await waitFor('a success', () => ends.length === 4);
  assert.is(ends[3], undefined);
  assert.is(schedule.dueMs, never);
  schedule.close();
});

test('the signal is aborted at the deadline, and when the schedule is closed', async () => {
  const signals: AbortSignal[] = [];
  const bell = new Bell();
  const run = (signal: AbortSignal): Promise<number> => {
    signals.push(signal);
    return new Promise((resolve) => signal.addEventListener('abort', () => resolve(never)));
  };
  const late = scheduleOf({ firstMs: 0, deadlineMs: 10, run });
  late.schedule.start();
  await waitFor('the end of the late run', () => late.ends.length === 1);
  assert.ok(signals[0]!.aborted);
  const closed = scheduleOf({ wakeOn: [bell], run });
  bell.ring();
  await waitFor('the second run', () => signals.length === 2);
  assert.not(signals[1]!.aborted);
  closed.schedule.close();
  assert.ok(signals[1]!.aborted);
  await new Promise((resolve) => setImmediate(resolve));
  assert.equal(closed.ends, []);
  late.schedule.close();
});

test.run();
