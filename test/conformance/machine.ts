/** A machine that can be started again: its files about the boot are ours, and its namespaces can be removed. */

import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { readLinks } from '../lab/kernel-state.ts';
import { MountNamespace } from '../lab/mount-namespace.ts';
import type { CallOptions } from '../lab/plugin.ts';
import type { Site } from './site.ts';

export class Machine {
  readonly mounts: MountNamespace;
  readonly #site: Site;
  #boot = 0;

  private constructor(site: Site, mounts: MountNamespace) {
    this.#site = site;
    this.mounts = mounts;
  }

  static async start(site: Site): Promise<Machine> {
    const machine = new Machine(site, await MountNamespace.open(site.scratch, 'slave'));
    machine.#write();
    for (const [path, name] of [
      ['/proc/sys/kernel/random/boot_id', 'boot_id'],
      ['/proc/uptime', 'uptime'],
      ['/etc/machine-id', 'machine-id'],
    ] as const) {
      machine.mounts.mount('--bind', join(site.folder, name), path);
    }
    return machine;
  }

  #write(): void {
    const boot = String(++this.#boot).padStart(12, '0');
    writeFileSync(join(this.#site.folder, 'boot_id'), `b3b5c7d9-0000-4000-8000-${boot}\n`);
    writeFileSync(join(this.#site.folder, 'uptime'), '0.01 0.00\n');
    writeFileSync(join(this.#site.folder, 'machine-id'), '0123456789abcdef0123456789abcdef\n');
  }

  /** No pod and no link of the host is left. */
  reboot(): void {
    this.#write();
    this.#site.scratch.removeNamespaces(this.#site.pods.map(({ namespace }) => namespace));
    this.#site.pods.length = 0;
    // Some of them go by themselves, with the pods.
    for (const { name } of readLinks(this.#site.namespace)) {
      this.#site.execute(['ip', 'link', 'del', name]);
    }
  }

  get through(): CallOptions {
    return { through: this.mounts.enter() };
  }
}
