/**
 * The processes that DEL leaves behind: this process takes them, waits until all have ended, and counts their processor time.
 */

import { dlopen, ptr } from 'bun:ffi';
import { readdirSync, readFileSync } from 'node:fs';

/** include/uapi/linux/prctl.h */
const PR_SET_CHILD_SUBREAPER = 36;
/** sizeof(struct rusage): two `struct timeval` first, user and system time. */
const rusageBytes = 144;

const { symbols: libc } = dlopen('libc.so.6', {
  prctl: { args: ['i32', 'u64', 'u64', 'u64', 'u64'], returns: 'i32' },
  wait4: { args: ['i32', 'ptr', 'i32', 'ptr'], returns: 'i32' },
});

export function takeOrphans(): void {
  libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
}

const children = (): number[] =>
  readdirSync('/proc/self/task')
    .flatMap((task) => readFileSync(`/proc/self/task/${task}/children`, 'utf8').split(' '))
    .filter((pid) => pid !== '')
    .map(Number);

/**
 * Waits for all orphans. To be called when no other child runs.
 * @returns their processor time
 */
export function awaitOrphans(): number {
  const status = new Int32Array(1);
  const usage = new BigInt64Array(rusageBytes / 8);
  let cpuMs = 0;
  for (const pid of children()) {
    if (libc.wait4(pid, ptr(status), 0, ptr(usage)) !== pid) continue;
    cpuMs += Number(usage[0]! + usage[2]!) * 1000 + Number(usage[1]! + usage[3]!) / 1000;
  }
  return cpuMs;
}
