/**
 * Subnet leases: flannel's values byte for byte, with a `Weft` object in them that flannel ignores. How a store names
 * its leases is the store's.
 */

import { isDeepStrictEqual } from 'node:util';
import {
  type Address,
  compareAddresses,
  type Family,
  formatAddress,
  isUnspecified,
  parseAddress,
  sameAddress,
} from '../net/address.ts';
import { formatPrefix, type Prefix, samePrefix } from '../net/prefix.ts';
import type { BackendFormats } from './backend-format.ts';
import { excerptOf } from './excerpt.ts';
import { families, type PerFamily, perFamily, valuesOf } from './network-config.ts';

/** The value of a lease: the owner's description of itself. */
export interface LeaseValue {
  /** The addresses by which peers reach the node: outer addresses of the tunnel, or next hops. */
  readonly publicAddresses: PerFamily<Address>;
  /** `vxlan`, `host-gw`, or any backend of a flannel peer. */
  readonly backendType: string;
  /** As the backend parsed it; empty where weftd does not run the backend. */
  readonly backendData: PerFamily<unknown>;
  /** The owner's name; absent if the owner is flannel. */
  readonly node?: string;
  /** The owner's version of Weft; absent if the owner is flannel. */
  readonly version?: string;
}

/** A lease as its store has it. */
export interface Lease extends LeaseValue {
  /** The lease's owner as the store names it: no other lease has it, and it lasts as long as the lease. etcd: the key. */
  readonly ownerId: string;
  /** The subnets leased: networks without host bits. */
  readonly subnets: PerFamily<Prefix>;
  /** A reservation: it never expires. */
  readonly reservation: boolean;
  /** flannel's, or made by hand: it has no Weft object. */
  readonly ofFlannel: boolean;
  /** What is wrong with the node's network, as the owner says in one word; absent if nothing is, or if it says nothing. */
  readonly health?: string;
  /** A number, as text: the greater, the later the lease was made. etcd: the create revision. */
  readonly seniority: string;
  /** The store's own notes on the lease. Only the store reads them. */
  readonly handle: unknown;
}

/** Our own lease, with its expiry. */
export interface OwnLease extends Lease {
  /** When the store removes it without renewal, in milliseconds since the epoch; undefined if it never does. */
  readonly expiresAtMs: number | undefined;
}

/** Other keys of a lease's value, neither flannel's nor ours. They are kept when the value is written again. */
export type ExtraKeys = Readonly<Record<string, unknown>>;

/** An entry of the store that cannot be read, and why. */
export class LeaseFormatError extends Error {
  override readonly name = 'LeaseFormatError';
}

const valueKeys = { 4: ['PublicIP', 'BackendData'], 6: ['PublicIPv6', 'BackendV6Data'] } as const;

/**
 * The value: byte for byte as flannel's Go writes it, then `Weft`, then foreign keys that were found there.
 * `extra` is what `parseLeaseValue` gave.
 */
export function formatLeaseValue(value: LeaseValue, backends: BackendFormats, extra: ExtraKeys = {}): string {
  const format = backends.get(value.backendType);
  const backendData = perFamily((family) => {
    const data = value.backendData[family];
    return data === undefined ? undefined : format?.formatLeaseData?.(data);
  });
  return JSON.stringify({
    // Go writes the zero value of an IPv4 address; an IPv6 address is a null pointer.
    PublicIP: value.publicAddresses[4] ? formatAddress(value.publicAddresses[4]) : '0.0.0.0',
    PublicIPv6: value.publicAddresses[6] ? formatAddress(value.publicAddresses[6]) : null,
    ...(value.backendType === '' ? {} : { BackendType: value.backendType }),
    ...(backendData[4] ? { BackendData: backendData[4] } : {}),
    ...(backendData[6] ? { BackendV6Data: backendData[6] } : {}),
    ...(value.node === undefined ? {} : { Weft: { node: value.node, version: value.version ?? '' } }),
    ...extra,
  });
}

export const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

/** The value of a key in any case, as in Go; null counts as absent. */
export function lookUp(object: Record<string, unknown>, key: string): unknown {
  let found: unknown;
  // Without a copy of the keys: there are thousands of leases.
  for (const name in object) {
    const isWanted = name === key || (name.length === key.length && name.toLowerCase() === key.toLowerCase());
    if (isWanted) found = object[name];
  }
  return found ?? undefined;
}

function parsePublicAddress(value: unknown, key: string, family: Family): Address | undefined {
  if (value === undefined) return undefined;
  const address = typeof value === 'string' ? parseAddress(value) : undefined;
  if (!address || address.family !== family) {
    throw new LeaseFormatError(`"${key}" is ${excerptOf(value)}, which is no IPv${family} address`);
  }
  return isUnspecified(address) ? undefined : address;
}

const ourKeys = new Set(['PublicIP', 'PublicIPv6', 'BackendType', 'BackendData', 'BackendV6Data', 'Weft']);
const ourKeysInLowerCase = new Set([...ourKeys].map((key) => key.toLowerCase()));

/** Longer values are not read: flannel's and ours have some hundred bytes. */
export const longestLeaseBytes = 8192;
/** Foreign keys are kept up to this size in all, so that no one can make a lease too long for its owner to write it. */
const longestExtra = 4096;
/** A host's name has 253 characters at most. */
const longestName = 253;

/** Why a value of this length is not read. */
export const tooLong = (bytes: number): string => `its value has ${bytes} bytes; at most ${longestLeaseBytes} are read`;

const noExtra: ExtraKeys = {};

/** The foreign keys, or none if they are too many. Most leases have none, and share an object. */
function extraOf(object: Readonly<Record<string, unknown>>): ExtraKeys {
  let foreign: string[] | undefined;
  for (const key in object) {
    if (ourKeys.has(key) || ourKeysInLowerCase.has(key.toLowerCase())) continue;
    foreign ??= [];
    foreign.push(key);
  }
  if (!foreign) return noExtra;
  const extra = Object.fromEntries(foreign.map((key) => [key, object[key]]));
  return JSON.stringify(extra).length > longestExtra ? noExtra : extra;
}

/** @throws LeaseFormatError */
function checkName(name: string, text: unknown): void {
  if (typeof text === 'string' && text.length > longestName) {
    throw new LeaseFormatError(`"${name}" has ${text.length} characters; at most ${longestName} are read`);
  }
}

/**
 * Reads a lease's value. Addresses and backend may be missing: a reservation made by hand need not have them.
 * @throws LeaseFormatError
 */
export function parseLeaseValue(text: string, backends: BackendFormats): LeaseValue & { readonly extra: ExtraKeys } {
  const bytes = text.length > longestLeaseBytes ? text.length : Buffer.byteLength(text);
  if (bytes > longestLeaseBytes) throw new LeaseFormatError(tooLong(bytes));
  let document: unknown;
  try {
    document = JSON.parse(text);
  } catch {
    throw new LeaseFormatError('its value is not JSON');
  }
  if (!isObject(document)) throw new LeaseFormatError('its value is not a JSON object');
  const object = document;
  const backendType = lookUp(object, 'BackendType') ?? '';
  if (typeof backendType !== 'string') {
    throw new LeaseFormatError(`"BackendType" is ${excerptOf(backendType)}, not a string`);
  }
  const format = backends.get(backendType);
  const weft = lookUp(object, 'Weft');
  const { node, version } = isObject(weft) ? weft : {};
  checkName('BackendType', backendType);
  checkName('Weft.node', node);
  checkName('Weft.version', version);
  return {
    publicAddresses: perFamily((family) => {
      const key = valueKeys[family][0];
      return parsePublicAddress(lookUp(object, key), key, family);
    }),
    // The same text for all leases of a backend.
    backendType: format?.name ?? backendType,
    backendData: perFamily((family) => {
      const key = valueKeys[family][1];
      const data = format?.parseLeaseData && lookUp(object, key);
      return data === undefined ? undefined : format?.parseLeaseData?.(data, key);
    }),
    ...(typeof node === 'string' && node !== '' ? { node } : {}),
    ...(typeof version === 'string' && version !== '' ? { version } : {}),
    extra: extraOf(object),
  };
}

function sameForEachFamily<T>(a: PerFamily<T>, b: PerFamily<T>, same: (a: T, b: T) => boolean): boolean {
  return families.every((family) => {
    const x = a[family];
    const y = b[family];
    return x === undefined || y === undefined ? x === y : same(x, y);
  });
}

export const sameSubnets = (a: PerFamily<Prefix>, b: PerFamily<Prefix>): boolean => sameForEachFamily(a, b, samePrefix);

/** Whether both have the same owner data: every address, every MAC, everything. */
export const sameLeaseValue = (a: LeaseValue, b: LeaseValue): boolean =>
  a.backendType === b.backendType &&
  a.node === b.node &&
  a.version === b.version &&
  sameForEachFamily(a.publicAddresses, b.publicAddresses, sameAddress) &&
  sameForEachFamily(a.backendData, b.backendData, isDeepStrictEqual);

/** Whether both belong to the same host: by the IPv4 address if both have one, as in flannel, else by the IPv6 one. */
export function samePublicAddress(
  a: Pick<LeaseValue, 'publicAddresses'>,
  b: Pick<LeaseValue, 'publicAddresses'>,
): boolean {
  for (const family of families) {
    const x = a.publicAddresses[family];
    const y = b.publicAddresses[family];
    if (x && y) return sameAddress(x, y);
  }
  return false;
}

/** The subnets as people write them: `10.5.52.0/24`, or `10.5.52.0/24 fd00:5:0:34::/64`. */
export const formatSubnets = (subnets: PerFamily<Prefix>): string => valuesOf(subnets).map(formatPrefix).join(' ');

/** The older lease first. Of two made at once, the order of their owners' ids decides, so that all nodes agree. */
export function compareSeniority(a: Pick<Lease, 'seniority' | 'ownerId'>, b: typeof a): number {
  const order = (x: string, y: string): number => (x < y ? -1 : x > y ? 1 : 0);
  return a.seniority.length - b.seniority.length || order(a.seniority, b.seniority) || order(a.ownerId, b.ownerId);
}

/** By subnet, for people: IPv4's first. */
export function compareLeases(a: Lease, b: Lease): number {
  for (const family of families) {
    const x = a.subnets[family];
    const y = b.subnets[family];
    if (x && y) return compareAddresses(x.address, y.address);
  }
  return (a.subnets[4] ? 0 : 1) - (b.subnets[4] ? 0 : 1);
}
