import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { runInLanes } from '../../gate/lanes.mjs';

const test = suite('gate/lanes');

/** Jobs that end when they are told to, and what ran beside what. */
class Jobs {
  readonly running = new Set<string>();
  readonly seen: string[][] = [];
  readonly ended: string[] = [];

  job(name: string, options: { after?: string[]; alone?: boolean } = {}) {
    const run = async () => {
      this.running.add(name);
      this.seen.push([...this.running]);
      await new Promise((resolve) => setTimeout(resolve, 1));
      this.running.delete(name);
      return { passed: 1, failed: 0 };
    };
    return { part: 'part', name, run, ...options };
  }

  async run(lanes: number, jobs: ReturnType<Jobs['job']>[]): Promise<void> {
    await runInLanes(jobs, { lanes, ended: ({ name }) => void this.ended.push(name) });
  }
}

test('never more jobs at once than lanes, and every job ends', async () => {
  const jobs = new Jobs();
  await jobs.run(
    2,
    ['a', 'b', 'c', 'd', 'e'].map((name) => jobs.job(name)),
  );
  assert.equal([...jobs.ended].sort(), ['a', 'b', 'c', 'd', 'e']);
  assert.is(Math.max(...jobs.seen.map((names) => names.length)), 2);
});

test('a job runs after those that it needs, and alone where it has to', async () => {
  const jobs = new Jobs();
  const [alone, judge] = [
    jobs.job('alone', { alone: true }),
    jobs.job('judge', { after: ['alone', 'b', 'not chosen'] }),
  ];
  await jobs.run(3, [judge, alone, jobs.job('a'), jobs.job('b'), jobs.job('c')]);
  assert.equal(jobs.ended.slice(-2), ['alone', 'judge']);
  assert.equal(
    jobs.seen.find((names) => names.includes('alone')),
    ['alone'],
  );
});

test('a job that throws has failed, and the others go on', async () => {
  const counts: number[] = [];
  const jobs = new Jobs();
  const broken = {
    ...jobs.job('broken'),
    run: async () => {
      throw new Error('no');
    },
  };
  await runInLanes([broken, jobs.job('a')], { lanes: 1, ended: ({ count }) => void counts.push(count.failed) });
  assert.equal(counts, [1, 0]);
});

test('jobs that wait for each other are an error', async () => {
  const jobs = new Jobs();
  try {
    await jobs.run(2, [jobs.job('a', { after: ['b'] }), jobs.job('b', { after: ['a'] })]);
    assert.unreachable();
  } catch (error) {
    assert.is((error as Error).message, 'Jobs wait for each other: a, b');
  }
});

test.run();
