import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { stuckActivity } from '../../../daemon/answers/health.ts';
import { Loop } from '../../../daemon/loop.ts';
import { Bell } from '../../../daemon/pace/bell.ts';
import type { Task } from '../../../daemon/pace/task.ts';
import { openLogger } from '../../../daemon/report/log.ts';
import { Problems } from '../../../daemon/report/problems.ts';
import { waitFor } from '../../lab/wait.ts';

const test = suite('daemon/loop: tasks');

const now = (): number => performance.now();
const never = Number.POSITIVE_INFINITY;

function loopOf(...tasks: Task[]): { loop: Loop; problems: Problems; changes: () => number } {
  const problems = new Problems(openLogger({ level: 'error', format: 'text', write: () => {}, now: () => 0 }), now);
  const changed = new Bell();
  let changes = 0;
  changed.listen(() => changes++);
  return { loop: new Loop({ tasks, problems, now, random: () => 0, changed }), problems, changes: () => changes };
}

const small: Omit<Task, 'run'> = { name: 'sweeping', everyMs: never, jitter: 0, deadlineMs: 1000, firstMs: 0 };

test('another task plugs in: it is run, and after each run the status may have changed', async () => {
  let runs = 0;
  const { loop, changes } = loopOf({ ...small, run: () => (++runs < 2 ? 0 : never) });
  loop.start();
  await waitFor('two runs', () => changes() === 2);
  assert.is(runs, 2);
  loop.stop();
});

test('the failure of a task is its own: a problem by its name, and the other task goes on', async () => {
  let fails = true;
  const bell = new Bell();
  let others = 0;
  const { loop, problems } = loopOf(
    {
      ...small,
      wakeOn: [bell],
      run() {
        if (fails) throw new Error('the broom is gone');
        return never;
      },
    },
    {
      ...small,
      name: 'counting',
      run() {
        others++;
        return 1;
      },
    },
  );
  loop.start();
  await waitFor('the problem', () => problems.all.length > 0);
  assert.equal(problems.list(), ['Task "sweeping" failed: the broom is gone; trying again']);
  assert.equal(
    problems.all.map(({ head, subject }) => [head.code, subject]),
    [['task', 'sweeping']],
  );
  const before = others;
  await waitFor('the other task', () => others > before);
  fails = false;
  bell.ring();
  await waitFor('the end of the problem', () => problems.all.length === 0);
  loop.stop();
});

test('a task may report its failures itself', async () => {
  const told: string[] = [];
  const { loop, problems } = loopOf({
    ...small,
    run() {
      throw new Error('no');
    },
    failed: ({ message }) => told.push(message),
  });
  loop.start();
  await waitFor('a failure', () => told.length > 0);
  assert.equal(problems.list(), []);
  loop.stop();
});

test('health is derived from the tasks: each has its own deadline', async () => {
  const { loop } = loopOf(
    { ...small, deadlineMs: 10, run: () => new Promise(() => {}) },
    { ...small, name: 'waiting', deadlineMs: 60_000, run: () => new Promise(() => {}) },
  );
  loop.start();
  await waitFor('the loop to be stuck', () => stuckActivity(loop.activities, now()) !== undefined);
  assert.match(stuckActivity(loop.activities, now())!, /^"sweeping" has not ended for \d+ s$/);
  assert.equal(
    loop.activities.map(({ name }) => name),
    ['sweeping', 'waiting'],
  );
  loop.stop();
});

test.run();
