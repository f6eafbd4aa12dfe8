/**
 * Finds reservations of containers that ended with an earlier boot: no network namespace survives a restart of the
 * machine. The first call after a boot does this once per network, with the lock held.
 *
 * The address of a living container must never be freed. So a reservation counts as an earlier boot's only if the index
 * proves it: the index has the mark of another boot of this same machine, and
 * - either the store's folder is unchanged since it was marked, and so are all reservations in it,
 * - or the index names the reservation and its file is older than this boot. (host-local may have changed the folder
 *   since, or Weft was killed. The file's age covers the case that the same container got the same address again. Age
 *   alone would prove nothing, because clocks jump.) All reservations are kept in a store that is new to Weft, that
 *   another machine has marked (a shared or copied disk), or whose boot is unknown.
 *
 * The result is written beside the index before anything is freed, with each file's inode and time. If the process is
 * killed, the next call frees the same files and no others. If the result cannot be written, nothing is freed.
 */

import type { AttachmentName } from '../cni/spec/request.ts';
import { SyscallError } from '../linux/errors.ts';
import { readText, writeFileAtomic } from '../linux/files.ts';
import { clock, type FileStatus, type Sys } from '../linux/sys.ts';
import { readIndexLines } from './store-index.ts';
import { machineMark, parseMark, readUptimeMs, type StoreMark } from './store-mark.ts';

/** The file stands beside the index's own files. A rebuild of the index removes it. */
const listName = 'earlier-boot';

/** One line of the list: the reservation's file and its status at the time of the decision. */
const formatLine = (name: string, { ino, mtimeMs }: FileStatus): string => `${name} ${ino} ${mtimeMs}`;

export interface StorePaths {
  readonly store: string;
  readonly index: string;
}

/** The start of this boot by the present clock: milliseconds since the epoch. */
function bootStartMs(sys: Sys): number {
  const uptimeMs = readUptimeMs(sys);
  return uptimeMs === undefined ? 0 : sys.clock_gettime(clock.CLOCK_REALTIME) - uptimeMs;
}

/** @param reservations reads all reservations; it may remove broken files */
function plan(
  sys: Sys,
  { store, index }: StorePaths,
  mark: StoreMark,
  reservations: () => ReadonlyMap<string, AttachmentName>,
): string[] {
  const folder = sys.stat(store);
  const isUntouched = typeof folder !== 'number' && folder.ino === mark.inode && folder.mtimeMs === mark.seconds * 1000;
  const isNamed = isUntouched ? () => true : readIndexLines(sys, index);
  const beforeMs = isUntouched ? Number.POSITIVE_INFINITY : bootStartMs(sys);
  const lines: string[] = [];
  for (const [name, holder] of reservations()) {
    const status = sys.stat(`${store}/${name}`);
    if (typeof status === 'number' || status.mtimeMs >= beforeMs || !isNamed({ name, holder })) continue;
    lines.push(formatLine(name, status));
  }
  return lines;
}

/**
 * The files of an earlier boot's reservations; undefined if that is not known now but may be later.
 * @param bootId the id of this boot
 */
export function findEarlierReservations(
  sys: Sys,
  paths: StorePaths,
  bootId: string,
  reservations: () => ReadonlyMap<string, AttachmentName>,
): string[] | undefined {
  const { store, index } = paths;
  const present = sys.getdents(index);
  if (bootId === '' || typeof present === 'number') return [];
  const listPath = `${index}/${listName}`;
  try {
    let lines: string[];
    if (present.includes(listName)) {
      lines = (readText(sys, listPath) ?? '').split('\n');
    } else {
      const mark = present.map(parseMark).find((each) => each && each.bootId !== '' && each.bootId !== bootId);
      if (!mark || !present.includes(machineMark(sys))) return [];
      lines = plan(sys, paths, mark, reservations);
      if (lines.length > 0) writeFileAtomic(sys, listPath, lines.join('\n'), 0o600);
    }
    return lines.flatMap((line) => {
      const name = line.slice(0, line.indexOf(' '));
      const status = name === '' || name.includes('/') ? -1 : sys.stat(`${store}/${name}`);
      return typeof status === 'number' || formatLine(name, status) !== line ? [] : [name];
    });
  } catch (error) {
    if (error instanceof SyscallError) return undefined;
    throw error;
  }
}
