/**
 * Programs for tests, built from published Go modules once and kept in the user's cache folder, under a hash of the recipe.
 * A recipe is a folder with go.mod and go.sum; the build changes neither.
 */

import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync } from 'node:fs';
import { homedir } from 'node:os';
import { dirname, join } from 'node:path';
import { ask, findCommand, run, SetupError, say } from '../../setup.mjs';

/**
 * @typedef {object} GoProgram
 * @property {string} name the beginning of the cached file's name
 * @property {string} purpose for messages: `a Kubernetes for the tests`
 * @property {string} recipe its folder
 * @property {readonly string[]} files the recipe's files, in the order of their hash
 * @property {string} target the package to build
 * @property {string} ldflags
 * @property {readonly [number, number]} oldestGo the modules' own demand
 * @property {string} told the line before the build
 * @property {string} [variable] of the environment: names an executable that was built elsewhere
 * @property {boolean} [cgo]
 */

/** The cached executable's path, whether it is there or not. @param {GoProgram} program */
function cachedPath({ name, recipe, files, ldflags }) {
  const hash = createHash('sha256').update(`${process.arch} ${ldflags}`);
  for (const file of files) hash.update(readFileSync(join(recipe, file)));
  const folder = process.env.XDG_CACHE_HOME || join(homedir(), '.cache');
  return join(folder, 'weft', `${name}-${hash.digest('hex').slice(0, 16)}`);
}

const namedPath = ({ variable }) => (variable === undefined ? undefined : process.env[variable]);

/** The executable if it was built before. @param {GoProgram} program */
export function findGoProgram(program) {
  const path = namedPath(program) || cachedPath(program);
  return existsSync(path) ? path : undefined;
}

/** @throws SetupError there is no Go, or an old one */
function findGo({ purpose, oldestGo }) {
  const needed = `${purpose} needs Go ${oldestGo.join('.')} or newer`;
  const go = findCommand('go') ?? ['/usr/local/go/bin/go', '/usr/lib/go/bin/go'].find(existsSync);
  if (!go) throw new SetupError(`${needed}: install it`);
  const env = { ...process.env, GOTOOLCHAIN: 'local' };
  const found = /go(\d+)\.(\d+)/.exec(ask(go, ['version'], { env }) ?? '');
  const [own, further] = [Number(found?.[1] ?? 0), Number(found?.[2] ?? 0)];
  if (own < oldestGo[0] || (own === oldestGo[0] && further < oldestGo[1])) {
    throw new SetupError(`${needed}; "${go}" is ${found?.[0] ?? 'no Go'}`);
  }
  return go;
}

/** The executable, built where it is missing. @param {GoProgram} program @throws SetupError */
export function ensureGoProgram(program) {
  const found = findGoProgram(program);
  if (found) return found;
  const path = namedPath(program);
  if (path) throw new SetupError(`${program.variable} is "${path}", which is not there`);
  const go = findGo(program);
  const cached = cachedPath(program);
  say(`${program.told}; kept as ${cached}`);
  mkdirSync(dirname(cached), { recursive: true });
  const half = `${cached}.${process.pid}`;
  try {
    const cgo = program.cgo ? '1' : '0';
    const env = { ...process.env, CGO_ENABLED: cgo, GOTOOLCHAIN: 'local', GOFLAGS: '-mod=readonly -buildvcs=false' };
    const args = ['build', '-trimpath', '-o', half, '-ldflags', program.ldflags, program.target];
    run(go, args, { cwd: program.recipe, env });
    renameSync(half, cached);
  } finally {
    rmSync(half, { force: true });
  }
  return cached;
}

/** Builds the programs and prints their paths. @param {readonly GoProgram[]} programs @returns the exit status */
export function printGoPrograms(programs) {
  try {
    for (const program of programs) console.log(ensureGoProgram(program));
    return 0;
  } catch (error) {
    if (!(error instanceof SetupError)) throw error;
    console.log(error.message);
    return 1;
  }
}
