/**
 * Renews timed sets: the peer lock holds while weftd lives, and a moment longer (see peer-lock.ts). Its rules depend on an
 * element that the kernel removes unless it is added again in time.
 *
 * - Renewal does not depend on knowledge of the table: a fault elsewhere must not open the lock.
 * - Until the desired state is known, an earlier weftd's lock is kept closed if it has not opened yet: etcd may be
 *   unreachable for longer than the lock lives.
 * - An open lock stays open until the next look at the packet filter: a program in weftd's place may know other peers.
 */

import type { NetlinkRequest } from '../../linux/netlink/connection.ts';
import { deleteElements, type NftElement, newElements, type TableName } from '../../linux/nft/table.ts';
import type { FilterSession } from './filter-session.ts';
import type { PartContent } from './part.ts';

/** The first renewal comes soon: an earlier weftd's lock may expire soon, and etcd may be unreachable. */
const firstMs = 1000;

type RenewalSession = Pick<FilterSession, 'use' | 'generation' | 'settle'>;

interface TimedElements {
  readonly table: TableName;
  readonly set: string;
  readonly elements: readonly NftElement[];
}

/** Renews the elements for their whole time, in one transaction. */
function renewElements({ table, set, elements }: TimedElements): NetlinkRequest[] {
  // The first request adds elements that have expired; the last one restarts their time.
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
      return sets.flatMap(({ name, timeoutMs, dynamicSize, elements }) =>
        timeoutMs === undefined || dynamicSize !== undefined ? [] : [{ table, set: name, elements: elements() }],
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
          return sets.flatMap(({ name, timeoutMs, dynamicSize, elements }) =>
            timeoutMs === undefined || dynamicSize !== undefined ? [] : [{ table, set: name, elements }],
          );
        });
      const requests = timed.flatMap(renewElements);
      if (requests.length === 0) return;
      nft.transact(requests);
      this.#session.settle(nft, generation);
    });
  }
}
