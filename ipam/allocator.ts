/**
 * Takes one address from each range set: the requested one, or the next free one after the last that was given out. It
 * takes all of them or none. Pure except for the store, whose lock the caller holds.
 */

import { CniError, errorCodes } from '../cni/spec/errors.ts';
import type { AttachmentName } from '../cni/spec/request.ts';
import { type Address, compareAddresses, formatAddress, offsetAddress, sameAddress } from '../net/address.ts';
import type { Prefix } from '../net/prefix.ts';
import type { AddressStore } from './address-store.ts';
import { SpanIndex } from './overlaps.ts';
import { type AddressRange, formatRangeSet, type RangeSet, rangeContains } from './ranges.ts';

export interface Allocation {
  /** The address with its subnet's prefix length. */
  readonly address: Prefix;
  readonly gateway: Address;
}

/**
 * The addresses of a set, each once. They begin after `last`, continue from a range's end to the next range's start,
 * and end with `last`. If `last` is not in the set, they begin with the set's first address. Gateways are left out.
 */
export function* candidates(set: RangeSet, last: Address | undefined): Generator<readonly [AddressRange, Address]> {
  const lastAt = last ? set.findIndex((range) => rangeContains(range, last)) : -1;
  const from = Math.max(lastAt, 0);
  // The range of `last` comes twice: first its addresses after `last`, and at the end the others.
  for (let i = 0; i <= set.length; i++) {
    const range = set[(from + i) % set.length]!;
    const split = lastAt >= 0 && last ? last : undefined;
    if (i === set.length && !split) return;
    let at = i === 0 && split ? offsetAddress(split, 1) : range.start;
    const end = i === set.length && split ? split : range.end;
    while (at && compareAddresses(at, end) <= 0) {
      if (!sameAddress(at, range.gateway)) yield [range, at];
      at = offsetAddress(at, 1);
    }
  }
}

function takeRequested(
  store: AddressStore,
  set: RangeSet,
  range: AddressRange,
  address: Address,
  holder: AttachmentName,
) {
  const text = formatAddress(address);
  const refused = (why: string) =>
    new CniError(errorCodes.addressNotAvailable, `The requested IP address ${text} ${why}`, {
      details: `range set ${formatRangeSet(set)}`,
    });
  if (sameAddress(address, range.gateway)) throw refused("is the subnet's gateway");
  if (store.reserve(address, holder)) return;
  const network = store.otherHolder?.(address);
  const by = network === undefined ? '' : ` by a container of the network "${network}"`;
  throw refused(`is taken${by}; ask for another or for none`);
}

function takeFree(store: AddressStore, set: RangeSet, setIndex: number, holder: AttachmentName) {
  for (const [range, address] of candidates(set, store.lastReserved(setIndex))) {
    if (!store.isReserved(address) && store.reserve(address, holder)) return [range, address] as const;
  }
  throw new CniError(
    errorCodes.noFreeAddress,
    `There are no IP addresses available in range set ${formatRangeSet(set)}: all are taken; ` +
      'remove containers, or give the network a larger range',
    { details: `no IP addresses available in range set: ${formatRangeSet(set)}` },
  );
}

/** The caller needs the first error. The DEL that follows releases an address that could not be released now. */
function releaseQuietly(store: AddressStore, address: Address, holder: AttachmentName): void {
  try {
    store.release(address, holder);
  } catch {
    // See above.
  }
}

/**
 * @param requested the requested addresses; each must be in one of the sets
 * @throws CniError 100, 101 or 102; nothing is reserved then
 */
export function allocate(
  store: AddressStore,
  sets: readonly RangeSet[],
  requested: readonly Address[],
  holder: AttachmentName,
): Allocation[] {
  const held = store.find(holder);
  if (held.length > 0) {
    throw new CniError(
      errorCodes.alreadyAttached,
      `Container "${holder.containerId}" already holds ${held.map(formatAddress).join(' and ')} ` +
        `for its interface "${holder.ifname}", a duplicate allocation is not allowed; DEL it first`,
      { details: 'duplicate allocation' },
    );
  }
  const taken: Address[] = [];
  // Each set gives one address: the first that was requested of it.
  const index = new SpanIndex(
    sets.flatMap((set, setIndex) => set.map((range) => ({ start: range.start, end: range.end, range, setIndex }))),
  );
  const wanted = new Map<number, { readonly range: AddressRange; readonly address: Address }>();
  const open = requested.filter((address) => {
    const found = index.find(address);
    if (!found || wanted.has(found.setIndex)) return true;
    wanted.set(found.setIndex, { range: found.range, address });
    return false;
  });
  try {
    const allocations = sets.map((set, setIndex): Allocation => {
      const own = wanted.get(setIndex);
      if (own) takeRequested(store, set, own.range, own.address, holder);
      const [range, address] = own ? [own.range, own.address] : takeFree(store, set, setIndex, holder);
      taken.push(address);
      store.setLastReserved(setIndex, address);
      return { address: { address, length: range.subnet.length }, gateway: range.gateway };
    });
    if (open.length > 0) {
      throw new CniError(
        errorCodes.addressNotAvailable,
        `Weft failed to allocate all requested IPs: ${open.map(formatAddress).join(', ')} ` +
          `${open.length > 1 ? 'are' : 'is'} not in the ranges ${sets.map(formatRangeSet).join(' and ')}`,
        { details: `failed to allocate all requested IPs: ${open.map(formatAddress).join(', ')}` },
      );
    }
    return allocations;
  } catch (error) {
    for (const address of taken) releaseQuietly(store, address, holder);
    throw error;
  }
}
