/**
 * The verbs of the IPAM for an attachment: take addresses, release, check, collect. `weft` calls them in its own
 * process; `weft-ipam` is a thin wrapper around them.
 */

import { CniError, errorCodes } from '../cni/spec/errors.ts';
import type { AttachmentName, CniRequest } from '../cni/spec/request.ts';
import type { Result } from '../cni/spec/results.ts';
import type { Sys } from '../linux/sys.ts';
import { type Address, formatAddress } from '../net/address.ts';
import type { NodeNetwork } from '../net/node-file.ts';
import { type Prefix, prefixContains } from '../net/prefix.ts';
import type { AddressStore, StoreAccess } from './address-store.ts';
import { type Allocation, allocate } from './allocator.ts';
import { OtherStores } from './other-stores.ts';
import type { RangeSet } from './ranges.ts';
import { dnsOf, rangeSetsOf, requestedAddresses, routesOf, storeFolder, usesNodeSubnets } from './settings.ts';
import { diskStore } from './store.ts';

/** The store of the request's network. */
const storeOf = (sys: Sys, request: CniRequest): StoreAccess => diskStore(sys, storeFolder(request));

export interface Addresses {
  /** An IPAM result: no interfaces. */
  readonly result: Result;
  /** The gateways that attachments of this network may have, with their subnets' prefix lengths. */
  readonly gateways: readonly Prefix[];
}

/** The stores of other networks, which share the node's subnets with this one. */
function otherStores(sys: Sys, request: CniRequest, node: () => NodeNetwork): OtherStores {
  const isOfNode = (address: Address): boolean => {
    if (usesNodeSubnets(request.configuration)) return true;
    try {
      return node().subnets.some((subnet) => prefixContains(subnet, address));
    } catch {
      // Without weftd and flanneld there is no subnet of the node.
      return false;
    }
  };
  return new OtherStores(sys, storeFolder(request), isOfNode);
}

/** As `allocate`, of the addresses that no other network has. One folder is read if there is no conflict. */
function allocateBeside(
  others: OtherStores,
  store: AddressStore,
  sets: readonly RangeSet[],
  requested: readonly Address[],
  holder: AttachmentName,
): Allocation[] {
  const taken = allocate(store, sets, requested, holder);
  let isOurs = false;
  try {
    const networks = others.list();
    isOurs = taken.every(({ address }) => others.findHolder(networks, address.address) === undefined);
  } finally {
    if (!isOurs) for (const { address } of taken) store.release(address.address, holder);
  }
  return isOurs ? taken : allocate(others.guard(store), sets, requested, holder);
}

/**
 * Takes an address from each range set.
 * @param request its configuration has canonical keys and is validated by the schema
 * @param node reads the node's network; called if the configuration names no ranges, or if another network has an address
 * @throws CniError; nothing is reserved then
 */
export function addAddresses(
  sys: Sys,
  request: CniRequest,
  node: () => NodeNetwork,
  access = storeOf(sys, request),
): Addresses {
  const { configuration } = request;
  // Everything that can be wrong is checked before the lock is taken.
  const sets = rangeSetsOf(request, node);
  const requested = requestedAddresses(request);
  const routes = routesOf(configuration);
  const dns = dnsOf(sys, configuration);
  const others = otherStores(sys, request, node);
  const allocations = access.use((store) => allocateBeside(others, store, sets, requested, request));
  return {
    result: { interfaces: [], ips: allocations, routes, dns },
    gateways: sets.flat().map(({ gateway, subnet }) => ({ address: gateway, length: subnet.length })),
  };
}

/** Releases the addresses of an ADD that failed later. */
export function releaseAddresses(
  sys: Sys,
  request: CniRequest,
  addresses: readonly Address[],
  access = storeOf(sys, request),
): void {
  access.useExisting((store) => {
    for (const address of addresses) store.release(address, request);
  });
}

/**
 * Releases all addresses of the attachment. It is no error if there are none.
 * @throws the first error, after every address that can be released is released
 */
export function removeAddresses(sys: Sys, request: CniRequest, access = storeOf(sys, request)): void {
  const errors: unknown[] = [];
  access.useExisting((store) => {
    for (const address of store.find(request)) {
      try {
        store.release(address, request);
      } catch (error) {
        errors.push(error);
      }
    }
    if (errors.length > 0) throw errors[0];
  });
}

/** @throws CniError 111 if the attachment holds no address */
export function checkAddresses(sys: Sys, request: CniRequest, access = storeOf(sys, request)): void {
  const held = access.useExisting((store) => store.find(request)) ?? [];
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
 * @throws CniError 50, or 7 if the configuration is wrong
 */
export function checkAvailable(
  sys: Sys,
  request: CniRequest,
  node: () => NodeNetwork,
  access = storeOf(sys, request),
): void {
  try {
    const sets = rangeSetsOf(request, node);
    routesOf(request.configuration);
    dnsOf(sys, request.configuration);
    const others = otherStores(sys, request, node);
    const networks = others.list();
    // Allocates as an ADD would, but keeps nothing.
    const tryIn = (store: Pick<AddressStore, 'isReserved' | 'lastReserved' | 'list'>): boolean => {
      const reserve = (address: Address): boolean =>
        !store.isReserved(address) && others.findHolder(networks, address) === undefined;
      const changes = { find: () => [], reserve, release: ignore, setLastReserved: ignore };
      allocate({ ...store, ...changes }, sets, [], request);
      return true;
    };
    if (access.useExisting(tryIn)) return;
    access.checkCreatable();
    tryIn({ isReserved: () => false, lastReserved: () => undefined, list: () => [] });
  } catch (error) {
    if (error instanceof CniError && error.code === errorCodes.invalidConfiguration) throw error;
    const message = error instanceof Error ? error.message : String(error);
    throw new CniError(errorCodes.notAvailable, message, { cause: error });
  }
}

const ignore = (): void => {};

/**
 * Releases the addresses that no valid attachment holds.
 * @returns the released addresses and the errors; it continues after errors
 */
export function collectAddresses(
  sys: Sys,
  request: CniRequest,
  valid: readonly AttachmentName[],
  access = storeOf(sys, request),
): { released: Address[]; errors: Error[] } {
  const keep = new Set(valid.flatMap(({ containerId, ifname }) => [`${containerId}/${ifname}`, `${containerId}/`]));
  const released: Address[] = [];
  const errors: Error[] = [];
  access.useExisting((store) => {
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
