/**
 * IP addresses as bytes: one code path for IPv4 and IPv6, the family is a value.
 *
 * ADD uses this parser. It is our own, because loading a library would cost an ADD more than all its parsing.
 * `test/unit/net/address.test.ts` compares it with the `ip-address` library. Text follows RFC 4291 and RFC 5952.
 */

export type Family = 4 | 6;

/** Both, in the order in which they are shown and used. */
export const families = [4, 6] as const satisfies readonly Family[];

/** An IPv4 (4 bytes) or IPv6 (16 bytes) address in network byte order. Treated as immutable. */
export interface Address {
  readonly family: Family;
  readonly bytes: Uint8Array;
}

const byteLength = (family: Family): number => (family === 4 ? 4 : 16);

/** The number of bits of an address of the family: 32 or 128. */
export const addressBits = (family: Family): number => byteLength(family) * 8;

/** `.`, counted from `0`. */
const dot = -2;

/** Character by character: weftd reads thousands of addresses, and texts cut out of this one would be as many more. */
function parseIPv4Bytes(text: string): Uint8Array | undefined {
  const bytes = new Uint8Array(4);
  let at = 0;
  let part = -1;
  for (let i = 0; i < text.length; i++) {
    const digit = text.charCodeAt(i) - 0x30;
    if (digit === dot) {
      if (part < 0 || at === 3) return undefined;
      bytes[at++] = part;
      part = -1;
    } else {
      // A leading zero is refused: some parsers read it as octal (CVE-2021-29923).
      if (digit < 0 || digit > 9 || part === 0) return undefined;
      part = part < 0 ? digit : part * 10 + digit;
      if (part > 255) return undefined;
    }
  }
  if (part < 0 || at !== 3) return undefined;
  bytes[3] = part;
  return bytes;
}

function parseGroups(text: string): number[] | undefined {
  if (text === '') return [];
  const groups: number[] = [];
  const parts = text.split(':');
  for (let i = 0; i < parts.length; i++) {
    const part = parts[i]!;
    if (i === parts.length - 1 && part.includes('.')) {
      const v4 = parseIPv4Bytes(part);
      if (!v4) return undefined;
      groups.push((v4[0]! << 8) | v4[1]!, (v4[2]! << 8) | v4[3]!);
    } else if (/^[0-9a-fA-F]{1,4}$/.test(part)) {
      groups.push(parseInt(part, 16));
    } else {
      return undefined;
    }
  }
  return groups;
}

function parseIPv6Bytes(text: string): Uint8Array | undefined {
  const gap = text.indexOf('::');
  const head = parseGroups(gap < 0 ? text : text.slice(0, gap));
  const tail = gap < 0 ? [] : parseGroups(text.slice(gap + 2));
  if (!head || !tail) return undefined;
  // A dotted quad is allowed at the very end only.
  if (gap >= 0 && text.slice(0, gap).includes('.')) return undefined;
  const given = head.length + tail.length;
  if (gap < 0 ? given !== 8 : given > 7) return undefined;
  const bytes = new Uint8Array(16);
  head.forEach((group, i) => {
    bytes[i * 2] = group >> 8;
    bytes[i * 2 + 1] = group & 255;
  });
  tail.forEach((group, i) => {
    const at = 16 - (tail.length - i) * 2;
    bytes[at] = group >> 8;
    bytes[at + 1] = group & 255;
  });
  return bytes;
}

const isIPv4Mapped = (b: Uint8Array): boolean =>
  b.subarray(0, 10).every((byte) => byte === 0) && b[10] === 255 && b[11] === 255;

/**
 * Parses an address; undefined if `text` is none. No zone, no prefix length, no white space. An IPv4-mapped IPv6
 * address (`::ffff:10.0.0.1`) is the IPv4 address, as Go's net.ParseIP has it.
 */
export function parseAddress(text: string): Address | undefined {
  if (!text.includes(':')) {
    const bytes = parseIPv4Bytes(text);
    return bytes && { family: 4, bytes };
  }
  const bytes = parseIPv6Bytes(text);
  if (!bytes) return undefined;
  return isIPv4Mapped(bytes) ? { family: 4, bytes: bytes.slice(12) } : { family: 6, bytes };
}

/** The canonical text: dotted quad, or RFC 5952 (lower case, longest run of zero groups as `::`). */
export function formatAddress(address: Address): string {
  const b = address.bytes;
  if (address.family === 4) return `${b[0]}.${b[1]}.${b[2]}.${b[3]}`;
  const groups: number[] = [];
  for (let i = 0; i < 16; i += 2) groups.push((b[i]! << 8) | b[i + 1]!);
  let gapStart = -1;
  let gapLength = 1; // a single zero group is not shortened (RFC 5952, 4.2.2)
  for (let i = 0; i < 8; i++) {
    let run = 0;
    while (i + run < 8 && groups[i + run] === 0) run++;
    if (run > gapLength) {
      gapStart = i;
      gapLength = run;
    }
  }
  const hex = (part: number[]): string => part.map((group) => group.toString(16)).join(':');
  if (gapStart < 0) return hex(groups);
  return `${hex(groups.slice(0, gapStart))}::${hex(groups.slice(gapStart + gapLength))}`;
}

/** Orders by family, then numerically: negative, zero or positive. */
export function compareAddresses(a: Address, b: Address): number {
  if (a.family !== b.family) return a.family - b.family;
  for (let i = 0; i < a.bytes.length; i++) {
    const difference = a.bytes[i]! - b.bytes[i]!;
    if (difference !== 0) return difference;
  }
  return 0;
}

export const sameAddress = (a: Address, b: Address): boolean => a === b || compareAddresses(a, b) === 0;

/** The key of an address in a Map: a number for IPv4, a text for IPv6. It costs less than formatting the address. */
export function addressKey({ family, bytes: b }: Address): number | string {
  if (family === 4) return ((b[0]! << 24) | (b[1]! << 16) | (b[2]! << 8) | b[3]!) >>> 0;
  let key = '';
  for (let i = 0; i < 16; i += 2) key += String.fromCharCode((b[i]! << 8) | b[i + 1]!);
  return key;
}

/**
 * The address `offset` steps on (back when negative; |offset| ≤ 2^53 − 1), or undefined if that leaves the family's
 * address space.
 */
export function offsetAddress(address: Address, offset: number): Address | undefined {
  const bytes = address.bytes.slice();
  let carry = offset;
  for (let i = bytes.length - 1; i >= 0 && carry !== 0; i--) {
    const sum = bytes[i]! + carry;
    carry = Math.floor(sum / 256);
    bytes[i] = sum - carry * 256;
  }
  return carry === 0 ? { family: address.family, bytes } : undefined;
}

/** 224.0.0.0/4 or ff00::/8. */
export const isMulticast = (address: Address): boolean =>
  address.family === 4 ? (address.bytes[0]! & 0xf0) === 0xe0 : address.bytes[0] === 0xff;

/** 169.254.0.0/16 or fe80::/10. */
export const isLinkLocal = (address: Address): boolean =>
  address.family === 4
    ? address.bytes[0] === 169 && address.bytes[1] === 254
    : address.bytes[0] === 0xfe && (address.bytes[1]! & 0xc0) === 0x80;

/** 0.0.0.0 or `::`. */
export const isUnspecified = (address: Address): boolean => address.bytes.every((byte) => byte === 0);

/** The all-zero address of the family. */
export const unspecifiedAddress = (family: Family): Address => ({ family, bytes: new Uint8Array(byteLength(family)) });
