/**
 * The addresses of a network and their holders: the port that the allocator uses. `store.ts` is its adapter on
 * host-local's files. Addresses that several nodes share (pools, a LAN) will need another adapter, which asks weftd
 * over its socket.
 */

import type { AttachmentName } from '../cni/spec/request.ts';
import type { Address } from '../net/address.ts';
import type { Reservation } from '../reservations/format.ts';

/** Only to be used while the network's lock is held. */
export interface AddressStore {
  readonly isReserved: (address: Address) => boolean;
  /** Every reservation. Its cost grows with their number; that of the others does not. */
  readonly list: () => Reservation[];
  /** The addresses that an attachment holds. */
  readonly find: (holder: AttachmentName) => Address[];
  /** False if it is taken. */
  readonly reserve: (address: Address, holder: AttachmentName) => boolean;
  /** It is no error if the address is not reserved. */
  readonly release: (address: Address, holder: AttachmentName) => void;
  /** The last address that the range set gave out. */
  readonly lastReserved: (set: number) => Address | undefined;
  readonly setLastReserved: (set: number, address: Address) => void;
  /** The other network that has the address, where networks are kept apart (`other-stores.ts`). */
  readonly otherHolder?: (address: Address) => string | undefined;
}

/** Opens the store of a network for the time of a call. `body` is synchronous, and all or nothing: it may run twice. */
export interface StoreAccess {
  /** Makes the store where it is missing. */
  use<T>(body: (store: AddressStore) => T): T;
  /** For callers that only look or release: undefined where there is no store, and none is made. */
  useExisting<T>(body: (store: AddressStore) => T): T | undefined;
  /** Checks whether a missing store could be made, as far as that can be seen. @throws CniError 103 if not */
  checkCreatable(): void;
}

/**
 * The addresses of an attachment among all reservations: those with its id and interface, or else those of an old
 * host-local with its id only.
 */
export function reservationsOf(all: readonly Reservation[], holder: AttachmentName): Address[] {
  const ofContainer = all.filter((reservation) => reservation.holder.containerId === holder.containerId);
  const exact = ofContainer.filter((reservation) => reservation.holder.ifname === holder.ifname);
  const found = exact.length > 0 ? exact : ofContainer.filter((reservation) => reservation.holder.ifname === '');
  return found.map((reservation) => reservation.address);
}
