/** One bundle, two hosts: whatever the native programs print in this part, the same under Bun is to print, too: rows
 * at one version of each shape of result. */

import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import * as assert from 'uvu/assert';
import { Scratch } from '../lab/scratch.ts';
import { pluginHost, type RecordedCall, recordedCalls } from '../support/cni.ts';
import { versions } from '../support/versions.ts';
import { conformance, coveredRows, inGuest, rows, shapes } from './rows.ts';

const { after, test, run } = conformance('under-bun');
const root = fileURLToPath(new URL('../../', import.meta.url));

/** Runs this whole part once more, with the programs under Bun; gives its output and what it recorded. */
async function runUnderBun(record: string): Promise<{ status: number | null; output: string }> {
  const child = spawn(
    process.execPath,
    ['node_modules/uvu/bin.js', '--no-color', 'test/conformance', '\\.test\\.ts$'],
    {
      cwd: root,
      env: { ...process.env, WEFT_TEST_HOST: 'bun', WEFT_TEST_RECORD: record, NO_COLOR: '1' },
      stdio: ['ignore', 'pipe', 'pipe'],
    },
  );
  let output = '';
  for (const stream of [child.stdout, child.stderr]) stream.setEncoding('utf8').on('data', (text) => (output += text));
  const status = await new Promise<number | null>((resolve) => child.on('close', resolve));
  return { status, output };
}

/** Calls by test; those that ran beside each other have no order of their own. */
function byTest(calls: readonly RecordedCall[]): Map<string, string[]> {
  const grouped = new Map<string, string[]>();
  for (const { test: name, call, status, stdout } of calls) {
    if (!grouped.has(name)) grouped.set(name, []);
    grouped.get(name)!.push(`${call}: ${status}: ${stdout}`);
  }
  return grouped;
}

/** Tests whose calls race each other: which container gets which address is up to the scheduler. */
const racing = /at once|do not disturb each other/;
/** Tests that one host alone runs. */
const single = /asks no network|system call|^difference /;
/** Rows at versions whose results have the shape of another that is compared. */
const ofOtherVersion = new RegExp(` at (${versions.filter((version) => !shapes.includes(version)).join('|')})$`);

if (pluginHost === 'native') {
  const scratch = new Scratch('bun');
  after(() => scratch.remove());
  const record = join(scratch.folder, 'calls');
  // Beside the native run, which begins when every file is loaded.
  const underBun = runUnderBun(record);

  test('every call of this part prints the same under Bun', async () => {
    const { status, output } = await underBun;
    const recorded = readFileSync(record, 'utf8').trim().split('\n');
    const bun = byTest(recorded.map((line) => JSON.parse(line) as RecordedCall));
    const native = byTest(recordedCalls());
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
    assert.is(status, 0, output.slice(-4000));
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
}

run();
