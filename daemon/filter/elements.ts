/**
 * The elements of a set by their bytes. There may be thousands: an IPv4 address is a number, other bytes are a text, and the bytes
 * themselves are made again when they are needed.
 */

import type { NftElement } from '../../linux/nft/table.ts';

type Key = number | string;

/** All of one length. */
export type Elements = Set<Key>;

export function keyOf(bytes: Uint8Array): Key {
  const { length } = bytes;
  if (length === 4) return ((bytes[0]! << 24) | (bytes[1]! << 16) | (bytes[2]! << 8) | bytes[3]!) >>> 0;
  return String.fromCharCode(...bytes);
}

export function bytesOf(key: Key): Uint8Array {
  if (typeof key === 'number') return Uint8Array.of(key >>> 24, key >>> 16, key >>> 8, key);
  const bytes = new Uint8Array(key.length);
  for (let i = 0; i < bytes.length; i++) bytes[i] = key.charCodeAt(i);
  return bytes;
}

export function elementsOf(elements: readonly NftElement[]): Elements {
  const found: Elements = new Set();
  // Only sets of intervals contain prefixes, and parts have none.
  for (const element of elements) if (element instanceof Uint8Array) found.add(keyOf(element));
  return found;
}

/** Those that the others lack. */
export function without(some: Elements, others: Elements): Uint8Array[] {
  const found: Uint8Array[] = [];
  for (const key of some) if (!others.has(key)) found.push(bytesOf(key));
  return found;
}
