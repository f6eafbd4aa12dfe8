/**
 * A mount namespace in which nothing can be written but one folder: what a mutated configuration names may be anywhere,
 * and these tests run as root.
 */

import { mkdirSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { execute, findProgram } from '../lab/commands.ts';
import { MountNamespace } from '../lab/mount-namespace.ts';
import type { Scratch } from '../lab/scratch.ts';

/** File systems that belong to the kernel, and those that namespaces are mounted by. */
const kernelTypes =
  /^(proc|sysfs|devtmpfs|devpts|cgroup2?|nsfs|mqueue|securityfs|debugfs|tracefs|bpf|configfs|pstore|fusectl|hugetlbfs|binfmt_misc|autofs)$/;

export class Jail {
  /** The one folder that can be written, in there. */
  readonly folder: string;
  readonly #mounts: MountNamespace;

  private constructor(folder: string, mounts: MountNamespace) {
    this.folder = folder;
    this.#mounts = mounts;
  }

  /** Namespaces that are to be seen in there have to be made before. */
  static async open(scratch: Scratch): Promise<Jail> {
    const folder = scratch.makeFolder('jail');
    const mounts = await MountNamespace.open(scratch, 'private');
    mounts.mount('-t', 'tmpfs', 'jail', folder);
    for (const line of mounts.mounts()) {
      const [, target, type, options] = line.split(' ');
      if (!target || target === folder || kernelTypes.test(type!) || options?.split(',').includes('ro')) continue;
      // One that is hidden below another cannot be reached, and need not be.
      execute([...mounts.enter(), findProgram('mount'), '-o', 'remount,bind,ro', target]);
    }
    return new Jail(folder, mounts);
  }

  /** The words before a program that run it in there. */
  enter(networkNamespace?: string): string[] {
    return this.#mounts.enter(networkNamespace);
  }

  /** A folder inside `folder`, seen from outside. */
  fromOutside(...path: string[]): string {
    return join(this.#mounts.root, this.folder, ...path);
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
