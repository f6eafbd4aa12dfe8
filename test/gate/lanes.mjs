/** Runs jobs beside each other in a number of lanes. A job that is to run alone waits until no other runs. */

/**
 * @typedef {object} Job
 * @property {string} part
 * @property {string} name
 * @property {() => Promise<import('./count.mjs').Count>} run
 * @property {readonly string[]} [after] names of jobs that have to end first
 * @property {boolean} [alone]
 * @property {boolean} [uncounted] only its failures count
 */

/** @typedef {Job & { count: import('./count.mjs').Count; seconds: number }} Done */

/** Runs one job; an error that it throws counts as a failure. @returns {Promise<Done>} */
async function finish(job) {
  const start = performance.now();
  let count;
  try {
    count = await job.run();
  } catch (error) {
    count = { passed: 0, failed: 1, output: String(error?.stack ?? error) };
  }
  return { ...job, count, seconds: (performance.now() - start) / 1000 };
}

/**
 * Starts jobs in their order as lanes become free.
 * @param {readonly Job[]} jobs
 * @param {{ lanes: number; started?: (job: Job) => void; ended: (done: Done) => void }} options
 */
export async function runInLanes(jobs, { lanes, started, ended }) {
  const waiting = [...jobs];
  const names = new Set(jobs.map(({ name }) => name));
  const done = new Set();
  const running = new Map();
  let failed;
  const isReady = ({ after = [] }) => after.every((name) => done.has(name) || !names.has(name));
  const start = (job) => {
    waiting.splice(waiting.indexOf(job), 1);
    started?.(job);
    const promise = finish(job).then((result) => {
      running.delete(job);
      done.add(job.name);
      ended(result);
    });
    running.set(
      job,
      promise.catch((error) => {
        failed = { error };
      }),
    );
  };
  const next = () => {
    if ([...running.keys()].some(({ alone }) => alone) || running.size >= lanes) return undefined;
    const beside = waiting.find((job) => !job.alone && isReady(job));
    if (beside || running.size > 0) return beside;
    return waiting.find((job) => job.alone && isReady(job));
  };
  while (waiting.length > 0 || running.size > 0) {
    for (let job = next(); job; job = next()) start(job);
    if (running.size === 0) throw new Error(`Jobs wait for each other: ${waiting.map(({ name }) => name).join(', ')}`);
    await Promise.race(running.values());
    if (failed) throw failed.error;
  }
}
