/**
 * The test files, and the marks in their head comments that say how the gate runs them:
 * `@alone` nothing else runs meanwhile, because it asserts on times or looks at something of the whole machine;
 * `@last` it judges what the other files of its part recorded, so it runs after them;
 * `@guest` it also runs in the guest;
 * `@long` the gate runs it only when its part is asked for by name.
 */

import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { root } from '../import-graph.mjs';

/** Paths from test/, sorted. @returns {string[]} */
export function testFiles() {
  return readdirSync(join(root, 'test'), { recursive: true })
    .filter((name) => name.endsWith('.test.ts'))
    .sort();
}

/** @param {string} name a path from test/ @param {'alone' | 'last' | 'guest' | 'long'} mark */
export const isMarked = (name, mark) =>
  new RegExp(`^ \\* @${mark}\\b`, 'm').test(readFileSync(join(root, 'test', name), 'utf8'));

/** The part that a test file belongs to: its first folder. */
export const partOf = (name) => name.split('/')[0];

/** Jobs that take longest, longest first. They start first, so that none of them runs on by itself at the end. */
const longest = [
  'differential/corpus.test.ts',
  'stress/addresses.test.ts',
  'cargo',
  'stress/inputs.test.ts',
  'cluster/rights.test.ts',
  'cluster/members.test.ts',
  'cluster/soak.test.ts',
  'conformance/attachment.test.ts under Bun',
  'conformance/attachment.test.ts',
  'stress/kill.test.ts',
  'kernel/cni-faults.test.ts',
];

/** Jobs in the order in which they are to start. @template {{ name: string }} J @param {readonly J[]} jobs */
export function inStartOrder(jobs) {
  const rank = ({ name }) => {
    const at = longest.indexOf(name);
    return at < 0 ? longest.length : at;
  };
  return [...jobs].sort((a, b) => rank(a) - rank(b));
}
