/** Runs one process and says what it cost. */

import { spawn, spawnSync } from 'node:child_process';

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

declare const Bun: {
  nanoseconds(): number;
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
    resourceUsage: { cpuTime: { total: bigint | number } };
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

/** Runs the call beside others; resolves to its wall time in milliseconds. */
export function measureAsync(call: Call): Promise<number> {
  return new Promise((resolve, reject) => {
    const start = Bun.nanoseconds();
    const child = spawn(call.command[0]!, call.command.slice(1), { env: call.environment });
    let output = '';
    child.stdout.on('data', (chunk) => (output += chunk));
    child.stderr.on('data', (chunk) => (output += chunk));
    child.on('error', reject);
    child.on('exit', (status) =>
      status === 0 ? resolve((Bun.nanoseconds() - start) / 1e6) : reject(failed(call, status, output)),
    );
    child.stdin.end(call.stdin);
  });
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
