/** The addresses that a peer can have. A lease may contain any address; the kernel or the network must never get some of them. */

import { type Address, isLinkLocal, isMulticast, isUnspecified, sameAddress } from '../net/address.ts';

/** What keeps an address from being any host's: RFC 1122 (3.2.1.3), RFC 1112, RFC 4291. */
function kindOf(address: Address): string | undefined {
  const { family, bytes } = address;
  if (isMulticast(address)) return 'a multicast address';
  if (family === 6) {
    if (isUnspecified(address)) return 'the unspecified address';
    const isLoopback = bytes[15] === 1 && bytes.subarray(0, 15).every((byte) => byte === 0);
    return isLoopback ? 'the loopback address' : undefined;
  }
  if (bytes[0] === 127) return 'a loopback address';
  if (bytes[0] === 0) return 'an address of "this network", 0.0.0.0/8';
  if (bytes.every((byte) => byte === 255)) return 'the broadcast address';
  return bytes[0]! >= 240 ? 'a reserved address, of 240.0.0.0/4' : undefined;
}

/**
 * Why no peer can have the public address; undefined if one can.
 * @param own the addresses by which peers reach this host. A link-local peer makes sense only if one of them is link-local
 */
export function peerAddressProblem(address: Address, own: readonly (Address | undefined)[]): string | undefined {
  if (own.some((each) => each && sameAddress(each, address))) return "is this host's own";
  const kind = kindOf(address);
  if (kind !== undefined) return `is ${kind}, which no host can have`;
  const isNear = (each: Address | undefined): boolean => each?.family === address.family && isLinkLocal(each);
  return isLinkLocal(address) && !own.some(isNear)
    ? 'is link-local, and this host has no such public address'
    : undefined;
}
