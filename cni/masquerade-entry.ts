/** Shared by both back ends of masquerading. */

import type { Sys } from '../linux/sys.ts';
import type { Family } from '../net/address.ts';
import type { Prefix } from '../net/prefix.ts';
import { sha512 } from './sha512.ts';

export interface Masquerade {
  /** A container's address. */
  readonly address: Prefix;
  /** The network that the container reaches by its own address. */
  readonly network: Prefix;
}

/** Multicast is not translated: the members of a group see the container's own address. */
export const multicast: Readonly<Record<Family, string>> = { 4: '224.0.0.0/4', 6: 'ff00::/8' };

/** SHA-512, 128 hex digits. */
export const hashText = (sys: Sys, text: string): string => sha512(new Uint8Array(sys.encodeUtf8(text)));
