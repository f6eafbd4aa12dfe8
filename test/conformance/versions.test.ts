/**
 * The table of rows × versions: printed, and without a gap.
 * @last
 */

import * as assert from 'uvu/assert';
import { type Version, versions } from '../support/versions.ts';
import { cell, conformance, dependent, inGuest, limits, rows, versionsHere, versionsOf } from './rows.ts';

const { test, run } = conformance('versions');
const numbers = Object.keys(rows).map(Number);
const isElsewhere = (row: number): boolean => row in inGuest;

/** What is to be shown of a row: all versions that it is about, or that it is about none. */
const cellsOf = (row: number): readonly (Version | 'none')[] => {
  const at = versionsOf(row);
  return at.length > 0 ? at : ['none'];
};

function mark(row: number, version: Version): string {
  const [only] = cellsOf(row);
  const passed = cell(row, only === 'none' ? 'none' : version);
  if (passed === undefined) {
    if (isElsewhere(row) || (only !== 'none' && !cellsOf(row).includes(version))) return '·';
    return only === 'none' || versionsHere(row).includes(version) ? '?' : '-';
  }
  if (!passed) return '✗';
  return only === 'none' ? '○' : '●';
}

/** All rows, in columns; then why a row is not shown at a version. */
function table(): string[] {
  const columns = 5;
  const height = Math.ceil(numbers.length / columns);
  const entry = (row: number) => `${String(row).padStart(3)} ${versions.map((version) => mark(row, version)).join('')}`;
  const lines = Array.from({ length: height }, (_, line) =>
    numbers
      .filter((_, i) => i % height === line)
      .map(entry)
      .join('   '),
  );
  const all = numbers.every((row) => versionsOf(row).every((version) => versionsHere(row).includes(version)));
  const key = '● passed  ○ passed, of no version  ✗ failed  ? missing  · not applicable';
  const why = limits.map((limit) => `${limit.at.length > 0 ? '·' : '○'} ${limit.why}: ${limit.rows.join(', ')}`);
  return [
    `rows × versions (${versions.join(', ')}): ${key}${all ? '' : '  - with --all only'}`,
    ...lines,
    ...why,
    ...dependent.map((group) => `at every version: ${group.why}: ${group.rows.join(', ')}`),
    `· shown in the guest alone: ${Object.keys(inGuest).join(', ')}`,
  ];
}

test('every row passed at every version that it is about', () => {
  console.log(`\n\n<table>\n${table().join('\n')}\n</table>`);
  const gaps = numbers
    .filter((row) => !isElsewhere(row))
    .flatMap((row) =>
      cellsOf(row)
        .filter((at) => at === 'none' || versionsHere(row).includes(at))
        .filter((at) => cell(row, at) !== true)
        .map((at) => `row ${row} at ${at}`),
    );
  assert.equal(gaps, []);
});

test('a row is limited by one rule', () => {
  const limited = limits.flatMap((limit) => limit.rows);
  assert.is(new Set(limited).size, limited.length);
  assert.equal(
    limited.filter((row) => !rows[row]),
    [],
  );
});

run();
