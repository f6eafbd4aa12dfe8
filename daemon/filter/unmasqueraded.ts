/**
 * Connections that began while somebody had taken the masquerading rules away. What a connection's first packet met holds
 * for all of it: it would go on leaving with a container's address, which no answer finds back to, for as long as it is
 * tried. Forgotten by the kernel, its next packet is a first one.
 */

import { type Connection, deleteConnection, dumpUntranslated } from '../../linux/conntrack.ts';
import { hasCode } from '../../linux/errors.ts';
import { openNetlink, socket } from '../../linux/netlink/connection.ts';
import type { Sys } from '../../linux/sys.ts';
import { type Address, type Family, isMulticast, sameAddress } from '../../net/address.ts';
import { type Prefix, prefixContains } from '../../net/prefix.ts';

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

/** weftd does nothing else meanwhile. */
export const forgetLimits = {
  /** Of a family: how long its connections are listed, and how many are forgotten. */
  lookMs: 300,
  connections: 10_000,
} as const;

/** A list is left before its end. */
class EnoughError extends Error {
  override readonly name = 'EnoughError';
}

function findUnmasqueraded(
  sys: Sys,
  family: Family,
  isWanted: (connection: Connection) => boolean,
  isEnough: (found: number) => boolean,
): { readonly found: readonly Connection[]; readonly isWhole: boolean } {
  const found: Connection[] = [];
  const wanted = (each: Connection): boolean => {
    if (isEnough(found.length)) throw new EnoughError();
    if (isWanted(each)) found.push(each);
    return false;
  };
  // Its own: one whose list was left before the end is of no more use.
  const connection = openNetlink(sys, { protocol: socket.NETLINK_NETFILTER });
  try {
    connection.dump(dumpUntranslated(family, wanted));
    return { found, isWhole: true };
  } catch (error) {
    if (!(error instanceof EnoughError)) throw error;
    return { found, isWhole: false };
  } finally {
    connection.close();
  }
}

/**
 * @param containers the networks whose packets are masqueraded
 * @param now milliseconds on a clock that does not go back
 * @returns how many were forgotten, and whether all of the host's connections were looked at
 */
export function forgetUnmasqueraded(
  sys: Sys,
  containers: readonly Prefix[],
  hostAddresses: readonly Address[],
  now: () => number,
  { lookMs, connections }: { readonly lookMs: number; readonly connections: number } = forgetLimits,
): { readonly forgotten: number; readonly isWhole: boolean } {
  const looks = [...new Set<Family>(containers.map(({ address }) => address.family))].map((family) => {
    const startMs = now();
    return findUnmasqueraded(
      sys,
      family,
      (each) => isUnmasqueraded(each, containers, hostAddresses),
      (found) => found >= connections || now() - startMs > lookMs,
    );
  });
  const found = looks.flatMap((look) => look.found);
  const isWhole = looks.every((look) => look.isWhole);
  if (found.length === 0) return { forgotten: 0, isWhole };
  const connection = openNetlink(sys, { protocol: socket.NETLINK_NETFILTER });
  try {
    const errors = connection.executeEach(found.map(deleteConnection));
    for (const error of errors) if (error && !hasCode(error, 'ENOENT')) throw error;
    return { forgotten: found.length, isWhole };
  } finally {
    connection.close();
  }
}
