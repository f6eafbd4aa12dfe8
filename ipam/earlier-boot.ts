/**
 * Which reservations no container can hold any more, because the machine has been started again since: no network
 * namespace outlives its kernel. It is asked once a boot and network, by the first call, with the lock held.
 *
 * A living container's address must never be freed, so a reservation counts as an earlier boot's only where the index
 * is witness: it carries the mark of another boot of this very machine, and
 * - either the store's folder is exactly as it was when it was marked: then so are all reservations in it,
 * - or the index names the reservation and its file is older than this boot. (host-local may have been at work since,
 *   or Weft been killed. The file's age is for the case that the same container got the same address again; it alone
 *   would prove nothing, for clocks jump.)
 * A store that Weft meets for the first time, one that another machine has marked (a shared or a copied disk) and one
 * without a known boot keep what they hold.
 *
 * The answer is written down beside the index before anything is freed, with each file's inode and time: whoever goes on
 * after a kill frees the same files and no others. Where it cannot be written nothing is freed.
 */

import type { AttachmentName } from '../cni/spec/request.ts';
import { SyscallError } from '../linux/errors.ts';
import { readText, writeFileAtomic } from '../linux/files.ts';
import { clock, type FileStatus, type Sys } from '../linux/sys.ts';
import { readIndexLines } from './store-index.ts';
import { machineMark, parseMark, readUptimeMs, type StoreMark } from './store-mark.ts';

/** Beside the index's own files. Whoever makes the index anew removes it. */
const listName = 'earlier-boot';

/** One line of the list: the reservation's file, as it was when that was decided. */
const formatLine = (name: string, { ino, mtimeMs }: FileStatus): string => `${name} ${ino} ${mtimeMs}`;

export interface StorePaths {
  readonly store: string;
  readonly index: string;
}

/** When this boot began, by the clock as it goes now: milliseconds since the epoch. */
function bootStartMs(sys: Sys): number {
  const uptimeMs = readUptimeMs(sys);
  return uptimeMs === undefined ? 0 : sys.clock_gettime(clock.CLOCK_REALTIME) - uptimeMs;
}

/** @param reservations reads them all; it may tidy the folder up */
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
 * The names of the files of an earlier boot's reservations; undefined where that cannot be told now, but perhaps later.
 * @param bootId this boot's
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
