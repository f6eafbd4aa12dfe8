/**
 * Network namespaces, as descriptors. A thread enters a namespace, opens a socket there and returns; the socket stays
 * in its namespace. All of it is synchronous, because a thread that the runtime starts meanwhile would start in the
 * wrong namespace.
 */

import { check, SyscallError } from './errors.ts';
import { writeAll } from './files.ts';
import { CLONE_NEWNET, open, type Sys } from './sys.ts';

/**
 * Opens the namespace that `path` names (`/run/netns/x`, `/proc/1/ns/net`). The caller closes it. Whether it is one is
 * known when it is entered. O_NONBLOCK: a FIFO would wait for its writer.
 */
export const openNamespace = (sys: Sys, path: string): number =>
  check(sys.open(path, open.O_RDONLY | open.O_NONBLOCK, 0), ['open network namespace', path]);

/** Opens the namespace that the calling thread is in. The caller closes it. */
export const openCurrentNamespace = (sys: Sys): number => openNamespace(sys, '/proc/thread-self/ns/net');

/** setns(2). The error names the file if /proc knows it. EINVAL: the file is no network namespace. */
function enter(sys: Sys, fd: number): void {
  const entered = sys.setns(fd, CLONE_NEWNET);
  if (entered >= 0) return;
  const path = sys.readlink(`/proc/thread-self/fd/${fd}`);
  throw new SyscallError(['enter network namespace', typeof path === 'string' ? path : fd], entered);
}

/** Writes to stderr why the process ends. */
const sayOnStderr = (sys: Sys, { message }: SyscallError): void =>
  writeAll(sys, 2, new Uint8Array(sys.encodeUtf8(`${message}; giving up\n`)));

/**
 * Runs `body` in the namespace `to` and returns to `from`, the caller's own, even if `body` throws. `body` must be
 * synchronous and short. If returning fails, the process reports that and exits with status 1, because any further code
 * would act on the wrong namespace.
 * @throws SyscallError EINVAL if `to` is no network namespace, EPERM without CAP_SYS_ADMIN
 */
export function inNamespace<T>(
  sys: Sys,
  { from, to }: { from: number; to: number },
  body: () => T,
  sayLast: (sys: Sys, error: SyscallError) => void = sayOnStderr,
): T {
  enter(sys, to);
  try {
    return body();
  } finally {
    const left = sys.setns(from, CLONE_NEWNET);
    if (left < 0) {
      try {
        sayLast(sys, new SyscallError("return to the host's network namespace", left));
      } finally {
        sys.exit(1);
      }
    }
  }
}

/** Whether two descriptors are the same namespace (or file): same device and inode. */
export function sameNamespace(sys: Sys, a: number, b: number): boolean {
  const statusA = check(sys.fstat(a), ['stat network namespace', a]);
  const statusB = check(sys.fstat(b), ['stat network namespace', b]);
  return statusA.dev === statusB.dev && statusA.ino === statusB.ino;
}
