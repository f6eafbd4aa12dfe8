/** Processes, by proc(5). */

import { SyscallError } from './errors.ts';
import { readText } from './files.ts';
import type { Sys } from './sys.ts';

/** In the text after the command's name, which may itself hold blanks and brackets: field 22 of proc_pid_stat(5). */
const startTimeField = 19;

/**
 * When the process began, in the kernel's ticks since the boot. A number of a process is given again, but not with the same
 * start: both together name one process of this boot.
 * @returns undefined if there is no such process
 */
export function readStartTime(sys: Sys, pid: number): string | undefined {
  try {
    const text = readText(sys, `/proc/${pid}/stat`);
    return text?.slice(text.lastIndexOf(')') + 2).split(' ')[startTimeField];
  } catch (error) {
    // ESRCH: it has ended while its file was read.
    if (error instanceof SyscallError) return undefined;
    throw error;
  }
}

/** The network namespace that a path leads to, as a text that names it as long as it lives; undefined for none. */
export function namespaceIdentity(sys: Sys, path: string): string | undefined {
  const status = sys.stat(path);
  return typeof status === 'number' ? undefined : `${status.dev}:${status.ino}`;
}
