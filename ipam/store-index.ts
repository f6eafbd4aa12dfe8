/**
 * An index of the addresses of each container, so that no call reads every reservation. It stands in
 * `<dataDir>/.weft/<network>/`, where host-local never looks. The reservations' files stay the truth: every entry of
 * the index is checked there, and an index that may be incomplete is not used.
 *
 * A store's folder whose index is complete is marked: its time of modification is set to a whole second one minute ago,
 * and the index holds a file named after that time and the folder's inode. Any program that makes, removes or renames a
 * file in the folder sets the time to now: host-local, a person, or Weft killed halfway. A copied or recreated folder
 * has another inode. The mark needs a time in the past, because kernels before 6.13 distinguish times by some
 * milliseconds only.
 *
 * The mark also names its boot. Data from before a power cut may be partly lost, and no container survives its boot
 * (`earlier-boot.ts`). So the first call of a boot rebuilds the index.
 *
 * The index never makes a call fail. An index that cannot be written is incomplete, and then calls take longer.
 */

import type { AttachmentName } from '../cni/spec/request.ts';
import { SyscallError } from '../linux/errors.ts';
import { readText, writeAll } from '../linux/files.ts';
import { clock, open, type Sys } from '../linux/sys.ts';
import { formatMark, machineMark, readBootId } from './store-mark.ts';

/** One reservation. `name` is the name of its file. */
export interface IndexEntry {
  readonly name: string;
  readonly holder: AttachmentName;
}

/** The age of the folder's time in the mark. No clock jumps back by exactly this. */
const markAgeSeconds = 60;

/**
 * The number of files that the containers are spread over. With few files most exist already when they are written.
 * With many reservations there are many files, so that each stays small: some 120 lines at 30,000 reservations.
 */
const shardCounts = { few: 16, many: 256 } as const;
type ShardCount = (typeof shardCounts)[keyof typeof shardCounts];
/** A rebuilt index has many files from this number of reservations on. */
const manyReservations = 500;
/** If a file is larger, few files are no longer enough: the index is discarded, and the next call rebuilds it. */
const largestFewCharacters = 16 * 1024;

/** The container's file, by FNV-1a (32 bits). */
function shardOf(containerId: string, count: ShardCount): string {
  let hash = 0x811c9dc5;
  for (let i = 0; i < containerId.length; i++) hash = Math.imul(hash ^ containerId.charCodeAt(i), 0x01000193);
  return ((hash ^ (hash >>> 16)) & (count - 1)).toString(16).padStart(2, '0');
}

const formatEntry = ({ name, holder }: IndexEntry): string => `${name}\t${holder.containerId}\t${holder.ifname}\n`;

/** `line` ends with its line break. */
function withoutLine(text: string, line: string): string {
  const at = text.startsWith(line) ? 0 : text.indexOf(`\n${line}`) + 1;
  return at > 0 || text.startsWith(line) ? text.slice(0, at) + text.slice(at + line.length) : text;
}

/** Ids that no runtime can use are not in the index: only few characters are valid (CNI 1.1.0). */
const canBeAskedFor = ({ holder }: IndexEntry): boolean => /^[\w.-]+$/.test(holder.containerId);

/** Reads the whole index, complete or not. @returns a function: whether the index has a reservation */
export function readIndexLines(sys: Sys, folder: string): (entry: IndexEntry) => boolean {
  const lines = new Set<string>();
  const names = sys.getdents(folder);
  for (const name of typeof names === 'number' ? [] : names) {
    if (!/^[0-9a-f]{2}$/.test(name)) continue;
    for (const line of (readText(sys, `${folder}/${name}`) ?? '').split('\n')) lines.add(`${line}\n`);
  }
  return (entry) => lines.has(formatEntry(entry));
}

export class StoreIndex {
  readonly #sys: Sys;
  /** The store's own folder. */
  readonly #store: string;
  readonly folder: string;
  /** The id of this boot; '' if it is not known. */
  readonly bootId: string;
  /** Name of the mark's file; undefined if the index is not complete. */
  #mark: string | undefined;
  #shardCount: ShardCount = shardCounts.few;
  /** Whether a file was too large for an index of few files. */
  #isOutgrown = false;

  /** Checks whether the index is complete. Construct it before anything in the store is changed. */
  constructor(sys: Sys, store: string) {
    this.#sys = sys;
    this.#store = store;
    const slash = store.lastIndexOf('/');
    this.folder = `${store.slice(0, slash)}/.weft${store.slice(slash)}`;
    this.bootId = readBootId(sys);
    for (const count of Object.values(shardCounts)) {
      const mark = this.#currentMark(count);
      if (mark === undefined || typeof sys.stat(`${this.folder}/${mark}`) === 'number') continue;
      this.#mark = mark;
      this.#shardCount = count;
      return;
    }
  }

  get isComplete(): boolean {
    return this.#mark !== undefined;
  }

  /** The name that a mark would have now; undefined if another program changed the folder last. */
  #currentMark(count: ShardCount): string | undefined {
    const status = this.#sys.stat(this.#store);
    if (typeof status === 'number' || status.mtimeMs % 1000 !== 0) return undefined;
    const { ino, mtimeMs } = status;
    return formatMark({ inode: ino, seconds: mtimeMs / 1000, shardCount: count, bootId: this.bootId });
  }

  #shardOf(containerId: string): string {
    return shardOf(containerId, this.#shardCount);
  }

  /**
   * A container's reservations by the index; the caller confirms them by their files. Undefined if the index may not
   * have all of them.
   */
  find(containerId: string): IndexEntry[] | undefined {
    const text = this.#mark === undefined ? undefined : this.#read(this.#shardOf(containerId));
    if (text === undefined) {
      // An index that cannot be read is rebuilt.
      this.#mark = undefined;
      return undefined;
    }
    this.#isOutgrown = this.#shardCount === shardCounts.few && text.length > largestFewCharacters;
    const found: IndexEntry[] = [];
    const needle = `\t${containerId}\t`;
    for (let at = text.indexOf(needle); at >= 0; at = text.indexOf(needle, at + 1)) {
      const from = text.lastIndexOf('\n', at) + 1;
      const to = text.indexOf('\n', at);
      // A line that was cut off was never marked as complete.
      if (to < 0) break;
      found.push({ name: text.slice(from, at), holder: { containerId, ifname: text.slice(at + needle.length, to) } });
    }
    return found;
  }

  /**
   * Adds a reservation before it is made. If the process is then killed, the index still has every reservation. The
   * store's folder must have been changed already, so that the mark does not cover half a line.
   */
  announce(entry: IndexEntry): void {
    if (this.#mark === undefined || !canBeAskedFor(entry)) return;
    const path = `${this.folder}/${this.#shardOf(entry.holder.containerId)}`;
    if (this.#isOutgrown || !this.#write(path, formatEntry(entry), open.O_APPEND)) this.#mark = undefined;
  }

  /** Removes the entries of released reservations, and sets the mark. Does nothing unless the index was complete. */
  update(removed: readonly IndexEntry[]): void {
    const { folder } = this;
    const sys = this.#sys;
    const mark = this.#mark;
    if (mark === undefined) return;
    this.#mark = undefined;
    const gone = removed.filter(canBeAskedFor);
    for (const shard of new Set(gone.map(({ holder }) => this.#shardOf(holder.containerId)))) {
      const before = this.#read(shard);
      if (before === undefined) return;
      const isHere = ({ holder }: IndexEntry): boolean => this.#shardOf(holder.containerId) === shard;
      const left = gone.filter(isHere).map(formatEntry).reduce(withoutLine, before);
      const path = `${folder}/${shard}`;
      if (left !== '' && left !== before && !this.#write(path, left)) return;
      if (left === '' && before !== '' && sys.unlink(path) < 0) return;
    }
    const now = this.#markStore();
    if (now !== undefined) sys.rename(`${folder}/${mark}`, `${folder}/${now}`);
  }

  /** Rebuilds the index from all reservations. */
  rebuild(all: readonly IndexEntry[]): void {
    const { folder } = this;
    const sys = this.#sys;
    this.#mark = undefined;
    this.#shardCount = all.length > manyReservations ? shardCounts.many : shardCounts.few;
    sys.mkdir(folder.slice(0, folder.lastIndexOf('/')), 0o700);
    sys.mkdir(folder, 0o700);
    const present = sys.getdents(folder);
    if (typeof present === 'number') return;
    const shards = new Map<string, string>();
    for (const entry of all) {
      if (!canBeAskedFor(entry)) continue;
      const shard = this.#shardOf(entry.holder.containerId);
      shards.set(shard, (shards.get(shard) ?? '') + formatEntry(entry));
    }
    // The marks are removed first. From here on the index is incomplete until the last line.
    for (const name of present) if (!shards.has(name) && sys.unlink(`${folder}/${name}`) < 0) return;
    for (const [shard, lines] of shards) if (!this.#write(`${folder}/${shard}`, lines)) return;
    const machine = machineMark(sys);
    if (machine !== '' && !this.#write(`${folder}/${machine}`, '')) return;
    const mark = this.#markStore();
    if (mark !== undefined) this.#write(`${folder}/${mark}`, '');
  }

  /** Sets the folder's time. @returns the mark's name, with the time as the file system stored it */
  #markStore(): string | undefined {
    const sys = this.#sys;
    const store = this.#store;
    const seconds = Math.floor(sys.clock_gettime(clock.CLOCK_REALTIME) / 1000) - markAgeSeconds;
    return sys.utimensat(store, seconds * 1000) < 0 ? undefined : this.#currentMark(this.#shardCount);
  }

  /** '' if there is no such file, undefined if it cannot be read. */
  #read(shard: string): string | undefined {
    try {
      return readText(this.#sys, `${this.folder}/${shard}`) ?? '';
    } catch (error) {
      if (error instanceof SyscallError) return undefined;
      throw error;
    }
  }

  /** False if it cannot be written. */
  #write(path: string, text: string, append = 0): boolean {
    const sys = this.#sys;
    const fd = sys.open(path, open.O_WRONLY | open.O_CREAT | open.O_NOFOLLOW | open.O_NONBLOCK | append, 0o600);
    if (fd < 0) return false;
    try {
      const bytes = new Uint8Array(sys.encodeUtf8(text));
      writeAll(sys, fd, bytes, ['write', path]);
      // The rest of a longer content is cut off after writing, because truncating first makes ext4 wait for the disk.
      return append !== 0 || sys.ftruncate(fd, bytes.length) >= 0;
    } catch (error) {
      if (error instanceof SyscallError) return false;
      throw error;
    } finally {
      sys.close(fd);
    }
  }
}
