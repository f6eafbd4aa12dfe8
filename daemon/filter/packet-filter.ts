/**
 * Everything of weftd in the packet filter: its own tables, its rules in other programs' tables, and the connections that
 * began while masquerading was missing.
 *
 * - Own tables come first. If others change the packet filter during a look, the look is repeated at once, a few times. The
 *   events of those changes cause another look in any case.
 * - `trust`: the state of the last look counts as current. A caller that uses it receives events of changes, and then calls
 *   again without it.
 * - `keepElements`: elements that are no longer wanted stay. A later call without it removes them.
 */

import { hasCode } from '../../linux/errors.ts';
import type { NftConnection } from '../../linux/nft/connection.ts';
import { deleteTable, newTable, type TableName } from '../../linux/nft/table.ts';
import type { Sys } from '../../linux/sys.ts';
import type { Address } from '../../net/address.ts';
import type { Prefix } from '../../net/prefix.ts';
import type { Logger } from '../report/log.ts';
import type { Count } from './counts.ts';
import { FilterSession } from './filter-session.ts';
import type { ForwardOutcome, ForwardSettings } from './foreign-forward.ts';
import { ForwardKeeper } from './forward-keeper.ts';
import { LockRenewal } from './lock-renewal.ts';
import { masqueradePart } from './masquerade.ts';
import type { ElementChange, PartContent, PartFamily } from './part.ts';
import { StateJudge, type StateLook, type TunnelSample } from './state-judge.ts';
import { type LookOptions, TableKeeper } from './table-keeper.ts';
import { UnmasqueradedConnections } from './unmasqueraded.ts';

/** The desired state of the packet filter. */
export interface FilterWish {
  /** The parts' wishes. */
  readonly contents: readonly PartContent[];
  /** The packets that must pass other programs' chains; undefined: those stay untouched. */
  readonly foreign: (() => ForwardSettings) | undefined;
  /** Addresses whose connections to elsewhere are masqueraded, where that part is wanted. */
  readonly containers: readonly Prefix[];
}

export interface FilterOutcome {
  /** Own tables that were replaced, and sets whose elements others had changed. */
  readonly changes: number;
  /** Parts that were as wanted before, were changed by others, and are mended. */
  readonly mended: readonly string[];
  /** Other programs' chains, of those that were looked at. */
  readonly forward: readonly ForwardOutcome[];
  /** When to look again even without an event; infinite if there is no need. */
  readonly againMs: number;
}

export interface PacketFilterOptions {
  /** Of weftd's own tables. */
  readonly name: string;
  /** The families of all parts; inet is always one. */
  readonly families: readonly PartFamily[];
  /** Milliseconds on a clock that does not go back. */
  readonly now: () => number;
  /** The program that made the last change, for the log; undefined where it is not known. */
  readonly changedBy?: () => string | undefined;
  /** This host's own addresses. */
  readonly addresses: () => readonly Address[];
  /** How long timed sets live, which the peer lock goes by. */
  readonly lockLifeMs: number;
  /** Whether a lock that an earlier weftd has left is kept until it is known what is wanted now. */
  readonly keepLock?: boolean;
}

/** How often a change by others meanwhile leads to another look at once. */
const attempts = 4;

/**
 * The tables' name: a host in several networks has a weftd for each, and each weftd its own tables.
 * @param scope of the network, by its store; undefined for the one that hosts have as a rule
 */
export const tableName = (scope: string | undefined): string =>
  scope === undefined ? 'weft' : `weft${scope.replace(/[^A-Za-z0-9/._-]/g, '_').slice(0, 200)}`;

/** The same text for what comes to the same tables, but for their elements. */
export const formatStructure = (contents: readonly PartContent[]): string =>
  JSON.stringify(contents.map(({ name, structure }) => [name, structure]));

export class PacketFilter {
  readonly renewal: LockRenewal;
  readonly #logger: Logger;
  readonly #changedBy: () => string | undefined;
  readonly #session: FilterSession;
  readonly #keepers: readonly TableKeeper[];
  readonly #forward: ForwardKeeper;
  readonly #unmasqueraded: UnmasqueradedConnections;
  readonly #judge: StateJudge;

  constructor(sys: Sys, logger: Logger, options: PacketFilterOptions) {
    const { name, families, now, changedBy, addresses, lockLifeMs, keepLock = false } = options;
    this.#logger = logger;
    this.#changedBy = changedBy ?? (() => undefined);
    this.#session = new FilterSession(sys);
    const tables = [...new Set<PartFamily>(['inet', ...families])].map((family): TableName => ({ family, name }));
    // Tables of other families are there only if a part wants them: this kernel may not have the family.
    this.#keepers = tables.map((table) => new TableKeeper(this.#session, table, table.family === 'inet'));
    this.#forward = new ForwardKeeper(this.#session, sys, logger, {
      tableName: name,
      now,
      changedBy: () => this.#by(),
    });
    this.#judge = new StateJudge(this.#session, this.#forward.legacy, now);
    this.#unmasqueraded = new UnmasqueradedConnections(sys, logger, { now, addresses });
    this.renewal = new LockRenewal(this.#session, { tables, lifeMs: lockLifeMs, keepFormer: keepLock });
  }

  /** The author of the last change as a field of a log line. */
  #by(): { readonly by?: string } {
    const by = this.#changedBy();
    return by === undefined ? {} : { by };
  }

  /** The port by which the packet filter's events name us as their cause. */
  get port(): number | undefined {
    return this.#session.port;
  }

  /** Whether a change in a table may matter. */
  concerns(family: string, table: string): boolean {
    return (
      this.#keepers.some(({ table: own }) => own.family === family && own.name === table) ||
      this.#forward.concerns(family, table) ||
      this.#judge.concerns(family, table)
    );
  }

  /** Which rules of other programs go by the state of such packets. @throws NetlinkError, SyscallError */
  stateJudges(samples: readonly TunnelSample[], trust: boolean): StateLook {
    return this.#judge.look(samples, trust);
  }

  /** Brings everything to what is wished for, where it differs. @throws NetlinkError, SyscallError */
  ensure(wish: FilterWish, { keepElements = false, trust = false }: Partial<LookOptions> = {}): FilterOutcome {
    const { contents, foreign, containers } = wish;
    this.renewal.hold(contents);
    let changes = 0;
    const mended = new Set<string>();
    for (let attempt = 1; attempt <= attempts; attempt++) {
      const done = this.#attempt(contents, { keepElements, trust });
      changes += done.changes;
      for (const part of done.mended) mended.add(part);
      if (done.isSettled) break;
    }
    if (mended.has(masqueradePart)) this.#unmasqueraded.suspect();
    const { outcomes, againMs } = this.#forward.ensure(formatStructure(contents), foreign, trust);
    // Forget the author: that change needed no repair.
    if (!trust) this.#changedBy();
    return {
      changes,
      mended: [...mended],
      forward: outcomes,
      againMs: Math.min(againMs, this.#unmasqueraded.forget(containers)),
    };
  }

  /** `isSettled`: the tables are known to be as they should be; otherwise somebody changed something meanwhile. */
  #attempt(
    contents: readonly PartContent[],
    options: LookOptions,
  ): { readonly changes: number; readonly mended: readonly string[]; readonly isSettled: boolean } {
    const { trust } = options;
    const settled = { changes: 0, mended: [], isSettled: true };
    const wanted = this.#keepers.map((keeper) => ({ keeper, what: keeper.want(contents) }));
    if (wanted.every(({ keeper, what }) => keeper.isInOrder(what, undefined, trust))) return settled;
    return this.#session.use((nft) => {
      const generation = this.#session.generation(nft);
      const open = wanted.filter(({ keeper, what }) => !keeper.isInOrder(what, generation, trust));
      if (open.length === 0) return settled;
      const steps = open.map(({ keeper, what }) => ({ keeper, ...keeper.plan(nft, what, generation, options) }));
      for (const { keeper, touchedSets } of steps) {
        for (const set of touchedSets) {
          this.#logger.info(`packet filter set "${set}" of table "${keeper.title}" mended`, this.#by());
        }
      }
      const touched = steps.reduce((sum, { touchedSets }) => sum + touchedSets.length, 0);
      const mended = steps.flatMap(({ damaged }) => damaged);
      const requests = steps.flatMap((step) => step.requests);
      if (requests.length === 0) return { changes: touched, mended, isSettled: true };
      const replaced = steps.filter(({ because }) => because !== undefined);
      try {
        nft.transact(requests);
      } catch (error) {
        // Where elements alone were changed, somebody was there first: look again.
        if (replaced.length > 0 || !hasCode(error, 'ENOENT', 'EEXIST')) throw error;
        for (const { keeper } of steps) keeper.forget();
        return { changes: touched, mended, isSettled: false };
      }
      for (const { keeper, because } of replaced) {
        this.#logger.info(`packet filter table "${keeper.title}" set`, { because, ...this.#by() });
      }
      for (const { commit } of steps) commit(generation);
      const isSettled = this.#session.settle(nft, generation);
      const concluded = steps.map(({ conclude }) => conclude(isSettled));
      return { changes: touched + replaced.length, mended, isSettled: concluded.every((each) => each) };
    });
  }

  /**
   * Changes elements in one small transaction, however many there are, where the tables are known to be as they were
   * left.
   * @returns false where they are not: `ensure` looks
   * @throws NetlinkError, SyscallError
   */
  change(changes: readonly ElementChange[]): boolean {
    if (changes.length === 0) return true;
    return this.#session.use((nft) => {
      const steps = this.#keepers.map((keeper) =>
        keeper.planChanges(changes.filter(({ family }) => family === keeper.table.family)),
      );
      if (!steps.every((step) => step !== undefined)) return false;
      const requests = steps.flatMap((step) => step.requests);
      if (requests.length === 0) return true;
      const generation = this.#session.lastGeneration(nft);
      nft.transact(requests);
      for (const { commit } of steps) commit(generation);
      const isSettled = this.#session.settle(nft, generation);
      for (const { conclude } of steps) conclude(isSettled);
      return true;
    });
  }

  /** All changes of peers were made by `change`: the sets have what was wanted of them, with these changes. */
  followed(): void {
    for (const keeper of this.#keepers) keeper.followed();
  }

  /** The part's counters, read from the kernel now; undefined if the part is absent. */
  counters(part: string): Count | undefined {
    for (const keeper of this.#keepers) {
      const count = keeper.readCounters(part, (body: (nft: NftConnection) => void) => this.#session.use(body));
      if (count) return count;
    }
    return undefined;
  }

  /** The senders in these sets, with their packets. @throws NetlinkError, SyscallError */
  senders(sets: readonly string[]): ReturnType<NftConnection['listCounts']> {
    return this.#session.use((nft) =>
      sets.flatMap((set) => this.#keepers.flatMap((keeper) => keeper.readSenders(set, nft))),
    );
  }

  /** Removes all of it. @throws Error: some of it could not be removed */
  remove(): void {
    this.#session.use((nft) => {
      // Deleting a table that is not there fails, and with it the transaction; making one that is there does not.
      nft.transact(this.#keepers.flatMap(({ table }) => [newTable(table), deleteTable(table)]));
    });
    for (const keeper of this.#keepers) keeper.forget();
    const errors = this.#forward.remove();
    if (errors.length > 0) throw new Error(errors.map(({ message }) => message).join('; '));
  }

  close(): void {
    this.#session.close();
  }
}
