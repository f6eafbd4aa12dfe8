/**
 * What the IPAM does for an attachment: take addresses, give them back, look, collect. `weft` calls these in its own
 * process; `weft-ipam` is a thin shell around them.
 */

import { CniError, errorCodes } from '../cni/spec/errors.ts';
import type { AttachmentName, CniRequest } from '../cni/spec/request.ts';
import type { Result } from '../cni/spec/results.ts';
import { type Sys, stat } from '../linux/sys.ts';
import { type Address, formatAddress } from '../net/address.ts';
import type { NodeNetwork } from '../net/node-file.ts';
import type { Prefix } from '../net/prefix.ts';
import { allocate } from './allocator.ts';
import { dnsOf, rangeSetsOf, requestedAddresses, routesOf, storeFolder } from './settings.ts';
import { type AddressStore, withDiskStore, withExistingDiskStore } from './store.ts';

export interface Addresses {
  /** An IPAM result: no interfaces. */
  readonly result: Result;
  /** The gateways that attachments of this network may have, with their subnets' prefix lengths. */
  readonly gateways: readonly Prefix[];
}

/**
 * Takes an address from each range set.
 * @param request its configuration has canonical keys and is validated by the schema
 * @param node reads the node's network; called only where the configuration names no ranges
 * @throws CniError; nothing is reserved then
 */
export function addAddresses(sys: Sys, request: CniRequest, node: () => NodeNetwork): Addresses {
  const { configuration } = request;
  // Whatever can be wrong is looked at before the lock is taken.
  const sets = rangeSetsOf(request, node);
  const requested = requestedAddresses(request);
  const routes = routesOf(configuration);
  const dns = dnsOf(sys, configuration);
  const allocations = withDiskStore(sys, storeFolder(request), (store) => allocate(store, sets, requested, request));
  return {
    result: { interfaces: [], ips: allocations, routes, dns },
    gateways: sets.flat().map(({ gateway, subnet }) => ({ address: gateway, length: subnet.length })),
  };
}

/** Releases these addresses, of an ADD that failed later. */
export function releaseAddresses(sys: Sys, request: CniRequest, addresses: readonly Address[]): void {
  withExistingDiskStore(sys, storeFolder(request), (store) => {
    for (const address of addresses) store.release(address, request);
  });
}

/** Releases all that the attachment holds. It is fine if that is nothing. */
export function removeAddresses(sys: Sys, request: CniRequest): void {
  withExistingDiskStore(sys, storeFolder(request), (store) => {
    for (const address of store.find(request)) store.release(address, request);
  });
}

/** @throws CniError 111 where the attachment holds no address */
export function checkAddresses(sys: Sys, request: CniRequest): void {
  const held = withExistingDiskStore(sys, storeFolder(request), (store) => store.find(request)) ?? [];
  if (held.length > 0) return;
  const { containerId, ifname, network } = request;
  throw new CniError(
    errorCodes.reservationMissing,
    `Container "${containerId}" holds no address for its interface "${ifname}" in network "${network}"`,
    { details: `failed to find an address added by container ${containerId}` },
  );
}

/**
 * Whether an ADD could be served: the ranges are known and not full, the store can be read.
 * @throws CniError 50, or 7 where the configuration is wrong
 */
export function checkAvailable(sys: Sys, request: CniRequest, node: () => NodeNetwork): void {
  try {
    const sets = rangeSetsOf(request, node);
    routesOf(request.configuration);
    dnsOf(sys, request.configuration);
    const folder = storeFolder(request);
    // All or nothing, and nothing is kept: what an ADD would get.
    const tryIn = (store: Pick<AddressStore, 'isReserved' | 'lastReserved' | 'list'>): boolean => {
      const reserve = (address: Address): boolean => !store.isReserved(address);
      const changes = { find: () => [], reserve, release: ignore, setLastReserved: ignore };
      allocate({ ...store, ...changes }, sets, [], request);
      return true;
    };
    if (withExistingDiskStore(sys, folder, tryIn)) return;
    // There is no store yet. That it can be made is only known once it is; that it cannot be may be plain.
    const path = existingPart(sys, folder);
    const status = sys.stat(path);
    if (typeof status === 'number' || (status.mode & stat.S_IFMT) !== stat.S_IFDIR) {
      throw new CniError(errorCodes.storeFailed, `Cannot make the address store "${folder}": "${path}" is no folder`);
    }
    tryIn({ isReserved: () => false, lastReserved: () => undefined, list: () => [] });
  } catch (error) {
    if (error instanceof CniError && error.code === errorCodes.invalidConfiguration) throw error;
    const message = error instanceof Error ? error.message : String(error);
    throw new CniError(errorCodes.notAvailable, message, { cause: error });
  }
}

const ignore = (): void => {};

/** As much of the path as is there. */
function existingPart(sys: Sys, path: string): string {
  let part = path;
  while (part.includes('/') && typeof sys.stat(part) === 'number') part = part.slice(0, part.lastIndexOf('/'));
  return part || '/';
}

/**
 * Releases what is held by none of the valid attachments.
 * @returns the addresses released, and what failed; it goes on past failures
 */
export function collectAddresses(
  sys: Sys,
  request: CniRequest,
  valid: readonly AttachmentName[],
): { released: Address[]; errors: Error[] } {
  const keep = new Set(valid.flatMap(({ containerId, ifname }) => [`${containerId}/${ifname}`, `${containerId}/`]));
  const released: Address[] = [];
  const errors: Error[] = [];
  withExistingDiskStore(sys, storeFolder(request), (store) => {
    for (const { address, holder } of store.list()) {
      if (keep.has(`${holder.containerId}/${holder.ifname}`)) continue;
      try {
        store.release(address, holder);
        released.push(address);
      } catch (error) {
        errors.push(
          new Error(`Cannot release ${formatAddress(address)} of container "${holder.containerId}"`, { cause: error }),
        );
      }
    }
  });
  return { released, errors };
}
