/**
 * Keeps weftd's rules in other programs' tables: foreign-forward.ts for nf_tables, legacy-iptables.ts for older tables. If
 * a program removes them again and again, weftd pauses for a while and names the program.
 *
 * - Chains of nf_tables are checked when the packet filter's generation has changed, when a chain had a problem (a table
 *   disappears with its owner, without an event), and at intervals.
 * - The older tables report no changes, so they are checked at intervals.
 * - With `trust`, the last result for the same settings counts.
 */

import { hasCode, NetlinkError } from '../../linux/errors.ts';
import type { NftConnection } from '../../linux/nft/connection.ts';
import { retryRace } from '../../linux/nft/retry.ts';
import type { Sys } from '../../linux/sys.ts';
import type { Logger } from '../report/log.ts';
import { type FilterSession, type Knowledge, unknownGeneration } from './filter-session.ts';
import {
  ensureForward,
  type ForwardChain,
  type ForwardNames,
  type ForwardOutcome,
  type ForwardSettings,
  forwardNames,
  listForwardChains,
  removeForward,
} from './foreign-forward.ts';
import { LegacyIptables } from './legacy-iptables.ts';

/** How often to check the older tables, which report no changes, and whether any exist by now. */
const legacyPauseMs = 1000;
const legacyAbsentMs = 5000;
/** While another program holds their lock. */
const legacyBusyMs = 100;
/** The first and the longest pause after a failed command: a command that hangs blocks everything else. */
const legacyFirstProblemPauseMs = 5000;
const legacyLastProblemPauseMs = 60_000;

/** How often to check again a damage that cannot be repaired. */
const problemPauseMs = 10_000;

/** This many repairs of one chain in quick succession are normal on a busy host. */
const patience = 30;
const firstPauseMs = 1000;
const lastPauseMs = 60_000;
/** After this time without a repair, the next one starts a new series. */
const calmMs = 2000;

/** Repairs of a chain that another program keeps undoing. */
interface Dispute {
  readonly repairs: number;
  readonly lastMs: number;
  /** The chain is not touched before. */
  readonly untilMs: number;
}

export interface ForwardLook {
  /** Results of the chains that were checked. */
  readonly outcomes: readonly ForwardOutcome[];
  /** When to look again even without an event; infinite if there is no need. */
  readonly againMs: number;
}

export interface ForwardKeeperOptions {
  /** The name of weftd's own table. */
  readonly tableName: string;
  /** Milliseconds on a clock that does not go back. */
  readonly now: () => number;
  /** The program that made the last change, as a field of a log line. */
  readonly changedBy: () => { readonly by?: string };
}

/** Each repair is reported once. */
const withoutNews = (outcomes: readonly ForwardOutcome[]): ForwardOutcome[] =>
  outcomes.map(({ mended: _, ...rest }) => rest);

const nothing: ForwardLook = { outcomes: [], againMs: Number.POSITIVE_INFINITY };

export class ForwardKeeper {
  readonly #session: FilterSession;
  readonly #logger: Logger;
  readonly #names: ForwardNames;
  /** The older tables, as they were seen at the last look. */
  readonly legacy: LegacyIptables;
  readonly #now: () => number;
  readonly #changedBy: () => { readonly by?: string };
  readonly #disputes = new Map<string, Dispute>();
  #legacyAtMs = Number.NEGATIVE_INFINITY;
  #legacyPauseMs = legacyPauseMs;
  #legacyOutcomes: readonly ForwardOutcome[] = [];
  /** Tables with chains that see forwarded packets, at the last look. */
  #tables: ReadonlySet<string> | undefined;
  /** The state of the chains after the last look. */
  readonly #structure: Knowledge<string>;
  /** Of nf_tables' chains, and of the older tables beside them. */
  #outcomes: readonly ForwardOutcome[] = [];
  #allOutcomes: readonly ForwardOutcome[] = [];
  #dueMs = Number.POSITIVE_INFINITY;

  constructor(session: FilterSession, sys: Sys, logger: Logger, { tableName, now, changedBy }: ForwardKeeperOptions) {
    this.#session = session;
    this.#structure = session.knowledge();
    this.#logger = logger;
    this.#changedBy = changedBy;
    this.#names = forwardNames(tableName);
    this.legacy = new LegacyIptables(sys);
    this.#now = now;
  }

  /** Whether a change in this table may matter; before the first look, all may. */
  concerns(family: string, table: string): boolean {
    return this.#tables?.has(`${family} ${table}`) ?? true;
  }

  /**
   * Changes other programs' chains so that the cluster's packets pass.
   * @param structure the same text for the same settings
   * @param settings undefined: weftd's rules are removed
   */
  ensure(structure: string, settings: (() => ForwardSettings) | undefined, trust: boolean): ForwardLook {
    const nowMs = this.#now();
    const isKnown = this.#structure.value === structure;
    if (trust && isKnown) return { outcomes: this.#allOutcomes, againMs: Math.max(0, this.#dueMs - nowMs) };
    return this.#session.use((nft) => {
      if (!settings) {
        if (!isKnown) for (const error of this.#removeWith(nft)) this.#logger.warn(error.message);
        this.#structure.set(structure, unknownGeneration);
        return nothing;
      }
      const generation = this.#session.generation(nft);
      const isWell = this.#outcomes.every(({ problem }) => problem === undefined);
      const isSame = isKnown && isWell && this.#structure.isOf(generation) && nowMs < this.#dueMs;
      let made: ForwardSettings | undefined;
      const settingsNow = (): ForwardSettings => {
        made ??= settings();
        return made;
      };
      let againMs = Number.POSITIVE_INFINITY;
      let outcomes = this.#outcomes;
      if (!isSame) {
        const looked = this.#look(nft, settingsNow());
        againMs = looked.againMs;
        outcomes = looked.outcomes;
        this.#structure.set(structure, generation);
        this.#outcomes = withoutNews(outcomes);
        this.#dueMs = nowMs + againMs;
      }
      const older = this.#lookAtLegacy(settingsNow);
      outcomes = [...outcomes, ...older.outcomes];
      this.#allOutcomes = withoutNews(outcomes);
      return { outcomes, againMs: Math.min(againMs, older.againMs) };
    });
  }

  /** Checks and repairs all chains of nf_tables that see forwarded packets. */
  #look(nft: NftConnection, settings: ForwardSettings): ForwardLook {
    const chains = listForwardChains(nft);
    this.#tables = new Set(chains.map(({ table }) => `${table.family} ${table.name}`));
    const outcomes = chains.map((each) => {
      const place = `${each.table.family} ${each.table.name} ${each.chain.name}`;
      return this.#undisputed(place, () => this.#ensureOne(nft, each, place, settings));
    });
    const isWell = outcomes.every(({ problem }) => problem === undefined);
    return { outcomes, againMs: Math.min(this.#disputeMs(), isWell ? Number.POSITIVE_INFINITY : problemPauseMs) };
  }

  /** A chain that the kernel refuses to change must not stop the others. */
  #ensureOne(nft: NftConnection, each: ForwardChain, place: string, settings: ForwardSettings): ForwardOutcome {
    try {
      return this.#retried(() => ensureForward(nft, each, settings, this.#names));
    } catch (error) {
      // If the kernel's reaction is unknown, the connection is useless.
      if (!(error instanceof NetlinkError)) throw error;
      if (hasCode(error, 'ENOENT') && !nft.hasChain(each.table, each.chain.name)) return { place };
      const problem = `Cannot accept the cluster's packets in "${place}", which may drop them: ${error.message}; make it accept them itself, or run weftd with --iptables-forward-rules=false`;
      return { place, problem };
    }
  }

  /** Checks the older tables if they exist and it is time. */
  #lookAtLegacy(settings: () => ForwardSettings): ForwardLook {
    const nowMs = this.#now();
    const { presence } = this.legacy;
    if (presence !== 'here') {
      return { outcomes: [], againMs: presence === 'possible' ? legacyAbsentMs : Number.POSITIVE_INFINITY };
    }
    const dueMs = this.#legacyAtMs + this.#legacyPauseMs - nowMs;
    if (dueMs > 0) return { outcomes: this.#legacyOutcomes, againMs: dueMs };
    const found = this.legacy.ensure(settings(), this.#names);
    if (found === 'busy') return { outcomes: this.#legacyOutcomes, againMs: legacyBusyMs };
    this.#legacyAtMs = this.#now();
    if (found.every(({ problem }) => problem === undefined)) this.#legacyPauseMs = legacyPauseMs;
    else {
      const doubledMs = Math.min(legacyLastProblemPauseMs, this.#legacyPauseMs * 2);
      this.#legacyPauseMs = Math.max(legacyFirstProblemPauseMs, doubledMs);
    }
    for (const outcome of found) this.#tell(outcome, {});
    this.#legacyOutcomes = withoutNews(found);
    return { outcomes: found, againMs: this.#legacyPauseMs };
  }

  /** Removes weftd's rules from all of them. @returns the failures */
  remove(): Error[] {
    return this.#session.use((nft) => this.#removeWith(nft));
  }

  #removeWith(nft: NftConnection): Error[] {
    this.#structure.forget();
    const errors: Error[] = [];
    const attempt = (work: () => void): void => {
      try {
        work();
      } catch (error) {
        errors.push(error as Error);
      }
    };
    attempt(() => {
      for (const each of listForwardChains(nft))
        attempt(() => this.#retried(() => removeForward(nft, each, this.#names)));
    });
    attempt(() => this.legacy.remove(this.#names));
    return errors;
  }

  /** Another program may be changing the chain: then the plan's base is out of date. */
  #retried<T>(work: () => T): T {
    return retryRace(work, 'ENOENT', 'EEXIST', 'EBUSY');
  }

  #tell({ place, mended }: ForwardOutcome, by = this.#changedBy()): void {
    if (mended !== undefined) {
      this.#logger.info(`the cluster's packets are accepted in "${place}"`, { because: mended, ...by });
    }
  }

  #undisputed(place: string, work: () => ForwardOutcome): ForwardOutcome {
    const nowMs = this.#now();
    const before = this.#disputes.get(place);
    if (before && nowMs < before.untilMs) {
      const problem = `Another program keeps undoing weftd's rules in "${place}", so that the cluster's packets may be dropped there: make it accept them itself, or run weftd with --iptables-forward-rules=false`;
      return { place, problem };
    }
    const outcome = work();
    if (outcome.mended === undefined) return outcome;
    this.#tell(outcome);
    const repairs = before && nowMs - before.lastMs < calmMs + before.untilMs - before.lastMs ? before.repairs + 1 : 1;
    const pauseMs = repairs > patience ? Math.min(lastPauseMs, firstPauseMs * 2 ** (repairs - patience - 1)) : 0;
    this.#disputes.set(place, { repairs, lastMs: nowMs, untilMs: nowMs + pauseMs });
    return outcome;
  }

  #disputeMs(): number {
    const nowMs = this.#now();
    const waits = [...this.#disputes.values()].map(({ untilMs }) => untilMs - nowMs).filter((ms) => ms > 0);
    return Math.min(Number.POSITIVE_INFINITY, ...waits);
  }
}
