/** Calls a plugin with any bytes on stdin, and kills it where it is told to, or where it hangs. */

import { spawn } from 'node:child_process';

export interface RawCall {
  /** A program with its arguments, and what runs it. */
  readonly argv: readonly string[];
  readonly environment: Record<string, string>;
  readonly stdin: Uint8Array | string;
  /** After this it is killed, and has hung. */
  readonly deadlineMs?: number;
  /** After this it is killed on purpose. */
  readonly killAfterMs?: number;
}

export interface RawOutcome {
  readonly status: number | null;
  readonly signal: string | null;
  readonly hung: boolean;
  readonly stdout: string;
  readonly stderr: string;
}

export function callRaw({ argv, environment, stdin, deadlineMs = 10_000, killAfterMs }: RawCall): Promise<RawOutcome> {
  const [program, ...rest] = argv;
  return new Promise((resolve, reject) => {
    // A process group of its own: a plugin that has hung may have started others.
    const child = spawn(program!, rest, { env: environment, cwd: '/', detached: true });
    let hung = false;
    const deadline = setTimeout(() => {
      hung = true;
      process.kill(-child.pid!, 'SIGKILL');
    }, deadlineMs);
    const out: Buffer[] = [];
    let stderr = '';
    child.stdout.on('data', (chunk: Buffer) => out.push(chunk));
    child.stderr.setEncoding('utf8').on('data', (chunk: string) => (stderr += chunk));
    child.on('error', reject);
    child.on('close', (status, signal) => {
      clearTimeout(deadline);
      resolve({ status, signal, hung, stdout: Buffer.concat(out).toString('utf8'), stderr });
    });
    // A plugin that has seen enough need not read all of it.
    child.stdin.on('error', () => undefined);
    child.stdin.end(stdin);
    if (killAfterMs === undefined) return;
    // Timers count in milliseconds; an ADD takes a few of them.
    const start = performance.now();
    const tick = (): void => {
      if (performance.now() - start >= killAfterMs) child.kill('SIGKILL');
      else if (child.exitCode === null && child.signalCode === null) setImmediate(tick);
    };
    tick();
  });
}
