/** Capabilities of this process, capabilities(7). */

import { readText } from './files.ts';
import type { Sys } from './sys.ts';

/** include/uapi/linux/capability.h: the right to change the network */
export const CAP_NET_ADMIN = 12;

/** Whether the capability is in effect, by `CapEff` of proc(5). */
export function hasCapability(sys: Sys, capability: number): boolean {
  const match = /^CapEff:\s*([0-9a-f]+)$/m.exec(readText(sys, '/proc/self/status') ?? '');
  return match !== null && ((BigInt(`0x${match[1]}`) >> BigInt(capability)) & 1n) === 1n;
}
