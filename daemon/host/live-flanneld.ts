/**
 * Whether flanneld still runs on this host. Two daemons on one device undo each other's work, so weftd waits until
 * flanneld has ended. It is found by /proc (proc(5)): weftd sees it only if both share a process id namespace. A flannel
 * inside another program, such as that of k3s, is not seen.
 */

import { SyscallError } from '../../linux/errors.ts';
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
const runsAsRoot = (sys: Sys, pid: string): boolean => /^Uid:\s*\d+\s+0\s/m.test(readOf(sys, pid, 'status') ?? '');

/**
 * The process id of a flanneld in this network namespace; undefined if none is visible. A process whose namespace cannot
 * be read does not count: it may be another host's, in a test or in a container.
 */
export function findLiveFlanneld(sys: Sys): number | undefined {
  const processes = sys.getdents('/proc');
  if (typeof processes === 'number') return undefined;
  const own = sys.readlink(ownNamespace);
  if (typeof own !== 'string') return undefined;
  const found = processes.find(
    (pid) =>
      /^\d+$/.test(pid) &&
      readOf(sys, pid, 'comm')?.trim() === programName &&
      sys.readlink(`/proc/${pid}/ns/net`) === own &&
      runsAsRoot(sys, pid),
  );
  return found === undefined ? undefined : Number(found);
}
