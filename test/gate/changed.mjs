/** `npm test -- changed`: the parts and test files that a change can reach, by the import graph. */

import { readFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { ask, run as runSync } from '../../setup.mjs';
import { filesReachedFrom, root } from '../import-graph.mjs';
import { partOf, testFiles } from './files.mjs';
import { shortInGate } from './parts.mjs';

/** These see the whole tree, and take seconds. */
const always = ['lint', 'types', 'layers'];

/** The parts whose tests run the executables. */
const programParts = ['conformance', 'differential', 'stress', 'cluster', 'kubernetes', 'runtimes'];

/** These read documents and other tests, whatever they import; they take milliseconds. */
const readers = /^unit\/docs\//;

/** The executables are made from these, and from what the entry points import. */
const entries = ['main-weftd.ts', 'main-cni.ts', 'main-cni-bun.ts'];
const buildInputs = /^(build\.mjs|build\/|setup\.mjs|package(-lock)?\.json|runtime\/(?!target\/)|tsconfig)/;

/** Every test depends on these. */
const everywhere = /^(package(-lock)?\.json|bunfig\.toml|setup\.mjs|build\/bun-preload\.mjs|build\/schema\.mjs)$/;

const git = (...args) =>
  runSync('git', ['-c', 'core.quotePath=false', ...args])
    .split('\n')
    .filter(Boolean);

/** Paths that differ from the merge base with main (or from HEAD on main itself), and those that git does not know yet. */
function changedPaths() {
  // A clone for one branch has no `main` of its own.
  const main = ['main', 'origin/main'].find((name) => ask('git', ['rev-parse', '-q', '--verify', name], { cwd: root }));
  const [base] = main ? git('merge-base', main, 'HEAD') : ['HEAD'];
  const differing = git('diff', '--name-only', '--no-renames', base);
  return [...new Set([...differing, ...git('ls-files', '--others', '--exclude-standard')])];
}

/**
 * How the text of a file may name one that it reads or starts: by its path from the project's folder; by its name, where
 * it is a program or text of the tests' own; by its folder, where that is one of fixtures.
 */
function namesOf(path) {
  if (path.startsWith('test/fixtures/')) return [dirname(path).slice('test/'.length)];
  return path.startsWith('test/') ? [path, basename(path)] : [path];
}

/** The parts that a change of these paths can reach, each with its test files where not all are. @param {string[]} changed */
export function partsReachedBy(changed) {
  const chosen = new Map(always.map((part) => [part, undefined]));
  if (changed.length === 0) return chosen;
  const reachedByPrograms = new Set(entries.flatMap((path) => [...filesReachedFrom(path)]));
  const ofPrograms = changed.some((path) => buildInputs.test(path) || reachedByPrograms.has(path));
  const ofAll = changed.some((path) => everywhere.test(path));
  if (ofPrograms) chosen.set('build', undefined);
  if (changed.some((path) => path.startsWith('runtime/'))) chosen.set('runtime', undefined);
  const names = changed.flatMap(namesOf);
  const isNamedIn = (path) => {
    const text = readFileSync(join(root, path), 'utf8');
    return names.some((name) => text.includes(name));
  };
  const short = Object.fromEntries(Object.entries(shortInGate).map(([part, files]) => [part, files()]));
  for (const name of testFiles()) {
    const part = partOf(name);
    if (part === 'guest' || part === 'soak' || short[part]?.includes(name) === false) continue;
    const reached = [...filesReachedFrom(`test/${name}`)];
    const isReached =
      ofAll ||
      readers.test(name) ||
      (ofPrograms && programParts.includes(part)) ||
      reached.some((path) => changed.includes(path) || (path.startsWith('test/') && isNamedIn(path)));
    if (isReached) chosen.set(part, [...(chosen.get(part) ?? []), name]);
  }
  return chosen;
}

export const changedParts = () => partsReachedBy(changedPaths());
