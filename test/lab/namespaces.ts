/** Network namespaces by name: work inside them, and cables between them. */

import { check } from '../../linux/errors.ts';
import { inNamespace, openCurrentNamespace, openNamespace } from '../../linux/netns.ts';
import { CLONE_NEWNET } from '../../linux/sys.ts';
import { sys } from '../../linux/sys-bun.ts';
import { run } from './commands.ts';

export const namespacePath = (name: string): string => `/run/netns/${name}`;

/** Runs commands of ip(8) in a namespace, one a line; undefined stands for this process's namespace. */
export function ipBatch(namespace: string | undefined, lines: readonly string[]): void {
  const where = namespace === undefined ? [] : ['-n', namespace];
  run(['ip', ...where, '-batch', '-'], { stdin: lines.map((line) => `${line}\n`).join('') });
}

/** The end of a cable. */
export interface CableEnd {
  readonly namespace: string;
  readonly device: string;
}

/** Connects two namespaces by a veth pair; both ends are down. */
export function addCable(one: CableEnd, other: CableEnd): void {
  const peer = ['peer', 'name', other.device, 'netns', other.namespace];
  run(['ip', 'link', 'add', one.device, 'netns', one.namespace, 'type', 'veth', ...peer]);
}

/** Gives the body a descriptor of a namespace, which is closed afterwards. */
export function withNamespace<T>(name: string, body: (namespace: number) => T): T {
  const namespace = openNamespace(sys, namespacePath(name));
  try {
    return body(namespace);
  } finally {
    sys.close(namespace);
  }
}

/** Runs the body with the calling thread in a namespace: sockets opened in it belong to the namespace. */
export function insideNamespace<T>(name: string, body: () => T): T {
  const from = openCurrentNamespace(sys);
  try {
    return withNamespace(name, (to) => inNamespace(sys, { from, to }, body));
  } finally {
    sys.close(from);
  }
}

/** Moves this process into a namespace, so that its children start there without a helper. */
export function enterNamespace(name: string): void {
  withNamespace(name, (fd) => check(sys.setns(fd, CLONE_NEWNET), `enter the network namespace "${name}"`));
}
