/**
 * Stands for a container runtime that takes orphans: `early-removal.main.ts COMMAND…` runs a plugin with this process's
 * environment and stdin. It prints how the plugin ended, and the statuses of the processes that it left.
 */

import { dlopen, ptr } from 'bun:ffi';
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';

/** include/uapi/linux/prctl.h */
const PR_SET_CHILD_SUBREAPER = 36;

const { symbols: libc } = dlopen('libc.so.6', {
  prctl: { args: ['i32', 'u64', 'u64', 'u64', 'u64'], returns: 'i32' },
  waitpid: { args: ['i32', 'ptr', 'i32'], returns: 'i32' },
});

libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
const [program, ...args] = process.argv.slice(2);
// It ends with the plugin and when the plugin's stdout and stderr are closed: both, or this waits.
const { status, stdout } = spawnSync(program!, args, { input: readFileSync(0) });
const links = spawnSync('ip', ['-o', 'link', 'show', 'type', 'veth']).stdout.toString().trim();
const orphans: number[] = [];
const word = new Int32Array(1);
while (libc.waitpid(-1, ptr(word), 0) > 0) orphans.push(word[0]!);
process.stdout.write(JSON.stringify({ status, stdout: stdout.toString(), links, orphans }));
