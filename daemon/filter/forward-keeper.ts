/**
 * Looks after weftd's rules among those of others: foreign-forward.ts for nf_tables, legacy-iptables.ts for what is
 * older. Whoever takes them away again and again is given in to for a while, and named.
 */

import { hasCode, NetlinkError } from '../../linux/errors.ts';
import type { NftConnection } from '../../linux/nft/connection.ts';
import { retryRace } from '../../linux/nft/retry.ts';
import type { Sys } from '../../linux/sys.ts';
import type { Logger } from '../report/log.ts';
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

/** How often the older tables, which tell nobody of changes, are asked; and whether there are any by now. */
const legacyPauseMs = 1000;
const legacyAbsentMs = 5000;
/** While another program has them to itself. */
const legacyBusyMs = 100;
/** The first and the longest pause while they cannot be looked after: a command that hangs holds up all else. */
const legacyFirstProblemPauseMs = 5000;
const legacyLastProblemPauseMs = 60_000;

/** How often what cannot be mended is looked at again. */
const problemPauseMs = 10_000;

/** So many repairs of one chain, each soon after the one before, are nothing but a busy host. */
const patience = 30;
const firstPauseMs = 1000;
const lastPauseMs = 60_000;
/** After so long without one it was another matter. */
const calmMs = 2000;

/** Repairs of a chain that somebody else keeps undoing. */
interface Dispute {
  readonly repairs: number;
  readonly lastMs: number;
  /** Not touched before. */
  readonly untilMs: number;
}

export interface ForwardLook {
  /** Of the chains that were looked at. */
  readonly outcomes: readonly ForwardOutcome[];
  /** When to look again although nothing is heard of; infinite where there is no need. */
  readonly againMs: number;
}

export interface ForwardKeeperOptions {
  /** Of weftd's own table. */
  readonly tableName: string;
  /** Milliseconds on a clock that does not go back. */
  readonly now: () => number;
  /** For the log. */
  readonly changedBy: () => { readonly by?: string };
}

export class ForwardKeeper {
  private readonly logger: Logger;
  private readonly names: ForwardNames;
  private readonly legacy: LegacyIptables;
  private readonly now: () => number;
  private readonly changedBy: () => { readonly by?: string };
  private readonly disputes = new Map<string, Dispute>();
  private legacyAtMs = Number.NEGATIVE_INFINITY;
  private legacyPauseMs = legacyPauseMs;
  private legacyOutcomes: readonly ForwardOutcome[] = [];
  /** Tables with chains that see forwarded packets, as of the last look. */
  private tables: ReadonlySet<string> | undefined;

  constructor(sys: Sys, logger: Logger, { tableName, now, changedBy }: ForwardKeeperOptions) {
    this.logger = logger;
    this.changedBy = changedBy;
    this.names = forwardNames(tableName);
    this.legacy = new LegacyIptables(sys);
    this.now = now;
  }

  /** Whether a change in this table may matter; all may before the first look. */
  concerns(family: string, table: string): boolean {
    return this.tables?.has(`${family} ${table}`) ?? true;
  }

  /** Looks at all chains of nf_tables that see forwarded packets, and mends them. */
  look(nft: NftConnection, settings: ForwardSettings): ForwardLook {
    const chains = listForwardChains(nft);
    this.tables = new Set(chains.map(({ table }) => `${table.family} ${table.name}`));
    const outcomes = chains.map((each) => {
      const place = `${each.table.family} ${each.table.name} ${each.chain.name}`;
      return this.undisputed(place, () => this.ensureOne(nft, each, place, settings));
    });
    const isWell = outcomes.every(({ problem }) => problem === undefined);
    return { outcomes, againMs: Math.min(this.disputeMs(), isWell ? Number.POSITIVE_INFINITY : problemPauseMs) };
  }

  /** One chain that the kernel refuses to have changed keeps no other from being looked after. */
  private ensureOne(nft: NftConnection, each: ForwardChain, place: string, settings: ForwardSettings): ForwardOutcome {
    try {
      return this.retried(() => ensureForward(nft, each, settings, this.names));
    } catch (error) {
      // Where it is not known what the kernel did the connection is of no more use.
      if (!(error instanceof NetlinkError)) throw error;
      if (hasCode(error, 'ENOENT') && !nft.hasChain(each.table, each.chain.name)) return { place };
      const problem = `Cannot have the cluster's packets accepted in "${place}", they may be dropped there: ${error.message}; make it accept them itself, or run weftd with --iptables-forward-rules=false`;
      return { place, problem };
    }
  }

  /** Asks the older tables, where it is time and there are any. */
  lookAtLegacy(settings: () => ForwardSettings): ForwardLook {
    const nowMs = this.now();
    const { presence } = this.legacy;
    if (presence !== 'here') {
      return { outcomes: [], againMs: presence === 'possible' ? legacyAbsentMs : Number.POSITIVE_INFINITY };
    }
    const dueMs = this.legacyAtMs + this.legacyPauseMs - nowMs;
    if (dueMs > 0) return { outcomes: this.legacyOutcomes, againMs: dueMs };
    const found = this.legacy.ensure(settings(), this.names);
    if (found === 'busy') return { outcomes: this.legacyOutcomes, againMs: legacyBusyMs };
    this.legacyAtMs = this.now();
    if (found.every(({ problem }) => problem === undefined)) this.legacyPauseMs = legacyPauseMs;
    else {
      const doubledMs = Math.min(legacyLastProblemPauseMs, this.legacyPauseMs * 2);
      this.legacyPauseMs = Math.max(legacyFirstProblemPauseMs, doubledMs);
    }
    for (const outcome of found) this.tell(outcome, {});
    // What was mended is told once.
    this.legacyOutcomes = found.map(({ mended: _, ...rest }) => rest);
    return { outcomes: found, againMs: this.legacyPauseMs };
  }

  /** Takes weftd's rules out of all of them. @returns what could not be done */
  remove(nft: NftConnection): Error[] {
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
        attempt(() => this.retried(() => removeForward(nft, each, this.names)));
    });
    attempt(() => this.legacy.remove(this.names));
    return errors;
  }

  /** Somebody else may be changing the chain just now: then what was planned from no longer is so. */
  private retried<T>(work: () => T): T {
    return retryRace(work, 'ENOENT', 'EEXIST', 'EBUSY');
  }

  private tell({ place, mended }: ForwardOutcome, by = this.changedBy()): void {
    if (mended !== undefined) {
      this.logger.info(`the cluster's packets are accepted in "${place}"`, { because: mended, ...by });
    }
  }

  private undisputed(place: string, work: () => ForwardOutcome): ForwardOutcome {
    const nowMs = this.now();
    const before = this.disputes.get(place);
    if (before && nowMs < before.untilMs) {
      const problem = `Another program keeps undoing weftd's rules in "${place}", so that the cluster's packets may be dropped there: make it accept them itself, or run weftd with --iptables-forward-rules=false`;
      return { place, problem };
    }
    const outcome = work();
    if (outcome.mended === undefined) return outcome;
    this.tell(outcome);
    const repairs = before && nowMs - before.lastMs < calmMs + before.untilMs - before.lastMs ? before.repairs + 1 : 1;
    const pauseMs = repairs > patience ? Math.min(lastPauseMs, firstPauseMs * 2 ** (repairs - patience - 1)) : 0;
    this.disputes.set(place, { repairs, lastMs: nowMs, untilMs: nowMs + pauseMs });
    return outcome;
  }

  private disputeMs(): number {
    const nowMs = this.now();
    const waits = [...this.disputes.values()].map(({ untilMs }) => untilMs - nowMs).filter((ms) => ms > 0);
    return Math.min(Number.POSITIVE_INFINITY, ...waits);
  }
}
