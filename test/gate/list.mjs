/** `npm test -- --list`: every test as `file › suite › name`, without running any. */

import { join } from 'node:path';
import { bunBinary } from '../../setup.mjs';
import { root } from '../import-graph.mjs';
import { partOf, testFiles } from './files.mjs';
import { run } from './processes.mjs';

const own = (name) => join(root, 'test', 'gate', name);

/** The tests of a file: `suite › name`. @param {string} name a path from test/ */
async function testsOf(name) {
  const args = ['--preload', own('list-tests.mjs'), own('print-tests.mjs'), join(root, 'test', name)];
  const { ok, output } = await run(bunBinary(), args, { longestMs: 60_000 });
  if (!ok) throw new Error(`Cannot list the tests of test/${name}:\n${output}`);
  return [...output.matchAll(/<test>(.*)$/gm)].map(([, text]) => JSON.parse(text).filter(Boolean).join(' › '));
}

/** Prints the tests of these parts. @param {Map<string, string[] | undefined>} chosen */
export async function listTests(chosen) {
  const files = testFiles().filter((name) => {
    const part = partOf(name);
    return chosen.has(part) && (chosen.get(part)?.includes(name) ?? true);
  });
  let count = 0;
  for (const name of files) {
    for (const title of await testsOf(name)) {
      console.log(`test/${name} › ${title}`);
      count += 1;
    }
  }
  console.log(`${count} tests in ${files.length} files`);
}
