/**
 * Who holds which address of a network. The port that the allocator works on, and its adapter on host-local's files:
 * `<dataDir>/<network>/<address>` (0600) holding `<container id>\r\n<interface>`, `last_reserved_ip.<set>`, and `lock`.
 *
 * A reservation is complete or absent, also where the process is killed: it is written beside and renamed. It is not
 * synced to disk: it matters as long as its container lives, which no power cut leaves alive. An empty one, as
 * host-local leaves it after a failed write, belongs to nobody and is removed when it is met.
 */

import { CniError, causeText, errorCodes } from '../cni/spec/errors.ts';
import type { AttachmentName } from '../cni/spec/request.ts';
import { check, errno, hasCode, SyscallError } from '../linux/errors.ts';
import { ensureDirectory, writeAll } from '../linux/files.ts';
import { withLock } from '../linux/lock.ts';
import { open, type Sys } from '../linux/sys.ts';
import { type Address, formatAddress, parseAddress } from '../net/address.ts';

export interface Reservation {
  readonly address: Address;
  /** `ifname` is '' in a record of an old host-local, which holds the container's id only. */
  readonly holder: AttachmentName;
}

/** Only to be used while the network's lock is held. */
export interface AddressStore {
  readonly isReserved: (address: Address) => boolean;
  /** Every reservation. Its cost grows with their number. */
  readonly list: () => Reservation[];
  /** The addresses that an attachment holds. */
  readonly find: (holder: AttachmentName) => Address[];
  /** False where it is taken. */
  readonly reserve: (address: Address, holder: AttachmentName) => boolean;
  /** It is fine if it is not reserved. */
  readonly release: (address: Address) => void;
  /** The address that the set gave out last. */
  readonly lastReserved: (set: number) => Address | undefined;
  readonly setLastReserved: (set: number, address: Address) => void;
}

const separator = '\r\n';
/** Renamed to an address's name once it is complete. One is enough: the lock is held. No host-local reads it as an address. */
const temporaryName = '.weft-reservation';
/** Names of reservations begin so, and no other name in the folder does. */
const addressPattern = /^[0-9a-f:]/i;

/** An id and an interface's name, with room. */
const recordBytes = 4096;

function parseHolder(content: string): AttachmentName {
  const [containerId = '', ifname = ''] = content.trim().split(/\r?\n/);
  return { containerId: containerId.trim(), ifname: ifname.trim() };
}

/**
 * What an attachment holds, of all reservations: those with its id and interface, or else those of an old host-local
 * with its id alone.
 */
export function reservationsOf(all: readonly Reservation[], holder: AttachmentName): Address[] {
  const ofContainer = all.filter((reservation) => reservation.holder.containerId === holder.containerId);
  const exact = ofContainer.filter((reservation) => reservation.holder.ifname === holder.ifname);
  const found = exact.length > 0 ? exact : ofContainer.filter((reservation) => reservation.holder.ifname === '');
  return found.map((reservation) => reservation.address);
}

class DiskStore implements AddressStore {
  private readonly sys: Sys;
  private readonly folder: string;
  private names: Set<string> | undefined;
  private readonly record = new ArrayBuffer(recordBytes);

  constructor(sys: Sys, folder: string) {
    this.sys = sys;
    this.folder = folder;
  }

  /** The names in the folder, read once: nobody else changes them while the lock is held. */
  private entries(): Set<string> {
    this.names ??= new Set(check(this.sys.getdents(this.folder), `list "${this.folder}"`));
    return this.names;
  }

  /** A small file's text; undefined where there is none. */
  private read(name: string): string | undefined {
    const { sys, record } = this;
    const path = `${this.folder}/${name}`;
    const fd = sys.open(path, open.O_RDONLY, 0);
    if (fd === -errno.ENOENT) return undefined;
    check(fd, `open "${path}"`);
    const got = sys.read(fd, record, 0, recordBytes);
    sys.close(fd);
    return sys.decodeUtf8(record, 0, check(got, `read "${path}"`));
  }

  isReserved = (address: Address): boolean => this.entries().has(formatAddress(address));

  list = (): Reservation[] => {
    const found: Reservation[] = [];
    for (const name of this.entries()) {
      const address = addressPattern.test(name) ? parseAddress(name) : undefined;
      if (!address) continue;
      const holder = parseHolder(this.read(name) ?? '');
      if (holder.containerId === '') this.remove(name);
      else found.push({ address, holder });
    }
    return found;
  };

  /** As `list` and `reservationsOf`, but takes apart only what may be the holder's. */
  find = (holder: AttachmentName): Address[] => {
    const found: Reservation[] = [];
    for (const name of this.entries()) {
      if (!addressPattern.test(name)) continue;
      const content = this.read(name) ?? '';
      if (content !== '' && !content.includes(holder.containerId)) continue;
      const address = parseAddress(name);
      if (!address) continue;
      const of = parseHolder(content);
      if (of.containerId === '') this.remove(name);
      else found.push({ address, holder: of });
    }
    return reservationsOf(found, holder);
  };

  reserve = (address: Address, { containerId, ifname }: AttachmentName): boolean => {
    const { sys } = this;
    const name = formatAddress(address);
    if (this.entries().has(name)) return false;
    const temporary = `${this.folder}/${temporaryName}`;
    const path = `${this.folder}/${name}`;
    try {
      this.write(temporary, `${containerId}${separator}${ifname}`);
      check(sys.rename(temporary, path), `rename "${temporary}" to "${path}"`);
    } catch (error) {
      sys.unlink(temporary);
      throw error;
    }
    this.entries().add(name);
    return true;
  };

  /**
   * Cuts off what is left of a longer content after writing, not before: ext4 takes a file that is emptied and written
   * for one that is replaced, and waits for the disk (0.3 to 4 ms).
   */
  private write(path: string, text: string): void {
    const { sys } = this;
    const flags = open.O_WRONLY | open.O_CREAT | open.O_NOFOLLOW;
    const fd = check(sys.open(path, flags, 0o600), `create "${path}"`);
    try {
      const bytes = new Uint8Array(sys.encodeUtf8(text));
      writeAll(sys, fd, bytes, `"${path}"`);
      check(sys.ftruncate(fd, bytes.length), `shorten "${path}"`);
    } catch (error) {
      sys.close(fd);
      throw error;
    }
    check(sys.close(fd), `close "${path}"`);
  }

  private remove(name: string): void {
    const path = `${this.folder}/${name}`;
    const removed = this.sys.unlink(path);
    if (removed !== -errno.ENOENT) check(removed, `remove "${path}"`);
    this.names?.delete(name);
  }

  release = (address: Address): void => this.remove(formatAddress(address));

  lastReserved = (set: number): Address | undefined => {
    const name = `last_reserved_ip.${set}`;
    if (!this.entries().has(name)) return undefined;
    return parseAddress((this.read(name) ?? '').trim());
  };

  setLastReserved = (set: number, address: Address): void => {
    const name = `last_reserved_ip.${set}`;
    // Not atomic: a broken one only means that the search begins at the first address.
    this.write(`${this.folder}/${name}`, formatAddress(address));
    this.entries().add(name);
  };
}

/** A failed system call on the store, said as what it means for the caller. */
function storeError(error: unknown, folder: string): unknown {
  if (!(error instanceof SyscallError)) return error;
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

/**
 * Runs `body` on the network's store while holding its lock; the folder is made where it is missing. Should the folder
 * vanish meanwhile, `body` runs once more: it has to be all or nothing.
 * @throws CniError 103 where the store cannot be used
 */
export function withDiskStore<T>(sys: Sys, folder: string, body: (store: AddressStore) => T): T {
  const run = () => withLock(sys, `${folder}/lock`, () => body(new DiskStore(sys, folder)));
  try {
    try {
      return run();
    } catch (error) {
      // The folder is nearly always there, so it is made only where the lock could not be.
      if (!hasCode(error, 'ENOENT')) throw error;
    }
    ensureDirectory(sys, folder, 0o755);
    return run();
  } catch (error) {
    throw storeError(error, folder);
  }
}

/**
 * As `withDiskStore`, for what only removes or looks: undefined where there is no store, which is not made then.
 */
export function withExistingDiskStore<T>(sys: Sys, folder: string, body: (store: AddressStore) => T): T | undefined {
  const status = sys.stat(folder);
  if (status === -errno.ENOENT || status === -errno.ENOTDIR) return undefined;
  try {
    return withLock(sys, `${folder}/lock`, () => body(new DiskStore(sys, folder)));
  } catch (error) {
    throw storeError(error, folder);
  }
}
