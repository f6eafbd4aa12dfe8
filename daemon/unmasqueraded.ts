/**
 * Connections that began while somebody had taken the masquerading rules away. What a connection's first packet met holds
 * for all of it: it would go on leaving with a container's address, which no answer finds back to, for as long as it is
 * tried. Forgotten by the kernel, its next packet is a first one.
 */

import { type Connection, deleteConnection, dumpUntranslated } from '../linux/conntrack.ts';
import { hasCode } from '../linux/errors.ts';
import { openNetlink, socket } from '../linux/netlink/connection.ts';
import type { Sys } from '../linux/sys.ts';
import { type Address, type Family, isMulticast, sameAddress } from '../net/address.ts';
import { type Prefix, prefixContains } from '../net/prefix.ts';

/** Whether it should have been masqueraded. */
export function isUnmasqueraded(
  { original, reply, isSourceTranslated }: Pick<Connection, 'original' | 'reply' | 'isSourceTranslated'>,
  containers: readonly Prefix[],
  hostAddresses: readonly Address[],
): boolean {
  const isIn = (address: Address): boolean => containers.some((prefix) => prefixContains(prefix, address));
  return (
    !isSourceTranslated &&
    isIn(original.source) &&
    // Whom the packets really get to: a service's address has been translated.
    !isIn(reply.source) &&
    !isMulticast(reply.source) &&
    sameAddress(reply.destination, original.source) &&
    !hostAddresses.some((own) => sameAddress(own, reply.source))
  );
}

/**
 * @param containers the networks whose packets are masqueraded
 * @returns how many were forgotten
 */
export function forgetUnmasqueraded(
  sys: Sys,
  containers: readonly Prefix[],
  hostAddresses: readonly Address[],
): number {
  const connection = openNetlink(sys, { protocol: socket.NETLINK_NETFILTER });
  try {
    const families = new Set<Family>(containers.map(({ address }) => address.family));
    const found = [...families].flatMap((family) =>
      connection.dump(dumpUntranslated(family, (each) => isUnmasqueraded(each, containers, hostAddresses))),
    );
    const errors = connection.executeEach(found.map(deleteConnection));
    for (const error of errors) if (error && !hasCode(error, 'ENOENT')) throw error;
    return found.length;
  } finally {
    connection.close();
  }
}
