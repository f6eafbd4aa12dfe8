/** A process of its own that calls plugins for a test, one at a time. */

import { type ChildProcess, spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import type { RawCall, RawOutcome } from './raw-call.ts';

interface Answer {
  readonly outcome?: RawOutcome;
  readonly failure?: string;
}

export class Caller {
  readonly #child: ChildProcess;

  constructor() {
    this.#child = spawn(process.execPath, [fileURLToPath(new URL('caller.main.ts', import.meta.url))], {
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    });
    this.#child.setMaxListeners(0);
  }

  call(call: RawCall): Promise<RawOutcome> {
    const child = this.#child;
    return new Promise((resolve, reject) => {
      const ended = (): void => reject(new Error('The process that calls the plugins has ended'));
      child.once('exit', ended);
      child.once('message', ({ outcome, failure }: Answer) => {
        child.off('exit', ended);
        if (outcome) resolve(outcome);
        else reject(new Error(failure));
      });
      child.send(call, (error) => error && reject(error));
    });
  }

  close(): void {
    if (this.#child.connected) this.#child.disconnect();
  }
}
