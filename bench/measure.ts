/** Runs one process and says what it cost. */

import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';

export interface Cost {
  /** From before the process was started until its end was known. */
  readonly wallMs: number;
  /** User and system time, that of the fork included. */
  readonly cpuMs: number;
}

export interface Call {
  readonly command: readonly string[];
  readonly environment: Record<string, string>;
  readonly stdin: string;
}

interface Usage {
  readonly cpuTime: { readonly total: bigint | number };
}

declare const Bun: {
  nanoseconds(): number;
  spawn(
    command: string[],
    options: { env: Record<string, string>; stdin: Uint8Array; stdout: 'pipe'; stderr: 'pipe' },
  ): {
    readonly stdout: ReadableStream;
    readonly stderr: ReadableStream;
    readonly exited: Promise<number>;
    resourceUsage(): Usage | undefined;
  };
  spawnSync(options: {
    cmd: readonly string[];
    env: Record<string, string>;
    stdin: Uint8Array;
    stdout: 'pipe';
    stderr: 'pipe';
  }): {
    exitCode: number;
    stdout: Uint8Array;
    stderr: Uint8Array;
    resourceUsage: Usage;
  };
};

const text = (bytes: Uint8Array): string => new TextDecoder().decode(bytes);

function failed(call: Call, status: number | null, output: string): Error {
  return new Error(
    `Cannot measure ${call.command.join(' ')} ${call.environment['CNI_COMMAND']}: status ${status}: ${output}`,
  );
}

/** Runs the call alone, to its end. @throws where it exits with anything but 0 */
export function measure(call: Call): Cost {
  const stdin = new TextEncoder().encode(call.stdin);
  const start = Bun.nanoseconds();
  const result = Bun.spawnSync({ cmd: call.command, env: call.environment, stdin, stdout: 'pipe', stderr: 'pipe' });
  const wallMs = (Bun.nanoseconds() - start) / 1e6;
  if (result.exitCode !== 0) throw failed(call, result.exitCode, text(result.stdout) + text(result.stderr));
  return { wallMs, cpuMs: Number(result.resourceUsage.cpuTime.total) / 1000 };
}

/** Runs the call beside others, to its end. */
export async function measureAsync(call: Call): Promise<Cost> {
  const start = Bun.nanoseconds();
  const stdin = new TextEncoder().encode(call.stdin);
  const child = Bun.spawn([...call.command], { env: call.environment, stdin, stdout: 'pipe', stderr: 'pipe' });
  const [output, errors, status] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
    child.exited,
  ]);
  const wallMs = (Bun.nanoseconds() - start) / 1e6;
  if (status !== 0) throw failed(call, status, output + errors);
  return { wallMs, cpuMs: Number(child.resourceUsage()!.cpuTime.total) / 1000 };
}

/** How many system calls and processes the call takes. */
export function countCalls(call: Call, file: string): { readonly calls: number; readonly processes: number } {
  const command = ['strace', '-f', '-qq', '-o', file, ...call.command];
  measure({ ...call, command, environment: { PATH: '/usr/bin:/bin', ...call.environment } });
  const lines = readFileSync(file, 'utf8').split('\n');
  const calls = lines.filter((line) => /^\d+ +[a-z]/.test(line));
  // Threads have numbers of their own: a process is what another has forked, or the first.
  const forks = lines.filter((line) => /^\d+ +(clone3?|v?fork)\b/.test(line) && !line.includes('CLONE_THREAD'));
  return { calls: calls.length, processes: forks.filter((line) => !line.includes('resumed')).length + 1 };
}

function busyboxTime(
  command: readonly string[],
  call: Pick<Call, 'environment' | 'stdin'>,
): { stdout: string; figure: number } {
  const result = spawnSync('busybox', ['time', '-f', '%M', ...command], {
    env: { PATH: '/usr/bin:/bin', ...call.environment },
    input: call.stdin,
    encoding: 'utf8',
  });
  if (result.status !== 0) throw new Error(`Cannot measure ${command.join(' ')}: ${result.stdout}${result.stderr}`);
  return { stdout: result.stdout, figure: Number(result.stderr.trim().split('\n').at(-1)) };
}

/**
 * Peak resident set of the call in kilobytes. Linux counts the pages of the process that forked, too, so a small
 * static program (busybox) does the forking; it takes the kernel's kilobytes for pages, which a process that tells its
 * own peak shows.
 */
export function peakRssKb(call: Call): number {
  const own = busyboxTime(['busybox', 'grep', 'VmHWM', '/proc/self/status'], { environment: {}, stdin: '' });
  const unit = Math.round(own.figure / Number(/\d+/.exec(own.stdout)![0]));
  return busyboxTime(call.command, call).figure / unit;
}
