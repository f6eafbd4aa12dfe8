/** systemd, by its commands: argument lists, a deadline, no shell. */

import { spawnSync } from 'node:child_process';
import { printable } from '../../command/printable.ts';
import { CliError } from '../host.ts';
import { kindOf } from './files.ts';
import type { Root } from './rooted.ts';

const timeoutMs = 60_000;
const lastLines = 5;

export const unitName = 'weftd.service';
export const unitPath = `/etc/systemd/system/${unitName}`;
/** Below this, a file of ours for a unit of others, or for our own. */
export const dropInPath = (unit: string, name: string): string => `/etc/systemd/system/${unit}.d/${name}`;

/** Whether systemd runs this host (sd_booted(3)). In an image nothing runs. */
export const isBooted = (root: Root): boolean => root.path === '' && kindOf('/run/systemd/system') === 'folder';

interface Ended {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

function spawned(program: string, args: readonly string[]): Ended {
  const { status, stdout, stderr, error } = spawnSync(program, args, {
    encoding: 'utf8',
    timeout: timeoutMs,
    killSignal: 'SIGKILL',
    maxBuffer: 1024 * 1024,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  if (error) {
    const code = (error as NodeJS.ErrnoException).code;
    const why = code === 'ENOENT' ? 'it is not there' : code === 'ETIMEDOUT' ? 'it did not end in time' : String(code);
    throw new CliError(`Cannot run "${[program, ...args].join(' ')}": ${why}`, [], error);
  }
  return { status, stdout, stderr };
}

/** @throws CliError with what systemctl said */
export function systemctl(...args: string[]): string {
  const { status, stdout, stderr } = spawned('systemctl', args);
  if (status === 0) return stdout;
  const said = `${stderr}${stdout}`.trim().split('\n').at(-1) ?? '';
  throw new CliError(`"systemctl ${args.join(' ')}" failed${said === '' ? '' : `: ${printable(said)}`}`);
}

/** Whether the question is answered with yes, such as `is-enabled`. */
export function systemctlAsk(...args: string[]): boolean {
  try {
    return spawned('systemctl', [...args, '--quiet']).status === 0;
  } catch (error) {
    if (error instanceof CliError) return false;
    throw error;
  }
}

/** What systemctl answers; undefined if it fails. */
export function systemctlText(...args: string[]): string | undefined {
  try {
    const { status, stdout } = spawned('systemctl', args);
    return status === 0 ? stdout : undefined;
  } catch (error) {
    if (error instanceof CliError) return undefined;
    throw error;
  }
}

/** The service's last lines in the journal; empty if there is none to ask. */
export function lastLogLines(): string[] {
  try {
    const { status, stdout } = spawned('journalctl', [
      '-u',
      unitName,
      '-n',
      String(lastLines),
      '-o',
      'cat',
      '--no-pager',
      '-q',
    ]);
    return status === 0 ? stdout.split('\n').filter((line) => line !== '') : [];
  } catch (error) {
    if (error instanceof CliError) return [];
    throw error;
  }
}
