/**
 * The namespaces, processes and files that a test makes outside of itself. They all go with `remove()`, or at the latest
 * when this process ends.
 */

import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { run, Service, type ServiceOptions } from './commands.ts';

const namespaceFolder = '/run/netns';

function deleteNamespaces(names: readonly string[]): void {
  if (names.length === 0) return;
  run(['ip', '-force', '-batch', '-'], { stdin: names.map((name) => `netns del ${name}\n`).join('') });
}

const living = new Set<Scratch>();

process.on('exit', () => {
  for (const scratch of living) scratch.remove();
});
for (const [signal, status] of [
  ['SIGINT', 130],
  ['SIGTERM', 143],
  ['SIGHUP', 129],
] as const) {
  process.on(signal, () => process.exit(status));
}

export interface ScratchOptions {
  /** Instead of `weft-<pid>-<label>`: what the namespaces' names begin with. */
  readonly prefix?: string;
  /** Instead of a new folder below the system's temporary one. */
  readonly folder?: string;
  /** Keeps everything when this process ends. */
  readonly keep?: boolean;
}

export class Scratch {
  readonly folder: string;
  readonly prefix: string;
  readonly keep: boolean;
  readonly namespaces: string[] = [];
  readonly services: Service[] = [];

  constructor(label: string, options: ScratchOptions = {}) {
    this.prefix = options.prefix ?? `weft-${process.pid}-${label}`;
    this.keep = options.keep === true;
    if (options.folder) mkdirSync(options.folder, { recursive: true });
    this.folder = options.folder ?? mkdtempSync(join(tmpdir(), `${this.prefix}-`));
    living.add(this);
  }

  /** New network namespaces, each with its loopback up; gives their names: `<prefix>-<label>`. */
  addNamespaces(labels: readonly string[]): string[] {
    const names = labels.map((label) => `${this.prefix}-${label}`);
    run(['ip', '-batch', '-'], { stdin: names.map((name) => `netns add ${name}\n`).join('') });
    this.namespaces.push(...names);
    for (const name of names) run(['ip', '-n', name, 'link', 'set', 'lo', 'up']);
    return names;
  }

  addNamespace(label: string): string {
    return this.addNamespaces([label])[0]!;
  }

  removeNamespaces(names: readonly string[]): void {
    const mine = names.filter((name) => this.namespaces.includes(name));
    deleteNamespaces(mine);
    for (const name of mine) this.namespaces.splice(this.namespaces.indexOf(name), 1);
  }

  /** Starts a program that is stopped at the latest by `remove()`. */
  start(argv: readonly string[], options: Omit<ServiceOptions, 'detached'>): Service {
    const service = new Service(argv, { ...options, detached: this.keep });
    this.services.push(service);
    return service;
  }

  /** A folder inside, made. */
  makeFolder(...path: string[]): string {
    const folder = join(this.folder, ...path);
    mkdirSync(folder, { recursive: true });
    return folder;
  }

  /** From now on it stays when this process ends. */
  release(): void {
    living.delete(this);
  }

  remove(): void {
    living.delete(this);
    for (const service of this.services) if (service.alive) service.child.kill('SIGKILL');
    try {
      this.removeNamespaces([...this.namespaces]);
    } catch (error) {
      // One that is gone already is no reason to leave the folder.
      console.error(error instanceof Error ? error.message : error);
    }
    rmSync(this.folder, { recursive: true, force: true });
  }
}

/**
 * Ends all processes in the namespaces whose names begin with `<prefix>-`, and removes those namespaces: for what another
 * process made and kept. Says whether there were any.
 */
export function removeNamespaces(prefix: string): boolean {
  const all = existsSync(namespaceFolder) ? readdirSync(namespaceFolder) : [];
  const names = all.filter((name) => name.startsWith(`${prefix}-`));
  for (const name of names) {
    for (const pid of run(['ip', 'netns', 'pids', name]).trim().split('\n').filter(Boolean)) {
      try {
        process.kill(Number(pid), 'SIGKILL');
      } catch {
        // It has just ended by itself.
      }
    }
  }
  deleteNamespaces(names);
  return names.length > 0;
}
