/**
 * One bundle, two hosts: whatever the native programs print in this part, the same under Bun is to print, too: rows
 * at one version of each shape of result. The gate runs each file of the part in both hosts before.
 * @last
 */

import * as assert from 'uvu/assert';
import { readRecords } from '../support/record.ts';
import type { RecordedCall } from '../support/recorded-calls.ts';
import { versions } from '../support/versions.ts';
import { conformance, coveredRows, inGuest, rows, shapes } from './rows.ts';

const { test, run } = conformance('under-bun');

const callsIn = (host: 'native' | 'bun'): RecordedCall[] =>
  readRecords(host).filter((entry): entry is RecordedCall => (entry as Partial<RecordedCall>).call !== undefined);

/** Calls by test; those that ran beside each other have no order of their own. */
function byTest(calls: readonly RecordedCall[]): Map<string, string[]> {
  const grouped = new Map<string, string[]>();
  for (const { test: name, call, status, stdout } of calls) {
    if (!grouped.has(name)) grouped.set(name, []);
    grouped.get(name)!.push(`${call}: ${status}: ${stdout}`);
  }
  return grouped;
}

/** Tests whose calls race each other, by their names: which container gets which address is up to the scheduler. */
const racing = /\bconcurrent\b/;
/** Tests that one host alone runs. */
const single = /asks no network|system call|^difference |waits for the kernel|takes orphans/;
/** Rows at versions whose results have the shape of another that is compared. */
const ofOtherVersion = new RegExp(` at (${versions.filter((version) => !shapes.includes(version)).join('|')})$`);

test('every call in this part prints the same under Bun', () => {
  const bun = byTest(callsIn('bun'));
  const native = byTest(callsIn('native'));
  let compared = 0;
  const differing: string[] = [];
  for (const [name, calls] of native) {
    if (racing.test(name) || single.test(name) || (ofOtherVersion.test(name) && !bun.has(name))) continue;
    for (const [i, call] of calls.entries()) {
      const other = bun.get(name)?.[i];
      if (other !== call) differing.push(`${name}\n  native ${call}  Bun    ${other}`);
    }
    compared += calls.length;
  }
  assert.equal(differing, [], differing.join('\n'));
  console.log(`\n  ${compared} calls print the same in both hosts`);
  assert.ok(compared > 300, `${compared} calls compared`);
});

test('every row of the table is tested, here or in the guest', () => {
  const numbers = Object.keys(rows).map(Number);
  const covered = coveredRows();
  const open = numbers.filter((number) => !covered.has(number));
  const told = Object.keys(inGuest).map(Number);
  console.log(`\n  ${covered.size} of ${numbers.length} rows are tested; in the guest: ${told.join(', ')}`);
  assert.equal(
    open,
    told.sort((a, b) => a - b),
  );
});

run();
