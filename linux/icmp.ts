/** ICMP echo: the packets of ping(8), RFC 792 and RFC 4443. include/uapi/linux/icmp.h, icmpv6.h */

import type { Family } from '../net/address.ts';

export const icmp = {
  IPPROTO_ICMP: 1,
  IPPROTO_ICMPV6: 58,
  ICMP_ECHO: 8,
  ICMP_ECHOREPLY: 0,
  ICMPV6_ECHO_REQUEST: 128,
  ICMPV6_ECHO_REPLY: 129,
} as const;

const types = {
  4: { request: icmp.ICMP_ECHO, reply: icmp.ICMP_ECHOREPLY },
  6: { request: icmp.ICMPV6_ECHO_REQUEST, reply: icmp.ICMPV6_ECHO_REPLY },
} as const;

/** Type, code, checksum, identifier, sequence number. */
export const echoHeaderBytes = 8;
/** Of IP headers without options. */
export const ipHeaderBytes = { 4: 20, 6: 40 } as const;

/** RFC 1071: the ones' complement of the sum of the 16-bit words. */
function checksum(bytes: Uint8Array, length: number): number {
  let sum = 0;
  for (let i = 0; i + 1 < length; i += 2) sum += (bytes[i]! << 8) | bytes[i + 1]!;
  if (length % 2 === 1) sum += bytes[length - 1]! << 8;
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return ~sum & 0xffff;
}

/** An echo request in the buffer, whose bytes after the header are its payload. The kernel fills in ICMPv6's checksum. */
export function encodeEcho(
  buffer: ArrayBuffer,
  family: Family,
  identifier: number,
  sequence: number,
  length: number,
): void {
  const view = new DataView(buffer);
  view.setUint8(0, types[family].request);
  view.setUint8(1, 0);
  view.setUint16(2, 0);
  view.setUint16(4, identifier);
  view.setUint16(6, sequence);
  if (family === 4) view.setUint16(2, checksum(new Uint8Array(buffer), length));
}

export interface EchoReply {
  readonly identifier: number;
  readonly sequence: number;
  /** A view, not a copy. */
  readonly payload: Uint8Array;
}

/** Undefined for anything that is no whole echo reply. @param hasIpHeader as raw sockets of IPv4 give them */
export function decodeEchoReply(bytes: Uint8Array, family: Family, hasIpHeader: boolean): EchoReply | undefined {
  const start = hasIpHeader ? ((bytes[0] ?? 0) & 0xf) * 4 : 0;
  if (hasIpHeader && (start < ipHeaderBytes[4] || (bytes[9] ?? 0) !== icmp.IPPROTO_ICMP)) return undefined;
  if (bytes.length < start + echoHeaderBytes) return undefined;
  if (bytes[start] !== types[family].reply || bytes[start + 1] !== 0) return undefined;
  const u16 = (at: number): number => (bytes[start + at]! << 8) | bytes[start + at + 1]!;
  return { identifier: u16(4), sequence: u16(6), payload: bytes.subarray(start + echoHeaderBytes) };
}
