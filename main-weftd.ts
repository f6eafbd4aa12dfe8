/**
 * weftd and weftctl are one executable. Its name decides which program is loaded. Only this file uses the process's
 * environment, clock, randomness, signals and streams.
 */

import { writeSync } from 'node:fs';
import { basename } from 'node:path';
import { messageOf } from './command/fault.ts';
import packageJson from './package.json' with { type: 'json' };

const { version } = packageJson;
// `process.argv` lacks the name by which the executable was called; `argv0` has it.
const calledBy = basename(process.argv0);
/** flannel's script for Docker, which `weftctl docker-opts` replaces. */
const isDockerScript = calledBy === 'mk-docker-opts.sh';
const name = calledBy === 'weftctl' || isDockerScript ? 'weftctl' : 'weftd';
const args = process.argv.slice(2);
const environment = process.env;

/** How long to wait for a reader whose pipe is full. */
const fullPipeMs = 5;

/**
 * Returns once everything is written. process.stdout.write does not: at the exit, Bun drops the part of a long output that
 * a pipe has not taken yet.
 */
function stdout(text: string): void {
  for (let left: Uint8Array = Buffer.from(text); left.length > 0; ) {
    try {
      left = left.subarray(writeSync(1, left));
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      // The reader may end early, as in `weftctl nodes | head -1`.
      if (code === 'EPIPE') process.exit(0);
      if (code !== 'EAGAIN') {
        writeSync(2, `${name}: Cannot write the output: ${code}\n`);
        process.exit(1);
      }
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, fullPipeMs);
    }
  }
}

const stderr = (text: string): void => void process.stderr.write(text);

async function readStdin(): Promise<string> {
  const parts: Buffer[] = [];
  for await (const part of process.stdin) parts.push(Buffer.from(part));
  return Buffer.concat(parts).toString('utf8');
}

async function askLine(question: string): Promise<string> {
  const { createInterface } = await import('node:readline/promises');
  const lines = createInterface({ input: process.stdin, output: process.stderr });
  try {
    return await lines.question(question);
  } finally {
    lines.close();
  }
}

async function runWeftctl(): Promise<number> {
  const { run } = await import('./cli/main.ts');
  return run({
    args: isDockerScript ? ['docker-opts', ...args] : args,
    environment,
    version,
    program: process.execPath,
    stdout,
    stderr,
    stdoutIsTerminal: process.stdout.isTTY === true,
    stdoutColumns: process.stdout.columns || undefined,
    stdinIsTerminal: process.stdin.isTTY === true,
    readStdin,
    askLine: process.stdin.isTTY === true ? askLine : undefined,
    loadSys: async () => (await import('./linux/sys-bun.ts')).sys,
    nowMs: () => Date.now(),
    random: () => Math.random(),
  });
}

async function runWeftd(): Promise<number> {
  const [{ run }, { sys, releaseMemory, collectGarbage }] = await Promise.all([
    import('./daemon/main.ts'),
    import('./linux/sys-bun.ts'),
  ]);
  return run({
    sys,
    args,
    environment,
    version,
    runtime: `bun ${process.versions['bun']}`,
    stdout,
    stderr,
    stderrIsTerminal: process.stderr.isTTY === true,
    releaseMemory,
    collectGarbage,
    onSignal: (signal, callback) => void process.on(signal, callback),
  });
}

/** An error that no other code handled: one line, and the stack if WEFTD_DEBUG is set. */
function fail(error: unknown): void {
  const stack = error instanceof Error ? error.stack : undefined;
  stderr(`${name}: this should not have happened: ${messageOf(error)} (WEFTD_DEBUG=1 shows where)\n`);
  if (environment['WEFTD_DEBUG'] && stack !== undefined) stderr(`${stack}\n`);
  process.exit(1);
}

process.on('uncaughtException', fail);
process.on('unhandledRejection', fail);
// Log lines may be lost to a full disk or a closed pipe. weftd must not end because of that.
process.stderr.on('error', () => {});

/** Ends the process with the status, after all output is written. */
const end = (status: number): void => {
  process.exitCode = status;
  process.stderr.write('', () => process.exit(status));
};

(name === 'weftctl' ? runWeftctl() : runWeftd()).then(end, fail);
