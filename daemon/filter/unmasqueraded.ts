/**
 * Connections that began while the masquerading rules were missing. The kernel decides about masquerading at a connection's
 * first packet. Such a connection would keep a container's source address, and answers would never arrive. weftd makes the
 * kernel forget the connection, so that its next packet counts as a first one.
 */

import { type Connection, deleteConnection, dumpUntranslated } from '../../linux/conntrack.ts';
import { hasCode } from '../../linux/errors.ts';
import { openNetlink, socket } from '../../linux/netlink/connection.ts';
import type { Sys } from '../../linux/sys.ts';
import { type Address, type Family, isMulticast, sameAddress } from '../../net/address.ts';
import { type Prefix, prefixContains } from '../../net/prefix.ts';
import type { Logger } from '../report/log.ts';

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
    // The real destination: a service's address has been translated.
    !isIn(reply.source) &&
    !isMulticast(reply.source) &&
    sameAddress(reply.destination, original.source) &&
    !hostAddresses.some((own) => sameAddress(own, reply.source))
  );
}

/** weftd is blocked meanwhile. */
export const forgetLimits = {
  /** Per family: how long to list its connections, and how many to forget. */
  lookMs: 300,
  connections: 10_000,
} as const;

/** A list was left before its end. */
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
  // A connection of its own: after an unfinished list it is useless.
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
 * @returns how many were forgotten, and whether all of the host's connections were checked
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

/** Listing all connections of a host may take long: so not at every change of a busy program. */
const pauseMs = 5000;

export interface UnmasqueradedOptions {
  /** Milliseconds on a clock that does not go back. */
  readonly now: () => number;
  /** This host's own addresses. */
  readonly addresses: () => readonly Address[];
}

/** When to look for such connections: once after each time that the rules were missing. */
export class UnmasqueradedConnections {
  readonly #sys: Sys;
  readonly #logger: Logger;
  readonly #options: UnmasqueradedOptions;
  #mayExist = false;
  #lookedAtMs = Number.NEGATIVE_INFINITY;

  constructor(sys: Sys, logger: Logger, options: UnmasqueradedOptions) {
    this.#sys = sys;
    this.#logger = logger;
    this.#options = options;
  }

  /** The rules were missing for a while, and are back. */
  suspect(): void {
    this.#mayExist = true;
  }

  /**
   * Makes the kernel forget them, if there may be any and it is time.
   * @param containers the networks whose packets are masqueraded
   * @returns when to call it again; infinite if there is no need
   */
  forget(containers: readonly Prefix[]): number {
    if (!this.#mayExist) return Number.POSITIVE_INFINITY;
    const { now, addresses } = this.#options;
    const waitMs = this.#lookedAtMs + pauseMs - now();
    if (waitMs > 0) return waitMs;
    this.#mayExist = false;
    this.#lookedAtMs = now();
    try {
      const { forgotten, isWhole } = forgetUnmasqueraded(this.#sys, containers, addresses(), now);
      if (forgotten > 0) {
        this.#logger.info('connections that began without masquerading were reset', { connections: forgotten });
      }
      // The found ones are gone: the next look gets further.
      this.#mayExist = !isWhole && forgotten > 0;
      if (this.#mayExist) return pauseMs;
      if (!isWhole) {
        this.#logger.warn(
          'This host has too many connections to find all that began without masquerading; some may stay unmasqueraded',
        );
      }
    } catch (error) {
      this.#logger.warn(`${(error as Error).message}; those that began without masquerading stay unmasqueraded`);
    }
    return Number.POSITIVE_INFINITY;
  }
}
