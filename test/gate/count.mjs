/** A job's counts, from whole checks and from the output of uvu. */

import { join } from 'node:path';
import { bunBinary } from '../../setup.mjs';
import { run } from './processes.mjs';

/**
 * `output` is shown where something failed, `notes` always; `shown` is everything that its tests printed.
 * @typedef {{ passed: number; failed: number; skipped?: number; output?: string; shown?: string; notes?: string[] }} Count
 */

/** @returns {Count} */
export const failure = (output) => ({ passed: 0, failed: 1, output });

/** Runs programs, each of which passes or fails as a whole. @returns {Promise<Count>} */
export async function checks(...commands) {
  const count = { passed: 0, failed: 0, output: '' };
  for (const [program, args, options] of commands) {
    const { ok, output } = await run(program, args, options);
    count[ok ? 'passed' : 'failed'] += 1;
    if (!ok) count.output += output;
  }
  return count;
}

/** The number after `label` in uvu's summary. */
const total = (output, label) => Number(new RegExp(`^\\s*${label}:?\\s+(\\d+)\\s*$`, 'm').exec(output)?.[1] ?? 0);

/** The command line that runs tests under Bun. @param {string} folder @param {string} pattern of their paths in there */
export const uvuCommand = (folder, pattern) => [
  bunBinary(),
  join('node_modules', 'uvu', 'bin.js'),
  ...['--no-color', folder, pattern],
];

/** The pattern of these files' paths and of no others. */
export const patternOf = (paths) => `^(${paths.map((path) => path.replaceAll('.', '\\.')).join('|')})$`;

/**
 * Counts what uvu printed.
 * @param {{ ok: boolean; output: string }} finished @param {string} place @param {{ mayBeEmpty?: boolean }} [options]
 * @returns {Count}
 */
export function uvuCount({ ok, output }, place, { mayBeEmpty = false } = {}) {
  const [all, passed, skipped] = ['Total', 'Passed', 'Skipped'].map((label) => total(output, label));
  if (all === 0 && !(mayBeEmpty && ok)) return failure(`There is no test in ${place}\n${output}`);
  const failed = Math.max(all - passed, ok ? 0 : 1);
  // A suite that passed as a whole is of no interest beside one that failed.
  const failures = output.replace(/^\S+\.test\.ts\n.*\((\d+) \/ \1\)\n+/gm, '');
  return { passed, failed, skipped, shown: output, output: failures };
}
