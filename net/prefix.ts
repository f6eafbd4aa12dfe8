/** Prefixes (CIDR): an address with a prefix length. Host bits may be set; `networkOf` clears them. */

import {
  type Address,
  addressBits,
  addressKey,
  type Family,
  formatAddress,
  parseAddress,
  unspecifiedAddress,
} from './address.ts';

export interface Prefix {
  readonly address: Address;
  /** Prefix length in bits, 0–32 or 0–128. */
  readonly length: number;
}

/** Parses `address/length`; undefined if the text is no prefix. */
export function parsePrefix(text: string): Prefix | undefined {
  const slash = text.indexOf('/');
  if (slash < 0) return undefined;
  const address = parseAddress(text.slice(0, slash));
  const lengthText = text.slice(slash + 1);
  if (!address || !/^(0|[1-9][0-9]{0,2})$/.test(lengthText)) return undefined;
  const length = +lengthText;
  return length <= addressBits(address.family) ? { address, length } : undefined;
}

export const formatPrefix = (prefix: Prefix): string => `${formatAddress(prefix.address)}/${prefix.length}`;

/** Sets the bits after the prefix to `bit`. */
function fillHostBits(prefix: Prefix, bit: 0 | 1): Address {
  const bytes = prefix.address.bytes.slice();
  for (let i = 0; i < bytes.length; i++) {
    const kept = Math.min(8, Math.max(0, prefix.length - i * 8));
    const hostMask = 0xff >> kept;
    bytes[i] = bit === 0 ? bytes[i]! & ~hostMask : bytes[i]! | hostMask;
  }
  return { family: prefix.address.family, bytes };
}

/** The prefix with its host bits cleared. */
export const networkOf = (prefix: Prefix): Prefix =>
  hasHostBits(prefix) ? { address: fillHostBits(prefix, 0), length: prefix.length } : prefix;

/** The last address of the prefix: the broadcast address of an IPv4 subnet. */
export const lastAddressOf = (prefix: Prefix): Address => fillHostBits(prefix, 1);

export function hasHostBits({ address: { bytes }, length }: Prefix): boolean {
  for (let i = length >> 3; i < bytes.length; i++) {
    if ((bytes[i]! & (i === length >> 3 ? 0xff >> (length & 7) : 0xff)) !== 0) return true;
  }
  return false;
}

export function prefixContains(prefix: Prefix, address: Address): boolean {
  if (prefix.address.family !== address.family) return false;
  const a = prefix.address.bytes;
  const b = address.bytes;
  const whole = prefix.length >> 3;
  for (let i = 0; i < whole; i++) if (a[i] !== b[i]) return false;
  const rest = prefix.length & 7;
  return rest === 0 || (a[whole]! ^ b[whole]!) >> (8 - rest) === 0;
}

/** Whether one of the two contains the other (prefixes either nest or are disjoint). */
export const prefixesOverlap = (a: Prefix, b: Prefix): boolean =>
  a.length <= b.length ? prefixContains(a, b.address) : prefixContains(b, a.address);

/** The key of a network in a Map. It costs less than formatting the prefix. Host bits must be clear. */
export function networkKey({ address, length }: Prefix): number | string {
  const key = addressKey(address);
  // Exact: 32 bits and 6.
  return typeof key === 'number' ? key * 64 + length : key + String.fromCharCode(length);
}

/** Same family, length and network. */
export const samePrefix = (a: Prefix, b: Prefix): boolean => a.length === b.length && prefixContains(a, b.address);

/** The prefix of one address: /32 or /128. */
export const hostPrefix = (address: Address): Prefix => ({ address, length: addressBits(address.family) });

/** 0.0.0.0/0 or ::/0. */
export const defaultPrefix = (family: Family): Prefix => ({ address: unspecifiedAddress(family), length: 0 });
