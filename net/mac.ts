/** Ethernet addresses: six bytes, `02:00:5e:10:00:01` as text. */

export type Mac = Uint8Array;

/**
 * Accepts the forms of Go's net.ParseMAC, which the reference plugins use: `02:00:5e:10:00:01`, `02-00-5e-10-00-01`,
 * `0200.5e10.0001`. Undefined for anything else.
 */
export function parseMac(text: string): Mac | undefined {
  if (!/^(?:[0-9a-f]{2}([:-])(?:[0-9a-f]{2}\1){4}[0-9a-f]{2}|(?:[0-9a-f]{4}\.){2}[0-9a-f]{4})$/i.test(text))
    return undefined;
  return Uint8Array.from(text.match(/[0-9a-f]{2}/gi)!, (pair) => parseInt(pair, 16));
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
