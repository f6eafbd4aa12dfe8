/** Captured netlink datagrams: the files in test/fixtures/netlink, which `capture.ts` there makes. */

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { messageHeaderBytes, type NetlinkMessage } from '../../linux/netlink/wire.ts';
import { decodeMessages } from './netlink-messages.ts';

/** The datagrams of a fixture, in the order in which they were seen. */
export function readDatagrams(name: string): Uint8Array[] {
  const text = readFileSync(join(import.meta.dirname, '../fixtures/netlink', `${name}.hex`), 'utf8');
  return text
    .replace(/^#.*\n/gm, '')
    .split(/\n\s*\n/)
    .map((block) => block.trim())
    .filter((block) => block !== '')
    .map((block) => Uint8Array.from(block.split(/\s+/), (byte) => parseInt(byte, 16)));
}

/** The messages of a fixture, without those of netlink's own (NLMSG_DONE, …). */
export const readMessages = (name: string): NetlinkMessage[] =>
  readDatagrams(name)
    .flatMap(decodeMessages)
    .filter(({ type }) => type >= messageHeaderBytes);
