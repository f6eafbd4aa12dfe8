/** Podman without its service: by its command, which reads its state itself. */

import { errno, SyscallError } from '../linux/errors.ts';
import type { Sys } from '../linux/sys.ts';
import { type Container, type Runtime, RuntimeError } from './container.ts';
import { parseInspected } from './docker.ts';

const timeoutMs = 20_000;
const title = 'Podman';

/** @param environment of this process: Podman's configuration may be named there */
export function openPodman(sys: Sys, path: string, environment: Readonly<Record<string, string | undefined>>): Runtime {
  const variables = Object.entries(environment).flatMap(([name, value]) =>
    value === undefined || name.startsWith('BUN_') ? [] : [`${name}=${value}`],
  );
  const run = (...words: string[]): { status: number; stdout: string; stderr: string } => {
    const ended = sys.spawn(path, [path, ...words], variables, new ArrayBuffer(0), timeoutMs);
    if (ended === -errno.ETIMEDOUT) throw new RuntimeError(`"${path}" did not answer within ${timeoutMs / 1000} s`);
    if (typeof ended === 'number') throw new RuntimeError(new SyscallError(['run', path], ended).message);
    const text = (bytes: ArrayBuffer): string => sys.decodeUtf8(bytes, 0, bytes.byteLength);
    return { status: ended.status, stdout: text(ended.stdout), stderr: text(ended.stderr) };
  };
  const documents = (text: string): unknown[] => {
    try {
      const value: unknown = JSON.parse(text);
      if (Array.isArray(value)) return value;
    } catch {
      // It is told below.
    }
    throw new RuntimeError(`"${path}" gives an answer that is not understood`);
  };
  const failed = (stderr: string): RuntimeError =>
    new RuntimeError(`"${path}" refuses: ${stderr.trim().split('\n').at(-1) ?? ''}`);
  return {
    kind: 'podman',
    title,
    async find(word) {
      const { status, stdout, stderr } = run('container', 'inspect', '--', word);
      if (status !== 0) {
        if (/no such container/i.test(stderr)) return undefined;
        throw failed(stderr);
      }
      const [document] = documents(stdout);
      const found = parseInspected('podman', document);
      if (!found) throw new RuntimeError(`"${path}" describes no container`);
      return found;
    },
    async list() {
      const { status, stdout, stderr } = run('ps', '--all', '--no-trunc', '--format', 'json');
      if (status !== 0) throw failed(stderr);
      return documents(stdout).map((item): Container => {
        const { Id: id, Names: names } = item as Record<string, unknown>;
        if (typeof id !== 'string') throw new RuntimeError(`"${path}" lists a container without an id`);
        const [name] = Array.isArray(names) ? names : [];
        return { runtime: 'podman', id, name: typeof name === 'string' ? name : '', pid: undefined };
      });
    },
  };
}
