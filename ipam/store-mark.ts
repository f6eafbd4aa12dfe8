/**
 * The mark of a complete index (`store-index.ts`): a file of its folder whose name says of what state of the store, how
 * many files the index has, and in which boot that was; and another one whose name says on which machine. Both are
 * empty: a name is there or not, of a content a power cut may leave nothing.
 */

import { SyscallError } from '../linux/errors.ts';
import { readText } from '../linux/files.ts';
import type { Sys } from '../linux/sys.ts';

export interface StoreMark {
  /** Of the store's folder: its inode, and its time of modification. */
  readonly inode: number;
  readonly seconds: number;
  /** How many files the containers are spread over. */
  readonly shardCount: number;
  /** '' where the kernel does not tell. */
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

/** '' where it cannot be read, or is not of this form. */
function readMatch(sys: Sys, path: string, form: RegExp): string {
  try {
    return form.exec(readText(sys, path) ?? '')?.[0] ?? '';
  } catch (error) {
    if (error instanceof SyscallError) return '';
    throw error;
  }
}

/** Another one after each start of the kernel (random(4)); '' where it does not tell. */
export const readBootId = (sys: Sys): string =>
  readMatch(sys, '/proc/sys/kernel/random/boot_id', /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}/);

/** The name of the file that stands for this machine, by machine-id(5); '' where it has no id. */
export function machineMark(sys: Sys): string {
  const id = readMatch(sys, '/etc/machine-id', /^[0-9a-f]{32}/);
  return id && `machine-${id}`;
}

/** For how long the system has been up, proc_uptime(5); undefined where the kernel does not tell. */
export function readUptimeMs(sys: Sys): number | undefined {
  const text = readMatch(sys, '/proc/uptime', /^\d+\.\d+/);
  return text === '' ? undefined : Number(text) * 1000;
}
