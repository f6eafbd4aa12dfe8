/**
 * Reads reservations without the store's lock, for programs that only show or count them. An address may be taken or
 * given back meanwhile. The allocator has its own way to the files, with the lock and an index: `ipam/store.ts`.
 */

import { SyscallError } from '../linux/errors.ts';
import { readText } from '../linux/files.ts';
import type { Sys } from '../linux/sys.ts';
import { type Address, compareAddresses } from '../net/address.ts';
import { parseHolder, parseReservationName, type Reservation } from './format.ts';

export interface NetworkReservation extends Reservation {
  readonly network: string;
}

/** A folder that is missing or cannot be read counts as empty. */
function namesIn(sys: Sys, folder: string): readonly string[] {
  const names = sys.getdents(folder);
  return typeof names === 'number' ? [] : names;
}

/** Undefined where the file is gone by now or cannot be read. */
function tryRead(sys: Sys, path: string): string | undefined {
  try {
    return readText(sys, path);
  } catch (error) {
    if (error instanceof SyscallError) return undefined;
    throw error;
  }
}

/** Every reserved address of every network, by the files' names alone. */
export const readReservedAddresses = (sys: Sys, dataDir: string): Address[] =>
  namesIn(sys, dataDir).flatMap((network) =>
    namesIn(sys, `${dataDir}/${network}`).flatMap((name) => parseReservationName(name) ?? []),
  );

function readReservation(
  sys: Sys,
  dataDir: string,
  network: string,
  name: string,
): NetworkReservation | readonly never[] {
  const address = parseReservationName(name);
  if (!address) return [];
  const holder = parseHolder(tryRead(sys, `${dataDir}/${network}/${name}`) ?? '');
  return holder.containerId === '' ? [] : { network, address, holder };
}

/** Every reservation of every network, in the order of networks and addresses. Reads a file each. */
export const readReservations = (sys: Sys, dataDir: string): NetworkReservation[] =>
  namesIn(sys, dataDir)
    .toSorted()
    .flatMap((network) =>
      namesIn(sys, `${dataDir}/${network}`)
        .flatMap((name) => readReservation(sys, dataDir, network, name))
        .sort((a, b) => compareAddresses(a.address, b.address)),
    );
