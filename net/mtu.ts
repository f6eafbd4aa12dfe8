/** MTU arithmetic: the overhead of each encapsulation. Each number is defined here and nowhere else. */

import type { Family } from './address.ts';

const ethernetHeaderBytes = 14;
const udpHeaderBytes = 8;
const vxlanHeaderBytes = 8;
const ipHeaderBytes = { 4: 20, 6: 40 } as const;

/** Bytes that VXLAN (RFC 7348) adds to an inner IP packet, over an outer network of the family: 50 or 70. */
export const vxlanOverheadBytes = (outer: Family): number =>
  ipHeaderBytes[outer] + udpHeaderBytes + vxlanHeaderBytes + ethernetHeaderBytes;

/** The smallest MTU that a host may have: RFC 791 for IPv4, RFC 8200 for IPv6. */
export const minimumMtuBytes = { 4: 68, 6: 1280 } as const;

/** The largest MTU an IPv4 or IPv6 packet can make use of. */
export const maximumMtuBytes = 65535;
