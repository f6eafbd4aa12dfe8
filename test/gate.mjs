/**
 * The gate: `npm test` runs every part but `guest` and `soak`. It runs `kubernetes` in a short form, and only where one is
 * built; `runtimes` likewise, only where the runtimes are installed. `npm test -- unit types` runs these parts, and `npm test -- test/cluster/healing.test.ts` runs this file. Test files
 * run in lanes, one process each (test/gate/lanes.mjs).
 * It prints a line for each part with what it counted, the output of what failed, the slowest files, and the sum last.
 * It installs what it needs first (setup.mjs).
 */

import { parseArgs } from 'node:util';
import { ensureNodeModules } from '../setup.mjs';
import { changedParts } from './gate/changed.mjs';
import { partOf, testFiles } from './gate/files.mjs';
import { runInLanes } from './gate/lanes.mjs';
import { listTests } from './gate/list.mjs';
import { byNameOnly, filePart, jobsOf, parts, shortInGate } from './gate/parts.mjs';
import { endWithThisProcess } from './gate/processes.mjs';
import { partLines, sumLine, sumOf, timeLines } from './gate/report.mjs';

const options = {
  /** Every CNI version in the conformance part, for every row. */
  all: { type: 'boolean', default: false },
  /** How many test files run at once. */
  lanes: { type: 'string', default: '4' },
  /** Prints the tests' names instead of running them. */
  list: { type: 'boolean', default: false },
  /** Shows every file's time, not only the slowest. */
  times: { type: 'boolean', default: false },
};

/** An error in the command line. */
class UsageError extends Error {}

/** The parts that these words ask for, each with its test files where not all are wanted. */
function chosenParts(words, { list }) {
  if (words.length === 0) {
    const wanted = Object.keys(parts).filter((part) => list || !byNameOnly.includes(part));
    return new Map(wanted.map((part) => [part, list ? undefined : shortInGate[part]?.()]));
  }
  const chosen = new Map();
  const add = (part, files) => {
    const before = chosen.has(part) ? chosen.get(part) : [];
    chosen.set(part, before && files && [...new Set([...before, ...files])].sort());
  };
  for (const word of words) {
    if (word in parts) add(word, undefined);
    else if (word === 'changed') for (const [part, files] of changedParts()) add(part, files);
    else {
      const name = word.replace(/^(\.\/)?test\//, '').replace(/(\.test\.ts)?$/, '.test.ts');
      if (!testFiles().includes(name) || !filePart(partOf(name))) {
        const known = [...Object.keys(parts), 'changed'].join(', ');
        throw new UsageError(`There is no part or test file "${word}": parts are ${known}`);
      }
      add(partOf(name), [name]);
    }
  }
  return chosen;
}

async function runParts(chosen, { lanes, times }) {
  const start = performance.now();
  const jobs = jobsOf(chosen);
  const ended = [];
  const running = new Set();
  const show = () => {
    if (process.stdout.isTTY) process.stdout.write(`\x1b[K${[...running].join(' ').slice(0, 100)} …\r`);
  };
  const order = [...chosen.keys()];
  const sums = new Map();
  const printed = new Set();
  await runInLanes(jobs, {
    lanes,
    started({ name }) {
      running.add(name);
      show();
    },
    ended(job) {
      running.delete(job.name);
      ended.push(job);
      const ofPart = jobs.filter(({ part }) => part === job.part).length;
      const done = ended.filter(({ part }) => part === job.part);
      if (done.length === ofPart) sums.set(job.part, sumOf(done));
      // A part's line is printed in the parts' order, as soon as those before it are complete.
      for (const part of order) {
        if (!sums.has(part)) break;
        if (printed.has(part)) continue;
        printed.add(part);
        if (process.stdout.isTTY) process.stdout.write('\x1b[K');
        console.log(partLines(part, sums.get(part)).join('\n'));
      }
      show();
    },
  });
  if (process.stdout.isTTY) process.stdout.write('\x1b[K');
  const seconds = (performance.now() - start) / 1000;
  if (jobs.length > 1) console.log(timeLines(ended, seconds, { lanes, all: times }).join('\n'));
  return sumOf(ended);
}

async function main() {
  const { values, positionals } = parseArgs({ options, allowPositionals: true });
  const lanes = Number(values.lanes);
  if (!(Number.isInteger(lanes) && lanes > 0)) throw new UsageError(`--lanes ${values.lanes} is no number of lanes`);
  const chosen = chosenParts(positionals, values);
  ensureNodeModules();
  if (values.list) {
    await listTests(chosen);
    return;
  }
  if (values.all) process.env.WEFT_TEST_VERSIONS = 'all';
  endWithThisProcess();
  const sum = await runParts(chosen, { lanes, times: values.times });
  console.log(sumLine(sum));
  process.exitCode = sum.failed > 0 ? 1 : 0;
}

try {
  await main();
} catch (error) {
  if (!(error instanceof UsageError || error.code?.startsWith('ERR_PARSE_ARGS'))) throw error;
  console.log(error.message);
  process.exitCode = 2;
}
