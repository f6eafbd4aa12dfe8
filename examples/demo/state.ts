/** The demo's state for a later process: another demo, or `--clean`. */

import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { run } from '../../test/lab/commands.ts';

export const prefix = 'weft-demo';
const stateFile = '/run/weft-demo.json';

interface State {
  readonly pid: number;
  readonly folder: string;
  readonly kept: boolean;
}

export function writeState(state: State): void {
  writeFileSync(stateFile, JSON.stringify(state), { mode: 0o600 });
}

export function readState(): State | undefined {
  return existsSync(stateFile) ? (JSON.parse(readFileSync(stateFile, 'utf8')) as State) : undefined;
}

export function forgetState(): void {
  rmSync(stateFile, { force: true });
}

/** Whether the demo that wrote the state still runs. */
export function isRunning({ pid, kept }: State): boolean {
  return !kept && pid !== process.pid && existsSync(`/proc/${pid}`);
}

/** Ends and removes a demo that was kept or could not clean up. @returns whether there was one */
export function clean(): boolean {
  const state = readState();
  const names = (existsSync('/run/netns') ? readdirSync('/run/netns') : []).filter((name) =>
    name.startsWith(`${prefix}-`),
  );
  for (const name of names) {
    for (const pid of run(['ip', 'netns', 'pids', name]).trim().split('\n').filter(Boolean)) {
      try {
        process.kill(Number(pid), 'SIGKILL');
      } catch {
        // It has just ended.
      }
    }
  }
  if (names.length > 0) {
    run(['ip', '-force', '-batch', '-'], { stdin: names.map((name) => `netns del ${name}\n`).join('') });
  }
  if (state) rmSync(state.folder, { recursive: true, force: true });
  forgetState();
  return names.length > 0 || state !== undefined;
}
