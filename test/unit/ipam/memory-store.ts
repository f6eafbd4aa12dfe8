/** The store in memory: what the allocator needs, without a disk. */

import type { AttachmentName } from '../../../cni/spec/request.ts';
import { type AddressStore, reservationsOf, type StoreAccess } from '../../../ipam/address-store.ts';
import { type Address, formatAddress, parseAddress } from '../../../net/address.ts';
import type { Reservation } from '../../../reservations/format.ts';

export interface MemoryStore extends AddressStore {
  /** Address → `id/ifname`. */
  readonly held: Map<string, string>;
  readonly last: Map<number, Address>;
}

export function createMemoryStore(reserved: Record<string, string> = {}): MemoryStore {
  const held = new Map(Object.entries(reserved));
  const last = new Map<number, Address>();
  const list = (): Reservation[] =>
    Array.from(held, ([address, holder]) => {
      const [containerId = '', ifname = ''] = holder.split('/');
      return { address: parseAddress(address)!, holder: { containerId, ifname } };
    });
  return {
    held,
    last,
    list,
    find: (holder: AttachmentName) => reservationsOf(list(), holder),
    isReserved: (address) => held.has(formatAddress(address)),
    reserve: (address, { containerId, ifname }) => {
      if (held.has(formatAddress(address))) return false;
      held.set(formatAddress(address), `${containerId}/${ifname}`);
      return true;
    },
    release: (address) => {
      held.delete(formatAddress(address));
    },
    lastReserved: (set) => last.get(set),
    setLastReserved: (set, address) => {
      last.set(set, address);
    },
  };
}

/** A network's store that is there from the start. */
export const accessTo = (store: AddressStore): StoreAccess => ({
  use: (body) => body(store),
  useExisting: (body) => body(store),
  checkCreatable() {},
});
