/**
 * The gate: `npm test` runs every part but `guest` and `soak`, `npm test -- unit types` these. A line for each part with what it counted; the output
 * of what failed; the last line is the sum. It installs what it needs first (setup.mjs).
 */

import { spawn } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { cargoEnvironment } from '../build/cargo.mjs';
import { targets } from '../build/tools.mjs';
import {
  bunBinary,
  ensureCnitool,
  ensureDebian,
  ensureNodeModules,
  ensureRust,
  ensureRustfmt,
  SetupError,
} from '../setup.mjs';
import { ensureMachine, runInGuest } from './guest/machine.mjs';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const tool = (name) => join(root, 'node_modules', '.bin', name);

/** Nothing here takes this long: whatever does, hangs. */
const limitMs = 20 * 60 * 1000;

/**
 * What a part counted. `output` is shown where something failed; `notes` always; `shown` is all that its tests printed.
 * @typedef {{ passed: number; failed: number; skipped?: number; output?: string; shown?: string; notes?: string[] }} Count
 */

/**
 * Runs a program to its end; its standard output and error come as they were written.
 * @returns {Promise<{ ok: boolean; output: string }>}
 */
function run(program, args, { longestMs = limitMs, ...options } = {}) {
  return new Promise((resolve) => {
    // A process group of its own, to end all of it where it hangs.
    const child = spawn(program, args, { cwd: root, detached: true, stdio: ['ignore', 'pipe', 'pipe'], ...options });
    let output = '';
    const timer = setTimeout(() => {
      output += `\n${program} was ended after ${longestMs / 60_000} minutes`;
      process.kill(-child.pid, 'SIGKILL');
    }, longestMs);
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding('utf8').on('data', (text) => {
        output += text;
      });
    }
    child.on('error', (error) => resolve({ ok: false, output: String(error) }));
    child.on('close', (status) => {
      clearTimeout(timer);
      resolve({ ok: status === 0, output });
    });
  });
}

/** Runs programs, each of which passes or fails as a whole. @returns {Promise<Count>} */
async function checks(...commands) {
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

/** The words that run tests under Bun. @param {string} folder @param {string} pattern of their paths in there */
const uvuCommand = (folder, pattern) => [
  bunBinary(),
  join('node_modules', 'uvu', 'bin.js'),
  ...['--no-color', folder, pattern],
];

/** What uvu's output says. @param {{ ok: boolean; output: string }} finished @param {string} place @returns {Count} */
function uvuCount({ ok, output }, place) {
  const [all, passed, skipped] = ['Total', 'Passed', 'Skipped'].map((label) => total(output, label));
  if (all === 0) return { passed: 0, failed: 1, output: output || `There is no test in ${place}` };
  const failed = Math.max(all - passed, ok ? 0 : 1);
  // What passed as a whole is of no interest beside what failed.
  return {
    passed,
    failed,
    skipped,
    shown: output,
    output: output.replace(/^\S+\.test\.ts\n.*\((\d+) \/ \1\)\n+/gm, ''),
  };
}

/** Runs the `*.test.ts` below test/<folder> under Bun. @returns {Promise<Count>} */
async function uvu(folder, options = {}) {
  const [program, ...args] = uvuCommand(join('test', folder), '\\.test\\.ts$');
  return uvuCount(await run(program, args, { env: { ...process.env, NO_COLOR: '1' }, ...options }), `test/${folder}`);
}

/** Tests that run in the guest: those of test/guest, and those that are marked for it by a line of their head. */
function guestTests() {
  const marked = (name) => /^ \* @guest\b/m.test(readFileSync(join(root, 'test', name), 'utf8'));
  return readdirSync(join(root, 'test'), { recursive: true })
    .filter((name) => name.endsWith('.test.ts') && (name.startsWith('guest/') || marked(name)))
    .sort();
}

/** Runs tests in the guest: one boot, one process for all of them. @returns {Promise<Count>} */
async function inGuest() {
  const skipped = (reason) => ({ passed: 0, failed: 0, skipped: 1, notes: [`skipped: ${reason}`] });
  let machine;
  try {
    machine = ensureMachine();
    ensureDebian('test');
  } catch (error) {
    if (error instanceof SetupError) return skipped(error.message);
    throw error;
  }
  const built = await checks([process.execPath, ['build.mjs', 'cni', 'weftd']]);
  if (built.failed > 0) return built;
  const names = guestTests().map((name) => name.replaceAll('.', '\\.'));
  const { status, output } = await runInGuest(machine, uvuCommand('test', `^(${names.join('|')})$`), {
    environment: { NO_COLOR: '1' },
    timeoutMs: limitMs,
  });
  return uvuCount({ ok: status === 0, output }, 'test/guest');
}

/** Why tests that make network namespaces cannot be run, or undefined. @returns {Count | undefined} */
function refusal(folder) {
  if (process.geteuid?.() === 0) return undefined;
  return { passed: 0, failed: 1, output: `test/${folder} makes network namespaces: run it as root` };
}

/** Runs tests that make network namespaces. @returns {Promise<Count>} */
async function withRoot(folder, options = {}) {
  const refused = refusal(folder);
  if (refused) return refused;
  ensureDebian('test');
  return uvu(folder, options);
}

/** Runs tests of the executables, and builds those first. @returns {Promise<Count>} */
async function wholePrograms(folder, options = {}) {
  const refused = refusal(folder);
  if (refused) return refused;
  ensureCnitool();
  const built = await checks([process.execPath, ['build.mjs', 'cni', 'weftd', 'weft-bun']]);
  return built.failed > 0 ? built : withRoot(folder, options);
}

/** Whether an executable asks for a dynamic linker: elf(5), a program header of type PT_INTERP. */
function hasInterpreter(path) {
  const elf = readFileSync(path);
  const [offset, size, count] = [Number(elf.readBigUInt64LE(32)), elf.readUInt16LE(54), elf.readUInt16LE(56)];
  const PT_INTERP = 3;
  return Array.from({ length: count }, (_, i) => elf.readUInt32LE(offset + i * size)).includes(PT_INTERP);
}

/** @type {Record<string, () => Promise<Count>>} */
const parts = {
  lint: () => checks([tool('biome'), ['check', '--colors=off', '--error-on-warnings', '.']]),

  types: () => checks([tool('tsc'), ['-p', 'cni']], [tool('tsc'), ['-p', '.']]),

  async layers() {
    const { output } = await run(process.execPath, [join('test', 'layers.mjs')]);
    const [, kept, broken] = /(\d+) rules kept, (\d+) broken/.exec(output) ?? [0, 0, 1];
    return { passed: Number(kept), failed: Number(broken), output };
  },

  async build() {
    const count = await checks([process.execPath, ['build.mjs']]);
    const bin = (name) => join(root, 'dist', 'bin', name);
    const expect = (holds, message) => {
      count[holds ? 'passed' : 'failed'] += 1;
      if (!holds) count.output += `${message}\n`;
    };
    for (const [name, link] of [
      ['weft', 'weft-ipam'],
      ['weftd', 'weftctl'],
    ]) {
      const both = [bin(name), bin(link)].filter((path) => existsSync(path)).map((path) => statSync(path).ino);
      expect(both.length === 2 && both[0] === both[1], `dist/bin/${link} is not the same file as dist/bin/${name}`);
    }
    expect(existsSync(bin('weft')) && statSync(bin('weft')).size <= 4e6, 'dist/bin/weft is larger than 4 MB');
    expect(existsSync(bin('weft')) && !hasInterpreter(bin('weft')), 'dist/bin/weft is not static');
    const again = await run(process.execPath, [join('test', 'rebuild.mjs')]);
    expect(again.ok, again.output);
    return count;
  },

  async runtime() {
    const cargo = ensureRust();
    if (!cargo) return { passed: 0, failed: 1, output: 'There is no cargo to build runtime/ with' };
    ensureRustfmt(cargo);
    const options = { cwd: join(root, 'runtime'), env: cargoEnvironment(cargo) };
    const target = ['--locked', '--target', targets[process.arch].rust];
    const count = { passed: 0, failed: 0, skipped: 0, output: '', notes: [] };
    for (const [name, args] of [
      ['fmt', ['--check']],
      ['clippy', [...target, '--quiet', '--all-targets', '--', '-D', 'warnings']],
    ]) {
      if (!(await run(cargo, [name, '--version'], options)).ok) {
        count.skipped += 1;
        count.notes.push(`cargo ${name} skipped: it does not come with ${cargo}`);
        continue;
      }
      const { ok, output } = await run(cargo, [name, ...args], options);
      count[ok ? 'passed' : 'failed'] += 1;
      if (!ok) count.output += output;
    }
    const { ok, output } = await run(cargo, ['test', ...target], options);
    const results = [...output.matchAll(/^test result: \w+\. (\d+) passed; (\d+) failed; (\d+) ignored/gm)];
    const sum = (index) => results.reduce((all, result) => all + Number(result[index]), 0);
    count.passed += sum(1);
    count.failed += Math.max(sum(2), ok && sum(1) > 0 ? 0 : 1);
    count.skipped += sum(3);
    count.output += output;
    return count;
  },

  unit: () => uvu('unit'),
  kernel: () => withRoot('kernel'),

  async conformance() {
    const count = await wholePrograms('conformance');
    const table = /^<table>\n([\s\S]*?)\n<\/table>$/m.exec(count.shown ?? '');
    return { ...count, notes: table ? table[1].split('\n') : [] };
  },

  differential: () => wholePrograms('differential'),
  stress: () => wholePrograms('stress'),
  cluster: () => wholePrograms('cluster'),
  guest: inGuest,

  async soak() {
    const seconds = Number(process.env.WEFT_SOAK_SECONDS ?? 600);
    const count = await wholePrograms('soak', { longestMs: seconds * 1000 + limitMs });
    const told = (count.shown ?? '').split('\n').filter((line) => /^ {2}(?!Total|Passed|Skipped|Duration)/.test(line));
    return { ...count, notes: count.failed > 0 ? [] : told.map((line) => line.slice(2)) };
  },
};

/** Emulated, it takes as long as all the others together; and what is to take long. */
const byNameOnly = ['guest', 'soak'];

/** Runs one part; what it throws counts as a failure of it. */
async function count(name) {
  try {
    return await parts[name]();
  } catch (error) {
    return { passed: 0, failed: 1, output: String(error?.stack ?? error) };
  }
}

async function main() {
  const names = process.argv.slice(2);
  const unknown = names.find((name) => !(name in parts));
  if (unknown) {
    console.log(`There is no part "${unknown}": parts are ${Object.keys(parts).join(', ')}`);
    process.exitCode = 2;
    return;
  }
  ensureNodeModules();
  const sum = { passed: 0, failed: 0, skipped: 0 };
  const all = Object.keys(parts).filter((name) => !byNameOnly.includes(name));
  for (const name of names.length > 0 ? names : all) {
    const start = performance.now();
    if (process.stdout.isTTY) process.stdout.write(`${name.padEnd(12)} …\r`);
    const { passed, failed, skipped = 0, output = '', notes = [] } = await count(name);
    const seconds = ((performance.now() - start) / 1000).toFixed(1).padStart(6);
    const counts = `${String(passed).padStart(5)} passed ${String(failed).padStart(4)} failed`;
    console.log(`${name.padEnd(12)} ${counts}${skipped > 0 ? ` ${skipped} skipped` : ''} ${seconds} s`);
    for (const note of notes) console.log(`  ${note}`);
    if (failed > 0) console.log(output.trimEnd().replace(/^/gm, '  '));
    sum.passed += passed;
    sum.failed += failed;
    sum.skipped += skipped;
  }
  console.log(`${sum.passed} passed, ${sum.failed} failed${sum.skipped > 0 ? `, ${sum.skipped} skipped` : ''}`);
  process.exitCode = sum.failed > 0 ? 1 : 0;
}

await main();
