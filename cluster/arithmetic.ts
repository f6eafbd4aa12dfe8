/** Addresses as integers, to count through subnets. Uses the `ip-address` library. */

import { Address4, Address6 } from 'ip-address';
import type { Address, Family } from '../net/address.ts';
import { addressBits } from '../net/address.ts';

export const addressToInteger = (address: Address): bigint =>
  (address.family === 4 ? Address4 : Address6).fromByteArray(Array.from(address.bytes)).bigInt();

/** The address, or undefined if the integer is outside the family's address space. */
export function integerToAddress(family: Family, integer: bigint): Address | undefined {
  if (integer < 0n || integer >> BigInt(addressBits(family)) !== 0n) return undefined;
  const bytes =
    family === 4 ? Address4.fromBigInt(integer).toArray() : Address6.fromBigInt(integer).toUnsignedByteArray();
  // The library omits leading zeros of an IPv6 address.
  const padded = new Uint8Array(addressBits(family) / 8);
  padded.set(bytes, padded.length - bytes.length);
  return { family, bytes: padded };
}

/** The number of addresses in a subnet of that length. */
export const subnetSize = (family: Family, length: number): bigint => 1n << BigInt(addressBits(family) - length);
