/** This process's figures, by proc(5). */

import { readText } from '../../linux/files.ts';
import type { Sys } from '../../linux/sys.ts';
import type { ProcessFigures } from '../report/metrics.ts';

/** USER_HZ, include/asm-generic/param.h: the same on every architecture that weftd is built for. */
const ticksPerSecond = 100;

/**
 * @param stat of /proc/self/stat
 * @param status of /proc/self/status
 * @param bootSeconds when the kernel started, since the epoch
 */
export function parseProcess(
  stat: string,
  status: string,
  bootSeconds: number,
): Omit<ProcessFigures, 'openDescriptors' | 'maxDescriptors'> | undefined {
  // The name may contain anything, including parentheses and spaces.
  const fields = stat
    .slice(stat.lastIndexOf(')') + 2)
    .trim()
    .split(' ')
    .map(Number);
  // From field 3 on, "state": utime is field 14, stime 15, starttime 22.
  const [userTicks, systemTicks, startTicks] = [fields[11], fields[12], fields[19]];
  if (userTicks === undefined || systemTicks === undefined || startTicks === undefined) return undefined;
  const bytes = (name: string): number =>
    Number(new RegExp(`^${name}:\\s*(\\d+) kB`, 'm').exec(status)?.[1] ?? 0) * 1024;
  return {
    cpuSeconds: (userTicks + systemTicks) / ticksPerSecond,
    residentBytes: bytes('VmRSS'),
    virtualBytes: bytes('VmSize'),
    startSeconds: bootSeconds + startTicks / ticksPerSecond,
  };
}

const number = (pattern: RegExp, text: string | undefined): number | undefined => {
  const digits = pattern.exec(text ?? '')?.[1];
  return digits === undefined ? undefined : Number(digits);
};

/** This process's memory that no file holds. @returns undefined without /proc */
export function readAnonymousBytes(sys: Sys): number | undefined {
  const kilobytes = number(/^RssAnon:\s*(\d+) kB$/m, readText(sys, '/proc/self/status'));
  return kilobytes === undefined ? undefined : kilobytes * 1024;
}

/** @returns undefined without /proc */
export function readProcess(sys: Sys): ProcessFigures | undefined {
  const stat = readText(sys, '/proc/self/stat');
  const status = readText(sys, '/proc/self/status');
  const bootSeconds = number(/^btime (\d+)$/m, readText(sys, '/proc/stat'));
  if (stat === undefined || status === undefined || bootSeconds === undefined) return undefined;
  const figures = parseProcess(stat, status, bootSeconds);
  const descriptors = sys.getdents('/proc/self/fd');
  return (
    figures && {
      ...figures,
      openDescriptors: typeof descriptors === 'number' ? undefined : descriptors.length,
      maxDescriptors: number(/^Max open files\s+(\d+)/m, readText(sys, '/proc/self/limits')),
    }
  );
}
