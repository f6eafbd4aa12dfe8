/** Ethernet addresses: six bytes, `02:00:5e:10:00:01` as text. */

export type Mac = Uint8Array;

/** Of a text that contains no others than these and separators: `-`, `.` and `:`. */
const isHexDigit = (code: number): boolean => code >= 0x30 && code !== 0x3a;

/**
 * Accepts the forms of Go's net.ParseMAC, which the reference plugins use: `02:00:5e:10:00:01`, `02-00-5e-10-00-01`,
 * `0200.5e10.0001`. Undefined for anything else.
 */
export function parseMac(text: string): Mac | undefined {
  if (!/^(?:[0-9a-f]{2}([:-])(?:[0-9a-f]{2}\1){4}[0-9a-f]{2}|(?:[0-9a-f]{4}\.){2}[0-9a-f]{4})$/i.test(text))
    return undefined;
  const mac = new Uint8Array(6);
  let digits = 0;
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i);
    if (!isHexDigit(code)) continue;
    // Letters of both cases end in 1 to 6.
    const digit = code <= 0x39 ? code - 0x30 : (code & 7) + 9;
    mac[digits >> 1]! |= digits % 2 === 0 ? digit << 4 : digit;
    digits++;
  }
  return mac;
}

export const formatMac = (mac: Mac): string => Array.from(mac, (byte) => byte.toString(16).padStart(2, '0')).join(':');

export function sameMac(a: Mac, b: Mac): boolean {
  if (a.length !== b.length) return false;
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false;
  return true;
}

/** The key of a MAC in a Map. It costs less than formatting the MAC. */
export function macKey(mac: Mac): number {
  let key = 0;
  for (let i = 0; i < mac.length; i++) key = key * 256 + mac[i]!;
  return key;
}

/** A unicast, locally administered address (IEEE 802, bits 0 and 1 of the first byte) from six random bytes. */
export function localMac(randomBytes: Uint8Array): Mac {
  const mac = randomBytes.slice(0, 6);
  mac[0] = (mac[0]! & 0xfc) | 0x02;
  return mac;
}

/** Whether an interface can have this MAC: it is neither multicast nor all zero. */
export const isUnicastMac = (mac: Mac): boolean => (mac[0]! & 1) === 0 && mac.some((byte) => byte !== 0);
