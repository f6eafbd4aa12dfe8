/**
 * The address store on host-local's files: `<dataDir>/<network>/<address>` (0600, `reservations/format.ts`),
 * `last_reserved_ip.<set>`, and `lock`.
 *
 * A reservation is complete or absent, even if the process is killed: it is written under a temporary name and linked. It
 * is not synced to disk, because no container survives a power cut. host-local leaves an empty file after a failed write;
 * it belongs to nobody, and the next call that meets it removes it.
 *
 * One bad entry never stops a call. Something that is named like an address and is no record of a holder (a folder, a
 * FIFO) counts as taken, is named on stderr and is left alone. Without the hint in `last_reserved_ip.<set>` the search
 * begins at the first address.
 */

import { CniError, causeText, errorCodes } from '../cni/spec/errors.ts';
import type { AttachmentName } from '../cni/spec/request.ts';
import { check, errno, hasCode, SyscallError } from '../linux/errors.ts';
import { ensureDirectory, sayOnStderr, writeAll } from '../linux/files.ts';
import { withLock } from '../linux/lock.ts';
import { open, type Sys, stat } from '../linux/sys.ts';
import { type Address, formatAddress, parseAddress } from '../net/address.ts';
import { formatHolder, parseHolder, parseReservationName, type Reservation } from '../reservations/format.ts';
import { type AddressStore, reservationsOf, type StoreAccess } from './address-store.ts';
import { findEarlierReservations } from './earlier-boot.ts';
import { type ForeignEntry, readRecord, recordBytes } from './record.ts';
import { type IndexEntry, StoreIndex } from './store-index.ts';

/**
 * The name of a reservation while it is written. It is then linked as the address and removed. One name is enough,
 * because the lock is held. host-local does not read it as an address.
 */
const temporaryName = '.weft-reservation';

/** So many foreign entries are named on stderr. */
const shownForeign = 3;

/**
 * So many addresses are looked up one by one. After that the whole folder is read, which is cheaper for many lookups
 * and more expensive for few.
 */
const lookupsAtMost = 32;

const isSame = (a: AttachmentName, b: AttachmentName): boolean =>
  a.containerId === b.containerId && a.ifname === b.ifname;

class DiskStore implements AddressStore {
  readonly #sys: Sys;
  readonly #folder: string;
  readonly #index: StoreIndex;
  readonly #record = new ArrayBuffer(recordBytes);
  #names: Set<string> | undefined;
  /** All reservations by the names of their files, after they were read. */
  #all: Map<string, AttachmentName> | undefined;
  readonly #removed: IndexEntry[] = [];
  /** Entries of the index whose record has changed since and names the same container. */
  readonly #stale: IndexEntry[] = [];
  #lookups = 0;
  /** Whether the folder was changed, and whether the change is not fully known. */
  #isChanged = false;
  #isUncertain = false;

  constructor(sys: Sys, folder: string) {
    this.#sys = sys;
    this.#folder = folder;
    this.#index = new StoreIndex(sys, folder);
  }

  /** Frees the reservations of earlier boots, once per boot. Call it before anything else. */
  releaseEarlierBoots(): void {
    const sys = this.#sys;
    const folder = this.#folder;
    const index = this.#index;
    if (index.isComplete) return;
    const names = findEarlierReservations(sys, { store: folder, index: index.folder }, index.bootId, () =>
      this.#readAll(),
    );
    // The index stays unchanged, so that the next call tries again.
    if (!names) this.#isUncertain = true;
    if (!names?.length) return;
    // Reads everything first, so that the index is rebuilt at the end. Then this is done for the boot.
    this.#readAll();
    for (const name of names) {
      // A file that cannot be removed stays for GC, which reports why. It must not make this call fail.
      if (this.#sys.unlink(`${folder}/${name}`) < 0) continue;
      this.#names?.delete(name);
      this.#all?.delete(name);
    }
  }

  /** Updates the index, unless that would need reading all reservations. */
  finish(): void {
    const index = this.#index;
    const all = this.#all;
    const removed = this.#removed;
    if (this.#isUncertain) return;
    if (!index.isComplete && all) index.rebuild(Array.from(all, ([name, holder]) => ({ name, holder })));
    else if (this.#isChanged || removed.length > 0) index.update(removed);
  }

  /** The names in the folder. They are read once, because no one else changes them while the lock is held. */
  #entries(): Set<string> {
    this.#names ??= new Set(check(this.#sys.getdents(this.#folder), ['list', this.#folder]));
    return this.#names;
  }

  #read(name: string): string | ForeignEntry | undefined {
    return readRecord(this.#sys, `${this.#folder}/${name}`, this.#record);
  }

  #readAll(): Map<string, AttachmentName> {
    if (this.#all) return this.#all;
    const all = new Map<string, AttachmentName>();
    const foreign: string[] = [];
    for (const name of this.#entries()) {
      // The lock is held, so the process that wrote it is dead.
      if (name === temporaryName) this.#tryUnlink(name);
      if (!parseReservationName(name)) continue;
      const text = this.#read(name) ?? '';
      if (typeof text !== 'string') {
        foreign.push(`"${name}" is ${text.reason}`);
        continue;
      }
      const holder = parseHolder(text);
      if (holder.containerId !== '') all.set(name, holder);
      else if (!this.#tryUnlink(name)) foreign.push(`"${name}" is empty and cannot be removed`);
    }
    this.#all = all;
    if (foreign.length > 0) this.#sayForeign(foreign);
    return all;
  }

  /** It is said when the folder is read, which happens once after each change by another program. */
  #sayForeign(foreign: readonly string[]): void {
    const more = foreign.length > shownForeign ? `, and ${foreign.length - shownForeign} more` : '';
    sayOnStderr(
      this.#sys,
      `The address store "${this.#folder}" has entries that are no reservations: ` +
        `${foreign.slice(0, shownForeign).join(', ')}${more}. Their addresses count as taken; remove them to free these`,
    );
  }

  isReserved = (address: Address): boolean => {
    const name = formatAddress(address);
    if (this.#names || ++this.#lookups > lookupsAtMost) return this.#entries().has(name);
    const path = `${this.#folder}/${name}`;
    const status = this.#sys.stat(path);
    if (status === -errno.ENOENT) return false;
    check(status, ['look for', path]);
    return true;
  };

  list = (): Reservation[] =>
    Array.from(this.#readAll(), ([name, holder]) => ({ address: parseAddress(name)!, holder }));

  find = (holder: AttachmentName): Address[] => {
    const entries = this.#index.find(holder.containerId);
    if (!entries) return reservationsOf(this.list(), holder);
    const found: Reservation[] = [];
    for (const entry of entries) {
      const address = parseAddress(entry.name);
      const text = address && this.#read(entry.name);
      const actual = typeof text === 'string' ? parseHolder(text) : undefined;
      if (address && actual?.containerId === holder.containerId) {
        found.push({ address, holder: actual });
        // The record was rewritten in place, as a copy of an old host-local does. The record is the truth, and the index
        // keeps its line, by which the container's next call finds it.
        if (!isSame(actual, entry.holder)) this.#stale.push(entry);
      } else {
        // The reservation was this container's, and has no holder now.
        if (actual?.containerId === '') this.#tryUnlink(entry.name);
        this.#removed.push(entry);
      }
    }
    return reservationsOf(found, holder);
  };

  reserve = (address: Address, { containerId, ifname }: AttachmentName): boolean => {
    const sys = this.#sys;
    const name = formatAddress(address);
    const temporary = `${this.#folder}/${temporaryName}`;
    const path = `${this.#folder}/${name}`;
    const entry = { name, holder: { containerId, ifname } };
    let linked = -errno.ENOENT;
    this.#isChanged = true;
    try {
      this.#writeRecord(temporary, formatHolder(entry.holder));
      this.#index.announce(entry);
      // A link never replaces a file that another program made, with or without the lock.
      linked = sys.link(temporary, path);
      if (linked !== -errno.EEXIST) check(linked, ['link', temporary, `as "${path}"`]);
      check(sys.unlink(temporary), ['remove', temporary]);
    } catch (error) {
      this.#isUncertain = true;
      if (linked >= 0) sys.unlink(path);
      sys.unlink(temporary);
      throw error;
    }
    this.#names?.add(name);
    if (linked < 0) this.#removed.push(entry);
    else this.#all?.set(name, entry.holder);
    return linked >= 0;
  };

  /** Writes a new file. An existing one may be a second name of another reservation. */
  #writeRecord(path: string, text: string): void {
    const sys = this.#sys;
    const flags = open.O_WRONLY | open.O_CREAT | open.O_EXCL;
    let fd = sys.open(path, flags, 0o600);
    if (fd === -errno.EEXIST) {
      check(sys.unlink(path), ['remove', path]);
      fd = sys.open(path, flags, 0o600);
    }
    check(fd, ['create', path]);
    try {
      writeAll(sys, fd, new Uint8Array(sys.encodeUtf8(text)), ['write', path]);
    } catch (error) {
      sys.close(fd);
      throw error;
    }
    check(sys.close(fd), ['close', path]);
  }

  /**
   * Cuts off the rest of a longer content after writing, not before. ext4 treats a file that is truncated and written
   * as a replaced one, and waits for the disk (0.3 to 4 ms). False if it is no regular file.
   */
  #write(path: string, text: string): boolean {
    const sys = this.#sys;
    // A FIFO without a reader would wait for one.
    const flags = open.O_WRONLY | open.O_CREAT | open.O_NOFOLLOW | open.O_NONBLOCK;
    const opened = sys.open(path, flags, 0o600);
    if (opened === -errno.EISDIR || opened === -errno.ENXIO || opened === -errno.ELOOP) return false;
    const fd = check(opened, ['create', path]);
    try {
      const { mode } = check(sys.fstat(fd), ['stat', path]);
      if ((mode & stat.S_IFMT) !== stat.S_IFREG) return false;
      const bytes = new Uint8Array(sys.encodeUtf8(text));
      writeAll(sys, fd, bytes, ['write', path]);
      check(sys.ftruncate(fd, bytes.length), ['shorten', path]);
    } finally {
      sys.close(fd);
    }
    return true;
  }

  /** False if it cannot be removed. It then stays, and GC says why. */
  #tryUnlink(name: string): boolean {
    try {
      this.#unlink(name);
      return true;
    } catch (error) {
      if (error instanceof SyscallError) return false;
      throw error;
    }
  }

  #unlink(name: string): void {
    const path = `${this.#folder}/${name}`;
    this.#isChanged = true;
    const removed = this.#sys.unlink(path);
    if (removed !== -errno.ENOENT) check(removed, ['remove', path]);
    this.#names?.delete(name);
    this.#all?.delete(name);
  }

  release = (address: Address, { containerId, ifname }: AttachmentName): void => {
    const name = formatAddress(address);
    this.#unlink(name);
    // The index has a record of an old host-local with the id only.
    for (const each of new Set([ifname, ''])) this.#removed.push({ name, holder: { containerId, ifname: each } });
    this.#removed.push(...this.#stale.filter((entry) => entry.name === name));
  };

  lastReserved = (set: number): Address | undefined => {
    const text = this.#read(`last_reserved_ip.${set}`);
    return typeof text === 'string' ? parseAddress(text.trim()) : undefined;
  };

  setLastReserved = (set: number, address: Address): void => {
    const name = `last_reserved_ip.${set}`;
    const path = `${this.#folder}/${name}`;
    // Not atomic: with a broken file the search begins at the first address.
    if (!this.#write(path, formatAddress(address))) {
      sayOnStderr(this.#sys, `"${path}" is no regular file: each search for a free address begins at the first one`);
    }
  };
}

/** Turns a failed system call on the store into an error that says what it means for the caller. */
function storeError(error: unknown, folder: string): unknown {
  if (!(error instanceof SyscallError)) return error;
  if (hasCode(error, 'ETIMEDOUT')) {
    return new CniError(
      errorCodes.tryAgainLater,
      `The address store "${folder}" is locked: ${error.explanation || 'no answer'}; try again later, or end the holder`,
      { cause: error },
    );
  }
  const advice = hasCode(error, 'ENOSPC', 'EDQUOT')
    ? 'the disk is full, free some space'
    : hasCode(error, 'EROFS')
      ? 'the file system is read-only; set "ipam.dataDir" to a folder that can be written'
      : 'check that the folder can be read and written';
  return new CniError(errorCodes.storeFailed, `Cannot use the address store "${folder}": ${advice}`, {
    cause: error,
    details: causeText(error),
  });
}

/** Runs `body` and then updates the index, even if `body` failed. The lock is held. */
function useStore<T>(sys: Sys, folder: string, body: (store: AddressStore) => T): T {
  const store = new DiskStore(sys, folder);
  store.releaseEarlierBoots();
  try {
    return body(store);
  } finally {
    store.finish();
  }
}

/**
 * Runs `body` on the network's store while holding its lock; the folder is made if it is missing. If the folder
 * vanishes meanwhile, `body` runs once more, so it must be all or nothing.
 * @throws CniError 103 if the store cannot be used, 11 if another process keeps its lock
 */
export function withDiskStore<T>(sys: Sys, folder: string, body: (store: AddressStore) => T): T {
  const run = () => withLock(sys, `${folder}/lock`, () => useStore(sys, folder, body));
  try {
    try {
      return run();
    } catch (error) {
      // The folder nearly always exists, so it is made only after the lock could not be opened.
      if (!hasCode(error, 'ENOENT')) throw error;
    }
    ensureDirectory(sys, folder, 0o755);
    return run();
  } catch (error) {
    throw storeError(error, folder);
  }
}

/**
 * As `withDiskStore`, for callers that only look or release: undefined where there is no store, and none is made.
 */
export function withExistingDiskStore<T>(sys: Sys, folder: string, body: (store: AddressStore) => T): T | undefined {
  const status = sys.stat(folder);
  if (status === -errno.ENOENT || status === -errno.ENOTDIR) return undefined;
  try {
    return withLock(sys, `${folder}/lock`, () => useStore(sys, folder, body));
  } catch (error) {
    throw storeError(error, folder);
  }
}

/** As much of the path as is there. */
function existingPart(sys: Sys, path: string): string {
  let part = path;
  while (part.includes('/') && typeof sys.stat(part) === 'number') part = part.slice(0, part.lastIndexOf('/'));
  return part || '/';
}

/** Whether the store can be made is only known once it is. That it cannot be made may be plain before. */
function checkCreatable(sys: Sys, folder: string): void {
  const path = existingPart(sys, folder);
  const status = sys.stat(path);
  if (typeof status === 'number' || (status.mode & stat.S_IFMT) !== stat.S_IFDIR) {
    throw new CniError(errorCodes.storeFailed, `Cannot make the address store "${folder}": "${path}" is not a folder`);
  }
}

/** The store in this folder. Nothing is opened before one of its functions is called. */
export const diskStore = (sys: Sys, folder: string): StoreAccess => ({
  use: (body) => withDiskStore(sys, folder, body),
  useExisting: (body) => withExistingDiskStore(sys, folder, body),
  checkCreatable: () => checkCreatable(sys, folder),
});
