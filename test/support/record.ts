/**
 * Records of the conformance tests for comparisons: a process appends lines of JSON to a file of its own, which
 * WEFT_TEST_RECORD names, in the folder `native` or `bun`. The gate sets it (test/gate/parts.mjs).
 */

import { appendFileSync, mkdirSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';

const file = process.env['WEFT_TEST_RECORD'];

export function record(entry: object): void {
  if (file === undefined) return;
  mkdirSync(dirname(file), { recursive: true });
  appendFileSync(file, `${JSON.stringify(entry)}\n`);
}

/** Everything that the processes of one kind have recorded, in the order of the test files. */
export function readRecords(host: 'native' | 'bun'): unknown[] {
  if (file === undefined) throw new Error('Nothing is recorded: run the whole part by "npm test -- conformance"');
  const folder = join(dirname(file), '..', host);
  return readdirSync(folder)
    .sort()
    .flatMap((name) => readFileSync(join(folder, name), 'utf8').split('\n'))
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as unknown);
}
