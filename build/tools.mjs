/** Shared by the parts of the build: paths, running programs, hashes, writing files only if they differ. */

import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  copyFileSync,
  existsSync,
  linkSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';

/** The project's folder. */
export const root = dirname(dirname(fileURLToPath(import.meta.url)));

/** @param {string[]} parts */
export const at = (...parts) => join(root, ...parts);

/** An error whose message is complete: shown without a stack. */
export class BuildError extends Error {}

/**
 * The target machines, with their names in Node, Rust and npm.
 * @type {Record<string, { rust: string; bun: string; linker: string; debian: string }>}
 */
export const targets = {
  x64: {
    rust: 'x86_64-unknown-linux-gnu',
    bun: '@oven/bun-linux-x64-baseline',
    linker: 'x86_64-linux-gnu-gcc',
    debian: 'amd64',
  },
  arm64: {
    rust: 'aarch64-unknown-linux-gnu',
    bun: '@oven/bun-linux-aarch64',
    linker: 'aarch64-linux-gnu-gcc',
    debian: 'arm64',
  },
};

/** The folder of a target's executables: `dist/bin` for this kind of machine, `dist/<target>/bin` for another. */
export const binFolder = (target) => (target === process.arch ? at('dist', 'bin') : at('dist', target, 'bin'));

/**
 * Runs a program to its end and returns its stdout; throws with its output if it fails.
 * @param {string} program
 * @param {string[]} args
 * @param {{ cwd?: string; env?: NodeJS.ProcessEnv }} [options]
 */
export function run(program, args, options = {}) {
  const child = spawnSync(program, args, { cwd: root, maxBuffer: 1 << 28, encoding: 'utf8', ...options });
  if (child.error) throw new BuildError(`Cannot run "${program}": ${child.error.message}`);
  if (child.status !== 0) {
    const end = child.signal ? `was ended by ${child.signal}` : `ended with status ${child.status}`;
    throw new BuildError(`"${program} ${args.join(' ')}" ${end}:\n${child.stdout}${child.stderr}`.trimEnd());
  }
  return child.stdout;
}

/**
 * Runs one step and prints one line. The name appears first, because a step may take minutes; then the result and the
 * time. `work` returns the words for the result, or nothing.
 */
export async function step(name, work) {
  const start = performance.now();
  process.stdout.write(`  ${name.padEnd(16)} `);
  let words = 'failed';
  try {
    words = (await work()) ?? 'done';
  } finally {
    const seconds = ((performance.now() - start) / 1000).toFixed(1);
    console.log(`${words} (${seconds} s)`);
  }
}

/** SHA-256, in hex, of texts and bytes. The length of each is hashed, too, so that no two lists give the same hash. */
export function hashOf(...parts) {
  const hash = createHash('sha256');
  for (const part of parts) hash.update(`${part.length}:`).update(part);
  return hash.digest('hex');
}

/** SHA-256 of files, by name and content; a folder counts with all its files. */
export function hashOfFiles(...paths) {
  const parts = paths.flatMap((path) => filesBelow(path)).sort();
  return hashOf(...parts.flatMap((path) => [relative(root, path), readFileSync(path)]));
}

/** Every file at or below `path`. */
export function filesBelow(path) {
  if (!existsSync(path)) return [];
  if (statSync(path).isFile()) return [path];
  const entries = readdirSync(path, { recursive: true, withFileTypes: true });
  return entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath ?? entry.path, entry.name));
}

/** Makes `folder` contain exactly these files (name → content). Files that are right already stay untouched. */
export function writeFolder(folder, files) {
  mkdirSync(folder, { recursive: true });
  for (const name of readdirSync(folder)) {
    if (!files.has(name)) rmSync(join(folder, name), { recursive: true });
  }
  for (const [name, content] of files) {
    const path = join(folder, name);
    if (!existsSync(path) || !readFileSync(path).equals(Buffer.from(content))) writeFileSync(path, content);
  }
}

/** Copies a file by rename, so that processes that run or read the old one keep it. */
export function copy(path, to) {
  const temporary = `${to}.${process.pid}.tmp`;
  copyFileSync(path, temporary);
  renameSync(temporary, to);
}

/** Gives `path` a second name. The old file of that name is replaced at once, not removed first. */
export function hardLink(path, name) {
  const temporary = `${name}.${process.pid}.tmp`;
  rmSync(temporary, { force: true });
  linkSync(path, temporary);
  renameSync(temporary, name);
  // rename(2) does nothing if both names are the same file already.
  rmSync(temporary, { force: true });
}

/**
 * Runs `work` unless its inputs (`key`) are the same as last time and `output` exists. Returns the words for the result.
 * Outside `dist` it always runs.
 */
export async function unlessDone(output, key, work) {
  if (relative(at('dist'), output).startsWith('..')) return work();
  const stamp = at('dist', 'stamps', relative(at('dist'), output).replaceAll('/', '_'));
  if (existsSync(output) && existsSync(stamp) && readFileSync(stamp, 'utf8') === key) return 'unchanged';
  rmSync(stamp, { force: true });
  mkdirSync(dirname(output), { recursive: true });
  const words = await work();
  mkdirSync(dirname(stamp), { recursive: true });
  writeFileSync(stamp, key);
  return words;
}

/** Runs `work` while no other build of this folder runs. */
export async function alone(work) {
  const path = at('dist', 'build.lock');
  mkdirSync(dirname(path), { recursive: true });
  for (let told = false; ; ) {
    try {
      writeFileSync(path, String(process.pid), { flag: 'wx' });
      break;
    } catch (error) {
      if (error.code !== 'EEXIST') throw error;
    }
    if (!holderLives(path)) {
      rmSync(path, { force: true });
      continue;
    }
    if (!told) console.log('  waiting for another build of this folder');
    told = true;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  try {
    return await work();
  } finally {
    rmSync(path, { force: true });
  }
}

function holderLives(path) {
  try {
    process.kill(Number(readFileSync(path, 'utf8')) || process.pid, 0);
    return true;
  } catch (error) {
    return error.code === 'EPERM';
  }
}
