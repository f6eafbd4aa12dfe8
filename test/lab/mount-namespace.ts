/** A mount namespace to run programs in: nobody else sees its mounts. */

import { readFileSync, readlinkSync } from 'node:fs';
import { join } from 'node:path';
import { findProgram, run } from './commands.ts';
import type { Scratch } from './scratch.ts';
import { waitFor } from './wait.ts';

export class MountNamespace {
  readonly #pid: number;

  private constructor(pid: number) {
    this.#pid = pid;
  }

  /** @param propagation `slave` to see later mounts of the outside in there, such as network namespaces */
  static async open(scratch: Scratch, propagation: 'private' | 'slave'): Promise<MountNamespace> {
    const keeper = scratch.start(['unshare', '--mount', '--propagation', propagation, 'sleep', 'infinity'], {
      logFile: join(scratch.folder, 'mounts.log'),
    });
    const opened = new MountNamespace(keeper.pid);
    await waitFor('a mount namespace', () => readlinkSync(opened.#path) !== readlinkSync('/proc/self/ns/mnt'));
    // It has finished its own mounts once it has become another program.
    await waitFor('the keeper of the mount namespace', () =>
      readFileSync(`/proc/${keeper.pid}/comm`, 'utf8').startsWith('sleep'),
    );
    return opened;
  }

  get #path(): string {
    return `/proc/${this.#pid}/ns/mnt`;
  }

  /** The path by which the outside sees its root. */
  get root(): string {
    return `/proc/${this.#pid}/root`;
  }

  /** The lines of its mount table, mounts(5). */
  mounts(): string[] {
    return readFileSync(`/proc/${this.#pid}/mounts`, 'utf8').split('\n');
  }

  /** The words before a program that run it in there. */
  enter(networkNamespace?: string): string[] {
    const net = networkNamespace === undefined ? [] : [`--net=/run/netns/${networkNamespace}`];
    return [findProgram('nsenter'), `--mount=${this.#path}`, ...net];
  }

  /** mount(8), in there. */
  mount(...words: string[]): void {
    run([...this.enter(), findProgram('mount'), ...words]);
  }
}
