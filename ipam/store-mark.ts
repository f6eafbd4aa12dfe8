/**
 * The mark of a complete index (`store-index.ts`): a file in its folder. The file's name holds the state of the store,
 * the number of the index's files, and the boot. The name of a second file holds the machine. Both files are empty,
 * because a power cut may lose a file's content but not part of a name.
 */

import { SyscallError } from '../linux/errors.ts';
import { readText } from '../linux/files.ts';
import type { Sys } from '../linux/sys.ts';

export interface StoreMark {
  /** The inode and the time of modification of the store's folder. */
  readonly inode: number;
  readonly seconds: number;
  /** The number of files that the containers are spread over. */
  readonly shardCount: number;
  /** '' if the kernel does not report it. */
  readonly bootId: string;
}

const pattern = /^complete-(\d+)-(\d+)-(\d+)-([0-9a-f-]*)$/;

export const formatMark = ({ inode, seconds, shardCount, bootId }: StoreMark): string =>
  `complete-${inode}-${seconds}-${shardCount}-${bootId}`;

export function parseMark(name: string): StoreMark | undefined {
  const [, inode, seconds, shardCount, bootId] = pattern.exec(name) ?? [];
  if (bootId === undefined) return undefined;
  return { inode: Number(inode), seconds: Number(seconds), shardCount: Number(shardCount), bootId };
}

/** '' if it cannot be read, or does not have this form. */
function readMatch(sys: Sys, path: string, form: RegExp): string {
  try {
    return form.exec(readText(sys, path) ?? '')?.[0] ?? '';
  } catch (error) {
    if (error instanceof SyscallError) return '';
    throw error;
  }
}

/** The boot's id, which changes with every start of the kernel (random(4)); '' if the kernel does not report it. */
export const readBootId = (sys: Sys): string =>
  readMatch(sys, '/proc/sys/kernel/random/boot_id', /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}/);

/** The name of the file for this machine, by machine-id(5); '' if it has no id. */
export function machineMark(sys: Sys): string {
  const id = readMatch(sys, '/etc/machine-id', /^[0-9a-f]{32}/);
  return id && `machine-${id}`;
}

/** The uptime of the system, proc_uptime(5); undefined if the kernel does not report it. */
export function readUptimeMs(sys: Sys): number | undefined {
  const text = readMatch(sys, '/proc/uptime', /^\d+\.\d+/);
  return text === '' ? undefined : Number(text) * 1000;
}
