/** MTU arithmetic: the overhead of each encapsulation. Each number is defined here and nowhere else. */

import type { Family } from './address.ts';

const ethernetHeaderBytes = 14;
const udpHeaderBytes = 8;
const vxlanHeaderBytes = 8;
/** RFC 2784, and the optional key of RFC 2890. */
const greHeaderBytes = 4;
const greKeyBytes = 4;
const ipHeaderBytes = { 4: 20, 6: 40 } as const;

/** Bytes that VXLAN (RFC 7348) adds to an inner IP packet, over an outer network of the family: 50 or 70. */
export const vxlanOverheadBytes = (outer: Family): number =>
  ipHeaderBytes[outer] + udpHeaderBytes + vxlanHeaderBytes + ethernetHeaderBytes;

/** Bytes that IPIP (RFC 2003) adds to an inner IPv4 packet. */
export const ipipOverheadBytes = ipHeaderBytes[4];

/** Bytes that GRE adds to an inner IP packet, over an outer network of the family: 24 or 44, and 4 for a key. */
export const greOverheadBytes = (outer: Family, hasKey: boolean): number =>
  ipHeaderBytes[outer] + greHeaderBytes + (hasKey ? greKeyBytes : 0);

/** The smallest MTU that a host may have: RFC 791 for IPv4, RFC 8200 for IPv6. */
export const minimumMtuBytes = { 4: 68, 6: 1280 } as const;

/** The largest MTU an IPv4 or IPv6 packet can make use of. */
export const maximumMtuBytes = 65535;
