/**
 * Keeps timed sets alive: the peer lock holds for as long as weftd lives, and a moment longer (see peer-lock.ts), as its
 * rules go by an element that the kernel drops unless it is added again in time.
 *
 * - Renewal does not depend on what is known of the table: a fault elsewhere must not open the lock.
 * - Until it is known what is wanted now, the lock of an earlier weftd is kept closed, where there is one that has not
 *   opened yet. Etcd may be away for longer than the lock lives.
 * - One that has opened stays so until the next look at the packet filter: whoever is in weftd's place may know of other
 *   peers.
 */

import type { NetlinkRequest } from '../../linux/netlink/connection.ts';
import { deleteElements, type NftElement, newElements, type TableName } from '../../linux/nft/table.ts';
import type { FilterSession } from './filter-session.ts';
import type { PartContent } from './part.ts';

/** The first renewal comes soon: the lock of an earlier weftd may not hold for much longer, and etcd may be away. */
const firstMs = 1000;

type RenewalSession = Pick<FilterSession, 'use' | 'generation' | 'settle'>;

interface TimedElements {
  readonly table: TableName;
  readonly set: string;
  readonly elements: readonly NftElement[];
}

/** Makes the elements live for their whole time again, in one transaction. */
function renewElements({ table, set, elements }: TimedElements): NetlinkRequest[] {
  // Whether they are there still or not: after the first request they are, and from the last on their time begins anew.
  return [
    ...newElements(table, set, elements),
    ...deleteElements(table, set, elements),
    ...newElements(table, set, elements),
  ];
}

export interface LockRenewalOptions {
  readonly tables: readonly TableName[];
  /** How long the lock lives unless it is renewed. */
  readonly lifeMs: number;
  /** Whether a lock that an earlier weftd has left is kept until it is known what is wanted now. */
  readonly keepFormer: boolean;
}

export class LockRenewal {
  readonly firstMs: number;
  readonly everyMs: number;
  readonly #session: RenewalSession;
  readonly #tables: readonly TableName[];
  /** Undefined: it is not known yet what is wanted. */
  #held: readonly TimedElements[] | undefined;
  readonly #keepsFormer: boolean;

  constructor(session: RenewalSession, { tables, lifeMs, keepFormer }: LockRenewalOptions) {
    this.#session = session;
    this.#tables = tables;
    this.#keepsFormer = keepFormer;
    this.everyMs = lifeMs / 3;
    this.firstMs = Math.min(firstMs, this.everyMs);
  }

  /** From here on it is these parts' timed sets. */
  hold(contents: readonly PartContent[]): void {
    this.#held = contents.flatMap(({ family, sets }) => {
      const table = this.#tables.find((each) => each.family === family);
      if (!table) return [];
      return sets.flatMap(({ name, timeoutMs, elements }) =>
        timeoutMs === undefined ? [] : [{ table, set: name, elements: elements() }],
      );
    });
  }

  /** @throws NetlinkError: somebody has taken it away, which a look at the packet filter mends */
  run(): void {
    const held = this.#held;
    if (held?.length === 0 || (!held && !this.#keepsFormer)) return;
    this.#session.use((nft) => {
      const generation = this.#session.generation(nft);
      const timed =
        held ??
        this.#tables.flatMap((table) => {
          const sets = nft.readTable(table)?.sets ?? [];
          return sets.flatMap(({ name, timeoutMs, elements }) =>
            timeoutMs === undefined ? [] : [{ table, set: name, elements }],
          );
        });
      const requests = timed.flatMap(renewElements);
      if (requests.length === 0) return;
      nft.transact(requests);
      this.#session.settle(nft, generation);
    });
  }
}
