/** Whether another process starts this one again when it ends: systemd, for a service. */

import { SyscallError } from '../../linux/errors.ts';
import { readText } from '../../linux/files.ts';
import type { Sys } from '../../linux/sys.ts';

/** Undefined if the process has ended. */
function readOf(sys: Sys, pid: number, name: string): string | undefined {
  try {
    return readText(sys, `/proc/${pid}/${name}`);
  } catch (error) {
    if (error instanceof SyscallError) return undefined;
    throw error;
  }
}

/**
 * The unit as whose service a process runs. systemd starts a service as its own child, and gives it INVOCATION_ID. Processes
 * that a service has started inherit the variable, and have another parent. The control group has the unit's name.
 * @returns undefined if the process is no service
 */
export function serviceUnitOf(sys: Sys, pid: number): string | undefined {
  const isChildOfInit = /^PPid:\s*1$/m.test(readOf(sys, pid, 'status') ?? '');
  const isInvoked = (readOf(sys, pid, 'environ') ?? '').split('\0').some((entry) => entry.startsWith('INVOCATION_ID='));
  if (!isChildOfInit || !isInvoked) return undefined;
  const groups = (readOf(sys, pid, 'cgroup') ?? '').split('\n');
  const unit = groups.map((line) => line.slice(line.lastIndexOf('/') + 1)).find((name) => name.endsWith('.service'));
  return unit ?? 'weftd.service';
}
