/**
 * The network namespaces that live on this machine: those of processes and their threads, those that a file holds (as in
 * /run/netns) in any mount namespace, and those that an open descriptor holds. A namespace beside these can only be held by
 * a socket, and nobody is in it.
 */

import { errno, SyscallError } from './errors.ts';
import { readText } from './files.ts';
import type { Sys } from './sys.ts';

const isProcess = (name: string): boolean => /^[0-9]+$/.test(name);

function namesIn(sys: Sys, path: string): readonly string[] {
  const names = sys.getdents(path);
  return typeof names === 'number' ? [] : names;
}

/** proc_pid_mountinfo(5) writes blanks and the like as `\040`. */
const unescaped = (text: string): string =>
  text.replace(/\\([0-7]{3})/g, (_, digits: string) => String.fromCharCode(Number.parseInt(digits, 8)));

/** The places where files hold network namespaces. A mount table may have megabytes. */
export function namespaceMounts(mountinfo: string): string[] {
  return mountinfo.split('\n').flatMap((line) => {
    const fields = line.split(' ');
    return fields[3]?.startsWith('net:[') && line.includes(' - nsfs ') ? [unescaped(fields[4]!)] : [];
  });
}

const mountTableLimitBytes = 64 * 1024 * 1024;

/** A mount table that cannot be read hides namespaces, so that is no small matter. @throws SyscallError */
function mountsOf(sys: Sys, process: string): string[] {
  try {
    const text = readText(sys, `/proc/${process}/mountinfo`, mountTableLimitBytes) ?? '';
    return namespaceMounts(text).map((path) => `/proc/${process}/root${path}`);
  } catch (error) {
    // EINVAL, ESRCH: it has ended.
    if (error instanceof SyscallError && ['EINVAL', 'ESRCH', 'ENOENT'].includes(error.code)) return [];
    throw error;
  }
}

export interface LivingNamespaces {
  /** Identity → a path that leads to the namespace. */
  readonly paths: ReadonlyMap<string, string>;
  /** Why others may live that are not seen; undefined if all are seen. */
  readonly hidden: string | undefined;
}

/** PROC_PID_INIT_INO, include/linux/proc_ns.h: the machine's own process id namespace. */
const machineProcesses = 'pid:[4026531836]';

/** The machine's init. It is in no container, and a sandbox may forbid to look at it. */
const init = '1';

/** @throws SyscallError: /proc cannot be read, so that nothing is known */
export function livingNamespaces(sys: Sys): LivingNamespaces {
  const paths = new Map<string, string>();
  let hidden: string | undefined;
  const note = (path: string, process: string): void => {
    const status = sys.stat(path);
    if (typeof status !== 'number') {
      const identity = `${status.dev}:${status.ino}`;
      if (!paths.has(identity)) paths.set(identity, path);
    } else if ((status === -errno.EACCES || status === -errno.EPERM) && process !== init) {
      hidden ??= `the namespace of process ${process} cannot be looked at`;
    }
  };
  const all = sys.getdents('/proc');
  if (typeof all === 'number') throw new SyscallError(['read folder', '/proc'], all);
  const processes = all.filter(isProcess);
  if (processes.length === 0) throw new SyscallError(['find a process in', '/proc'], errno.ENOENT, 'it is not mounted');
  if (sys.readlink('/proc/self/ns/pid') !== machineProcesses) {
    hidden = "only a part of this machine's processes is seen from inside a container";
  }
  const mountNamespaces = new Set<string>();
  for (const process of processes) {
    for (const thread of namesIn(sys, `/proc/${process}/task`)) note(`/proc/${process}/task/${thread}/ns/net`, process);
    for (const fd of namesIn(sys, `/proc/${process}/fd`)) {
      const path = `/proc/${process}/fd/${fd}`;
      const target = sys.readlink(path);
      if (typeof target === 'string' && target.startsWith('net:[')) note(path, process);
    }
    const mounts = sys.readlink(`/proc/${process}/ns/mnt`);
    if (typeof mounts === 'number' || mountNamespaces.has(mounts)) continue;
    mountNamespaces.add(mounts);
    for (const path of mountsOf(sys, process)) note(path, process);
  }
  return { paths, hidden };
}

/** Whether a path leads to a network namespace, and not to the plain file that was its mount point. */
export function isNamespace(sys: Sys, path: string): boolean {
  const [there, own] = [sys.stat(path), sys.stat('/proc/self/ns/net')];
  return typeof there !== 'number' && typeof own !== 'number' && there.dev === own.dev;
}
