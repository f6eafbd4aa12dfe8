/** A mount namespace to run programs in: what is mounted there nobody else sees. */

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

  /** @param propagation `slave` to see in there what is mounted outside later, as network namespaces are */
  static async open(scratch: Scratch, propagation: 'private' | 'slave'): Promise<MountNamespace> {
    const keeper = scratch.start(['unshare', '--mount', '--propagation', propagation, 'sleep', 'infinity'], {
      logFile: join(scratch.folder, 'mounts.log'),
    });
    const opened = new MountNamespace(keeper.pid);
    await waitFor('a mount namespace', () => readlinkSync(opened.#path) !== readlinkSync('/proc/self/ns/mnt'));
    // What it mounts by itself is done when it has become another program.
    await waitFor('the keeper of the mount namespace', () =>
      readFileSync(`/proc/${keeper.pid}/comm`, 'utf8').startsWith('sleep'),
    );
    return opened;
  }

  get #path(): string {
    return `/proc/${this.#pid}/ns/mnt`;
  }

  /** Where its root is seen from outside. */
  get root(): string {
    return `/proc/${this.#pid}/root`;
  }

  /** The lines of its mount table, mounts(5). */
  mounts(): string[] {
    return readFileSync(`/proc/${this.#pid}/mounts`, 'utf8').split('\n');
  }

  /** What goes before a program to run it in there. */
  enter(networkNamespace?: string): string[] {
    const net = networkNamespace === undefined ? [] : [`--net=/run/netns/${networkNamespace}`];
    return [findProgram('nsenter'), `--mount=${this.#path}`, ...net];
  }

  /** mount(8), in there. */
  mount(...words: string[]): void {
    run([...this.enter(), findProgram('mount'), ...words]);
  }
}
