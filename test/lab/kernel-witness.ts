/** Listens to a process of its own that reports changes in the kernel, or messages to a service manager: see kernel-witness.main.ts. */

import { type ChildProcess, spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { waitFor } from './wait.ts';

export const witnessScript = fileURLToPath(new URL('kernel-witness.main.ts', import.meta.url));

export interface Testimony {
  /** On CLOCK_MONOTONIC. */
  readonly ms: number;
  readonly what: string;
}

export class KernelWitness {
  readonly lines: Testimony[] = [];
  readonly #child: ChildProcess;
  #rest = '';

  /** @param args `events`, or `ready SOCKET`; in this process's network namespace */
  constructor(...args: string[]) {
    this.#child = spawn(process.execPath, [witnessScript, ...args], { stdio: ['ignore', 'pipe', 'inherit'] });
    this.#child.stdout!.setEncoding('utf8').on('data', (chunk: string) => {
      const lines = (this.#rest + chunk).split('\n');
      this.#rest = lines.pop()!;
      for (const line of lines) {
        const space = line.indexOf(' ');
        this.lines.push({ ms: Number(line.slice(0, space)), what: line.slice(space + 1) });
      }
    });
  }

  async begun(): Promise<this> {
    await waitFor('the witness to begin', () => this.lines.length > 0);
    this.lines.length = 0;
    return this;
  }

  stop(): void {
    this.#child.kill('SIGKILL');
  }
}
