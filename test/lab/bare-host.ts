/** A host that runs nothing yet: a network namespace, a folder with the files of its own weftd and plugins, and room for containers. */

import { execute, type Finished, type RunOptions, run } from './commands.ts';
import { describeHost, type LinkState, readLink } from './kernel-state.ts';
import { namespacePath } from './namespaces.ts';
import type { Scratch } from './scratch.ts';
import { NodeFiles } from './weftd.ts';

/** A network namespace that a container may be attached in. */
export interface PodSpace {
  readonly namespace: string;
  readonly path: string;
  /** The container's. */
  readonly id: string;
}

export class BareHost {
  readonly scratch: Scratch;
  readonly name: string;
  readonly namespace: string;
  readonly files: NodeFiles;
  #podCount = 0;

  /** @param name also that of its folder, and the end of its namespace's name */
  constructor(scratch: Scratch, name: string) {
    this.scratch = scratch;
    this.name = name;
    this.namespace = scratch.addNamespace(name);
    this.files = new NodeFiles(scratch.makeFolder(name));
  }

  get folder(): string {
    return this.files.folder;
  }

  get runDir(): string {
    return this.files.runDir;
  }

  get subnetFile(): string {
    return this.files.subnetFile;
  }

  get dataDir(): string {
    return this.files.dataDir;
  }

  /** Namespaces for so many containers: `pod-1`, `pod-2`, … */
  addPodSpaces(count: number): PodSpace[] {
    const numbers = Array.from({ length: count }, () => ++this.#podCount);
    const namespaces = this.scratch.addNamespaces(numbers.map((number) => `${this.name}-p${number}`));
    return namespaces.map((namespace, i) => ({
      namespace,
      path: namespacePath(namespace),
      id: `pod-${numbers[i]}`,
    }));
  }

  /** Runs a program in the host's namespace and gives its stdout. @throws where it fails */
  run(...argv: string[]): string {
    return run(argv, { namespace: this.namespace });
  }

  /** Runs a program in the host's namespace to its end, whatever that is. */
  execute(argv: readonly string[], options: Omit<RunOptions, 'namespace'> = {}): Finished {
    return execute(argv, { ...options, namespace: this.namespace });
  }

  ip(...words: string[]): string {
    return run(['ip', '-n', this.namespace, ...words]);
  }

  /** A link, which has to be there. */
  link(name: string): LinkState {
    return presentLink(this.namespace, name);
  }

  /** The value of a sysctl: its path below /proc/sys. */
  sysctl(path: string, namespace = this.namespace): string {
    return run(['cat', `/proc/sys/${path}`], { namespace }).trim();
  }

  describe(): string[] {
    return describeHost(this.namespace);
  }
}

/** @throws where there is no such link */
export function presentLink(namespace: string, name: string): LinkState {
  const link = readLink(namespace, name);
  if (!link) throw new Error(`There is no link "${name}" in ${namespace}`);
  return link;
}
