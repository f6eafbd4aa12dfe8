/**
 * Whether flanneld still runs on this host. Two daemons on one device undo each other's work, so weftd waits until
 * flanneld has ended. It is found by /proc (proc(5)): weftd sees it only if both share a process id namespace. A flannel
 * inside another program, such as that of k3s, is not seen.
 */

import { errno, SyscallError } from '../../linux/errors.ts';
import { readText } from '../../linux/files.ts';
import type { Sys } from '../../linux/sys.ts';

const programName = 'flanneld';

const ownNamespace = '/proc/thread-self/ns/net';

/** Undefined if the process has ended. */
function readOf(sys: Sys, pid: string, name: string): string | undefined {
  try {
    return readText(sys, `/proc/${pid}/${name}`);
  } catch (error) {
    if (error instanceof SyscallError) return undefined;
    throw error;
  }
}

/** Only root can run a flanneld. Any user may give a process this name, and must not hold weftd up by it. */
const runsAsRoot = (status: string): boolean => /^Uid:\s*\d+\s+0\s/m.test(status);

/** The process is in no PID namespace below ours, as those in containers are. */
const isUncontained = (status: string): boolean => /^NSpid:\s*\d+$/m.test(status);

/**
 * Whether the process is in our network namespace. The kernel tells that only those who have all its capabilities; weftd's
 * unit gives weftd one. Then a process in no container counts as this host's.
 */
function sharesNetwork(sys: Sys, pid: string, own: string, status: string): boolean {
  const namespace = sys.readlink(`/proc/${pid}/ns/net`);
  if (typeof namespace === 'string') return namespace === own;
  return (namespace === -errno.EACCES || namespace === -errno.EPERM) && isUncontained(status);
}

/** The process id of a flanneld in this network namespace; undefined if none is visible. */
export function findLiveFlanneld(sys: Sys): number | undefined {
  const processes = sys.getdents('/proc');
  if (typeof processes === 'number') return undefined;
  const own = sys.readlink(ownNamespace);
  if (typeof own !== 'string') return undefined;
  const found = processes.find((pid) => {
    if (!/^\d+$/.test(pid) || readOf(sys, pid, 'comm')?.trim() !== programName) return false;
    const status = readOf(sys, pid, 'status') ?? '';
    return runsAsRoot(status) && sharesNetwork(sys, pid, own, status);
  });
  return found === undefined ? undefined : Number(found);
}
