/** The place of a demo that runs or was kept, for a later demo or `--clean`. */

import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { removeNamespaces } from '../../test/lab/scratch.ts';

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

/** Ends and removes all of a demo that was kept, or that could not clean up. Says whether there was anything. */
export function clean(): boolean {
  const state = readState();
  const found = removeNamespaces(prefix);
  if (state) rmSync(state.folder, { recursive: true, force: true });
  forgetState();
  return found || state !== undefined;
}
