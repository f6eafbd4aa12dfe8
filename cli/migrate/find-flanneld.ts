/** The flanneld that runs on this host, by proc(5): its options come from its process, as it really has them. */

import { SyscallError } from '../../linux/errors.ts';
import { readText } from '../../linux/files.ts';
import type { Sys } from '../../linux/sys.ts';

export interface RunningFlanneld {
  readonly pid: number;
  /** Without the program. */
  readonly args: readonly string[];
  readonly environment: Readonly<Record<string, string>>;
  /** systemd's service; undefined if the process is none, or one in a container. */
  readonly unit: string | undefined;
  /** It has files of its own: a container. */
  readonly isContained: boolean;
}

/** Command lines and environments are a few pages. */
const limitBytes = 1024 * 1024;

/** Undefined if the process has ended. */
function readOf(sys: Sys, pid: string, name: string): string | undefined {
  try {
    return readText(sys, `/proc/${pid}/${name}`, limitBytes);
  } catch (error) {
    if (error instanceof SyscallError) return undefined;
    throw error;
  }
}

/** The texts of a file in which each ends with a NUL. */
const texts = (file: string): string[] => file.replace(/\0$/, '').split('\0');

const environmentOf = (file: string): Record<string, string> =>
  Object.fromEntries(
    texts(file).flatMap((entry) => {
      const at = entry.indexOf('=');
      return at < 1 ? [] : [[entry.slice(0, at), entry.slice(at + 1)]];
    }),
  );

/** What follows the program, which may be a script that a shell runs. */
export const argumentsIn = (words: readonly string[]): string[] =>
  words.slice(
    Math.max(
      0,
      words.slice(0, 3).findIndex((word) => /(^|\/)flanneld$/.test(word)),
    ) + 1,
  );

/** The service in whose control group a process is, such as `0::/system.slice/flanneld.service`. */
export const unitIn = (cgroup: string): string | undefined =>
  cgroup
    .split('\n')
    .map((line) => line.slice(line.lastIndexOf('/') + 1))
    .find((name) => /^[\w.@:\\-]+\.service$/.test(name));

/** @param isMainProcess whether the process is this service's; asked if the control group does not say */
export function findFlanneld(
  sys: Sys,
  isMainProcess: (unit: string, pid: number) => boolean,
): RunningFlanneld | undefined {
  const processes = sys.getdents('/proc');
  if (typeof processes === 'number') return undefined;
  const [network, files] = ['net', 'mnt'].map((kind) => sys.readlink(`/proc/thread-self/ns/${kind}`));
  const pid = processes.find(
    (each) =>
      /^\d+$/.test(each) &&
      readOf(sys, each, 'comm')?.trim() === 'flanneld' &&
      sys.readlink(`/proc/${each}/ns/net`) === network &&
      // Any user may give a process this name. Only root can run a flanneld.
      /^Uid:\s*\d+\s+0\s/m.test(readOf(sys, each, 'status') ?? ''),
  );
  const commandLine = pid === undefined ? undefined : readOf(sys, pid, 'cmdline');
  if (pid === undefined || !commandLine) return undefined;
  const number = Number(pid);
  const isContained = sys.readlink(`/proc/${pid}/ns/mnt`) !== files;
  const known = ['flanneld.service', 'flannel.service'];
  const unit =
    unitIn(readOf(sys, pid, 'cgroup') ?? '') ?? known.find((each) => !isContained && isMainProcess(each, number));
  return {
    pid: number,
    args: argumentsIn(texts(commandLine)),
    environment: environmentOf(readOf(sys, pid, 'environ') ?? ''),
    unit,
    isContained,
  };
}
