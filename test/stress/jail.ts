/**
 * A mount namespace in which nothing can be written but one folder: what a mutated configuration names may be anywhere,
 * and these tests run as root.
 */

import { mkdirSync, readdirSync, readFileSync, readlinkSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { execute, findProgram, run } from '../support/commands.ts';
import type { Scratch } from '../support/scratch.ts';
import { waitFor } from '../support/wait.ts';

/** File systems that belong to the kernel, and those that namespaces are mounted by. */
const kernelTypes =
  /^(proc|sysfs|devtmpfs|devpts|cgroup2?|nsfs|mqueue|securityfs|debugfs|tracefs|bpf|configfs|pstore|fusectl|hugetlbfs|binfmt_misc|autofs)$/;

export class Jail {
  /** The one folder that can be written, in there. */
  readonly folder: string;
  readonly #pid: number;

  private constructor(folder: string, pid: number) {
    this.folder = folder;
    this.#pid = pid;
  }

  /** Namespaces that are to be seen in there have to be made before. */
  static async open(scratch: Scratch): Promise<Jail> {
    const folder = scratch.makeFolder('jail');
    const keeper = scratch.start(['unshare', '--mount', '--propagation', 'private', 'sleep', 'infinity'], {
      logFile: join(scratch.folder, 'jail.log'),
    });
    const jail = new Jail(folder, keeper.pid);
    await waitFor('a mount namespace', () => readlinkSync(jail.#namespace) !== readlinkSync('/proc/self/ns/mnt'));
    await waitFor('the keeper of the mount namespace', () =>
      readFileSync(`/proc/${keeper.pid}/comm`, 'utf8').startsWith('sleep'),
    );
    run([...jail.enter(), findProgram('mount'), '-t', 'tmpfs', 'jail', folder]);
    for (const line of readFileSync(`/proc/${keeper.pid}/mounts`, 'utf8').split('\n')) {
      const [, target, type, options] = line.split(' ');
      if (!target || target === folder || kernelTypes.test(type!) || options?.split(',').includes('ro')) continue;
      // One that is hidden below another cannot be reached, and need not be.
      execute([...jail.enter(), findProgram('mount'), '-o', 'remount,bind,ro', target]);
    }
    return jail;
  }

  get #namespace(): string {
    return `/proc/${this.#pid}/ns/mnt`;
  }

  /** What goes before a program to run it in there. */
  enter(networkNamespace?: string): string[] {
    const net = networkNamespace === undefined ? [] : [`--net=/run/netns/${networkNamespace}`];
    return [findProgram('nsenter'), `--mount=${this.#namespace}`, ...net];
  }

  /** A folder inside `folder`, seen from outside. */
  fromOutside(...path: string[]): string {
    return join(`/proc/${this.#pid}/root`, this.folder, ...path);
  }

  makeFolder(...path: string[]): string {
    mkdirSync(this.fromOutside(...path), { recursive: true });
    return join(this.folder, ...path);
  }

  removeFile(path: string): void {
    rmSync(this.fromOutside(path), { force: true });
  }

  /** Every file in the folder, by its path from there. */
  files(): string[] {
    return readdirSync(this.fromOutside(), { recursive: true, withFileTypes: true })
      .filter((entry) => !entry.isDirectory())
      .map((entry) => join(entry.parentPath, entry.name).slice(this.fromOutside().length + 1))
      .sort();
  }
}
