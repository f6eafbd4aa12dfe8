/** Other programs: found on PATH, run by argument lists, in a network namespace where wanted. */

import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { accessSync, closeSync, constants, openSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { patience } from './guest.ts';

/** The program's whole path. @throws where it is nowhere, see `lookForProgram` */
export function findProgram(name: string, path?: string): string {
  return lookForProgram(name, path) ?? missing(name);
}

function missing(name: string): never {
  throw new Error(`Cannot find the program "${name}": "node setup.mjs" as root installs what the tests need`);
}

const cachedTools = fileURLToPath(new URL('../../.cache/bin', import.meta.url));
const usualFolders = [...(process.env['PATH'] ?? '').split(':'), '/usr/sbin', '/sbin', '/usr/bin', '/bin', cachedTools];

/** @param path folders to look in instead, with colons between */
export function lookForProgram(name: string, path?: string): string | undefined {
  if (name.includes('/')) return name;
  for (const folder of path?.split(':') ?? usualFolders) {
    const path = join(folder || '.', name);
    try {
      accessSync(path, constants.X_OK);
      return path;
    } catch {
      // Not in this folder.
    }
  }
  return undefined;
}

export interface RunOptions {
  /** Name of a network namespace. */
  readonly namespace?: string | undefined;
  readonly stdin?: string;
  /** Opened for reading, instead of `stdin`. */
  readonly stdinFile?: string | undefined;
  /** The whole environment; without it, this process's. */
  readonly environment?: Record<string, string>;
  readonly timeoutMs?: number;
  readonly cwd?: string;
}

export interface Finished {
  readonly status: number | null;
  readonly signal: string | null;
  readonly stdout: string;
  readonly stderr: string;
}

const timeoutOf = ({ timeoutMs = 60_000 }: RunOptions): number => timeoutMs * patience;

/** `ip netns exec` would remount /sys and hide the control groups; nsenter only changes the namespace. */
function placed(argv: readonly string[], namespace: string | undefined): string[] {
  const [program, ...rest] = argv;
  const direct = [findProgram(program!), ...rest];
  return namespace === undefined ? direct : [findProgram('nsenter'), `--net=/run/netns/${namespace}`, ...direct];
}

/** Runs a program to its end, whatever that is. */
export function execute(argv: readonly string[], options: RunOptions = {}): Finished {
  const [program, ...rest] = placed(argv, options.namespace);
  const file = options.stdinFile === undefined ? undefined : openSync(options.stdinFile, 'r');
  const { status, signal, stdout, stderr, error } = spawnSync(program!, rest, {
    ...(file === undefined ? { input: options.stdin ?? '' } : { stdio: [file, 'pipe', 'pipe'] }),
    encoding: 'utf8',
    env: options.environment ?? process.env,
    maxBuffer: 256 * 1024 * 1024,
    timeout: timeoutOf(options),
    ...(options.cwd !== undefined && { cwd: options.cwd }),
  });
  if (file !== undefined) closeSync(file);
  if (error) throw new Error(`Cannot run ${argv.join(' ')}: ${error.message}`, { cause: error });
  return { status, signal, stdout, stderr };
}

/** Runs a program to its end and gives its stdout. @throws where it fails, with what it said */
export function run(argv: readonly string[], options: RunOptions = {}): string {
  const { status, signal, stdout, stderr } = execute(argv, options);
  if (status !== 0) throw new Error(`${argv.join(' ')}: ${signal ?? `status ${status}`}: ${(stderr || stdout).trim()}`);
  return stdout;
}

/** Like `execute`, beside others. */
export function executeAsync(argv: readonly string[], options: RunOptions = {}): Promise<Finished> {
  const [program, ...rest] = placed(argv, options.namespace);
  return new Promise((resolve, reject) => {
    const child = spawn(program!, rest, {
      env: options.environment ?? process.env,
      ...(options.cwd !== undefined && { cwd: options.cwd }),
    });
    const timer = setTimeout(() => child.kill('SIGKILL'), timeoutOf(options));
    let [stdout, stderr] = ['', ''];
    child.stdout.setEncoding('utf8').on('data', (chunk) => (stdout += chunk));
    child.stderr.setEncoding('utf8').on('data', (chunk) => (stderr += chunk));
    child.on('error', reject);
    child.on('close', (status, signal) => {
      clearTimeout(timer);
      resolve({ status, signal, stdout, stderr });
    });
    child.stdin.on('error', () => undefined);
    child.stdin.end(options.stdin ?? '');
  });
}

export async function runAsync(argv: readonly string[], options: RunOptions = {}): Promise<string> {
  const { status, signal, stdout, stderr } = await executeAsync(argv, options);
  if (status !== 0) throw new Error(`${argv.join(' ')}: ${signal ?? `status ${status}`}: ${(stderr || stdout).trim()}`);
  return stdout;
}

export interface ServiceOptions extends RunOptions {
  /** Takes stdout and stderr, one after the other. */
  readonly logFile: string;
  /** Outlives this process. */
  readonly detached?: boolean;
}

/** A program that runs until it is stopped. It goes with this process, even where that is killed. */
export class Service {
  readonly child: ChildProcess;
  readonly logFile: string;
  readonly exited: Promise<number | string>;
  #alive = true;

  constructor(argv: readonly string[], options: ServiceOptions) {
    const wrapped = placed(argv, options.namespace);
    if (!options.detached) wrapped.unshift(findProgram('setpriv'), '--pdeathsig', 'KILL');
    const log = openSync(options.logFile, 'a');
    this.logFile = options.logFile;
    this.child = spawn(wrapped[0]!, wrapped.slice(1), {
      env: options.environment ?? process.env,
      stdio: ['ignore', log, log],
      detached: options.detached === true,
      ...(options.cwd !== undefined && { cwd: options.cwd }),
    });
    if (options.detached) this.child.unref();
    this.exited = new Promise((resolve) => {
      const end = (outcome: number | string): void => {
        this.#alive = false;
        resolve(outcome);
      };
      this.child.on('exit', (status, signal) => end(status ?? signal ?? 'gone'));
      this.child.on('error', (error) => end(error.message));
    });
  }

  get pid(): number {
    return this.child.pid ?? 0;
  }

  get alive(): boolean {
    return this.#alive;
  }

  /** Sends the signal and waits for the end. Gives the exit status or the signal's name. */
  async stop(signal: NodeJS.Signals = 'SIGTERM', deadlineMs = 15_000): Promise<number | string> {
    if (!this.#alive) return await this.exited;
    this.child.kill(signal);
    const timer = setTimeout(() => this.child.kill('SIGKILL'), deadlineMs * patience);
    const outcome = await this.exited;
    clearTimeout(timer);
    return outcome;
  }
}
