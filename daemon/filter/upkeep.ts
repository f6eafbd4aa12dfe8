/**
 * Derives the packet filter's desired state from the cluster's view by asking the parts, applies it, and counts and reports
 * the result.
 *
 * A failure is a reported problem and another look soon, never an error of the data path: packets between hosts still get
 * through.
 */

import type { Lease } from '../../cluster/lease.ts';
import { type PerFamily, valuesOf } from '../../cluster/network-config.ts';
import type { NodeStatus } from '../../cluster/status.ts';
import { type Address, formatAddress } from '../../net/address.ts';
import { formatPrefix } from '../../net/prefix.ts';
import type { Logger } from '../report/log.ts';
import type { Problems } from '../report/problems.ts';
import { containerPrefixes, prefixesOf } from './cluster-prefixes.ts';
import { containerLocking, containerLockPart } from './container-lock.ts';
import { droppedSets } from './dropped.ts';
import type { FilterFeatures } from './features.ts';
import { forwarding, forwardSettings } from './forward.ts';
import { innerLocking, innerLockPart } from './inner-lock.ts';
import { masquerading } from './masquerade.ts';
import { type FilterOutcome, type FilterWish, formatStructure, type PacketFilter } from './packet-filter.ts';
import {
  type ElementChange,
  type FilterLinks,
  type FilterPart,
  type FilterView,
  noPlacements,
  type PlacementChanges,
  type Placements,
} from './part.ts';
import { peerLocking, peerLockPart } from './peer-lock.ts';
import type { StateLook } from './state-judge.ts';
import type { LookOptions } from './table-keeper.ts';
import { tunnelSamples, untrackedPart, untracking } from './untracked.ts';
import type { FilterInterfaces, Ways } from './ways.ts';

/** The command line's choices for the packet filter, beside masquerading. */
export interface FilterOptions {
  /** Accept tunnel packets from peers only. */
  readonly peerLock: boolean;
  /** Accept packets of containers where another program's chain would drop them. */
  readonly forward: boolean;
  /** Masquerade to random ports. */
  readonly randomPorts: boolean;
}

export interface EnsureOptions {
  /** Admitted peers stay admitted, even if they left the view. */
  readonly keepPeers?: boolean;
  /** The last look's state counts as current: the caller receives events, and requests another look then. */
  readonly trust?: boolean;
}

/** The result of a look at the packet filter. */
export interface RuleResult {
  readonly changes: number;
  /** When to look again even without an event; infinite if there is no need. */
  readonly againMs: number;
}

/** The packet filter, as the data path uses it. */
export interface FilterPort {
  /** The interfaces of the cluster's packets; set them before the first `ensure` and on changes. */
  useInterfaces(interfaces: FilterInterfaces): void;
  /** Where peers' packets come from; set them before the first `ensure`, and for each new list. They may change later. */
  usePlacements(placements: Placements): void;
  /**
   * Makes the whole packet filter match `view`. Never throws: a failure is a reported problem.
   * @param options parts that need no check or change now
   */
  ensure(view: FilterView, options?: EnsureOptions): RuleResult;
  /**
   * Admits added peers and shuts out removed ones, without a look at the rest. An address that a peer of `view` still
   * has stays admitted.
   * @param placed changes of the placements
   * @returns false: the change could not be made this way; call `ensure`
   */
  change(view: FilterView, added: readonly Lease[], removed: readonly Lease[], placed?: PlacementChanges): boolean;
  /** By such changes everything is as `view` wants it: `ensure` with it has nothing to compute. */
  followed(view: FilterView): void;
  /** Removes everything. @throws Error: some of it could not be removed */
  remove(): void;
}

/** Counts the packet filter's repairs. */
export interface FilterHealing {
  noteSettings(kind: 'rules', key: string, wanted: () => string, done: readonly string[]): void;
  noteFailure(kind: 'rules'): void;
}

export interface UpkeepOptions {
  readonly filter: Pick<
    PacketFilter,
    'ensure' | 'change' | 'followed' | 'counters' | 'remove' | 'senders' | 'stateJudges'
  >;
  readonly parts: readonly FilterPart[];
  /** What the parts ask for. */
  readonly features: FilterFeatures;
  readonly logger: Pick<Logger, 'info' | 'warn'>;
  /** Milliseconds on a clock that does not go back. */
  readonly now: () => number;
  /** Whether other programs' chains are kept, too. */
  readonly foreignChains: boolean;
  readonly healing: FilterHealing;
  readonly problems: Pick<Problems, 'report' | 'reportAll'>;
  readonly ways: Ways;
}

const retryMs = 1000;

const formatAll = (addresses: PerFamily<Address>): string => valuesOf(addresses).map(formatAddress).join();

/** The parts whose counters are the peer lock's. */
const lockParts = [peerLockPart, containerLockPart, innerLockPart];

export interface PartsOptions {
  readonly ipMasq: boolean;
  readonly lockLifeMs: number;
  /** Milliseconds on a clock that does not go back. */
  readonly now: () => number;
  readonly features: FilterFeatures;
}

/** The parts that the command line asks for. */
export const partsFor = (
  { peerLock, forward, randomPorts }: FilterOptions,
  { ipMasq, lockLifeMs: lifeMs, now, features }: PartsOptions,
): FilterPart[] => [
  ...(peerLock
    ? [containerLocking({ lifeMs, now, hasFib: () => features.hasFib }), peerLocking({ lifeMs }), innerLocking()]
    : []),
  untracking({ lifeMs, isPossible: () => features.canUntrack }),
  ...(forward ? [forwarding()] : []),
  ...(ipMasq ? [masquerading({ randomPorts })] : []),
];

export type Sender = NonNullable<NodeStatus['peerLock']['from']>[number];
/** Of dropped packets: the shortest time between two lines of the log, and how many senders a line names. */
const tellPauseMs = 600_000;
const toldSenders = 5;
const nobodyJudges: StateLook = { judges: [], againMs: Number.POSITIVE_INFINITY };

export class FilterUpkeep implements FilterPort {
  readonly #options: UpkeepOptions;
  #current: { readonly view: FilterView; readonly wish: FilterWish; readonly untilMs: number } | undefined;
  #links: FilterLinks | undefined;
  #placements: Placements | undefined;
  #placementSource: readonly unknown[] = [];
  #judges: readonly string[] | undefined;
  #judgeAgainMs = Number.POSITIVE_INFINITY;
  /** What the log has told of dropped packets: not those of before the start. */
  #told: { readonly packets: number; readonly againMs: number } | undefined;

  constructor(options: UpkeepOptions) {
    this.#options = options;
  }

  useInterfaces(interfaces: FilterInterfaces): void {
    this.#options.ways.useInterfaces(interfaces);
    const { external, inner = [], networks = [], addresses = {} } = interfaces;
    const before = this.#links;
    const isSameInner = before?.inner.join() === inner.join();
    const isSameOutside =
      before?.external === external &&
      before.networks.map(formatPrefix).join() === networks.map(formatPrefix).join() &&
      formatAll(before.addresses) === formatAll(addresses);
    if (isSameInner && isSameOutside) return;
    this.#links = { external, inner: isSameInner ? before.inner : inner, networks, addresses };
    this.#current = undefined;
  }

  usePlacements(placements: Placements): void {
    this.#placements = placements;
    this.#current = undefined;
  }

  ensure(view: FilterView, { keepPeers = false, trust = false }: EnsureOptions = {}): RuleResult {
    const { problems, healing, now } = this.#options;
    try {
      const { wish, outcome } = this.#apply(view, { keepElements: keepPeers, trust });
      const { changes, forward } = outcome;
      const againMs = Math.min(outcome.againMs, this.#current!.untilMs - now(), this.#judgeAgainMs);
      const wanted = (): string => formatStructure(wish.contents);
      const done = changes > 0 ? ['set packet filter table'] : [];
      healing.noteSettings('rules', 'packet filter table', wanted, done);
      let total = changes;
      for (const { place, mended, problem } of forward) {
        const here = mended === undefined ? [] : [`set packet filter rules in "${place}"`];
        total += here.length;
        healing.noteSettings('rules', place, wanted, here);
        if (problem !== undefined && !trust) healing.noteFailure('rules');
      }
      problems.reportAll(
        'forwarding',
        new Map(forward.flatMap(({ place, problem }) => (problem === undefined ? [] : [[place, problem]]))),
      );
      problems.report('packet filter', undefined);
      this.#told ??= { packets: this.peerLock().droppedPackets, againMs: Number.NEGATIVE_INFINITY };
      return { changes: total, againMs };
    } catch (error) {
      problems.report('packet filter', (error as Error).message);
      healing.noteFailure('rules');
      return { changes: 0, againMs: retryMs };
    }
  }

  change(
    view: FilterView,
    added: readonly Lease[],
    removed: readonly Lease[],
    placed: PlacementChanges = noPlacements,
  ): boolean {
    const { filter, parts } = this.#options;
    try {
      const changes: ElementChange[] = [];
      for (const part of parts) {
        const some = part.changes ? part.changes(view, added, removed, placed) : [];
        if (!some) return false;
        changes.push(...some);
      }
      return filter.change(changes);
    } catch {
      // `ensure` meets the error again, and reports it.
      return false;
    }
  }

  followed(view: FilterView): void {
    const { filter, parts } = this.#options;
    if (!this.#current) return;
    this.#current = { ...this.#current, view };
    for (const part of parts) part.followed?.(view);
    filter.followed();
  }

  remove(): void {
    this.#options.filter.remove();
  }

  /** Whether the peer lock is on, and how much it has dropped. */
  peerLock(): Omit<NodeStatus['peerLock'], 'from'> {
    const counts = lockParts.flatMap((part) => this.#options.filter.counters(part) ?? []);
    return {
      enabled: counts.length > 0,
      droppedPackets: counts.reduce((sum, { packets }) => sum + packets, 0),
      droppedBytes: counts.reduce((sum, { bytes }) => sum + bytes, 0),
    };
  }

  /** The senders of packets that the peer lock has dropped lately, those of most packets first. */
  droppedFrom(): readonly Sender[] {
    try {
      return this.#options.filter
        .senders(Object.values(droppedSets))
        .map(({ key, packets }) => ({
          address: formatAddress({ family: key.length === 4 ? 4 : 6, bytes: key }),
          packets,
        }))
        .sort((a, b) => b.packets - a.packets || (a.address < b.address ? -1 : 1));
    } catch {
      // The next look reports the problem.
      return [];
    }
  }

  /** Logs from whom packets were dropped since the last call, at most once in a while. */
  tellDropped(): void {
    const { logger, now } = this.#options;
    const { droppedPackets } = this.peerLock();
    const { packets: before, againMs } = this.#told ?? { packets: droppedPackets, againMs: 0 };
    const packets = droppedPackets - before;
    if (packets === 0 || now() < againMs) return;
    this.#told = { packets: droppedPackets, againMs: now() + tellPauseMs };
    // The table was made anew.
    if (packets < 0) return;
    const from = this.droppedFrom()
      .slice(0, toldSenders)
      .map((sender) => `${sender.address} (${sender.packets})`);
    logger.warn('the peer lock has dropped packets', {
      packets,
      ...(from.length > 0 ? { from: from.join(', ') } : {}),
    });
  }

  /** Whether the tunnel's packets are tracked as connections, and because of which rules. */
  tracking(): NonNullable<NodeStatus['tracking']> {
    const isUntracked = this.#current?.wish.contents.some(({ name }) => name === untrackedPart) ?? false;
    return { tunnelIsTracked: !isUntracked, because: this.#judges ?? [] };
  }

  #apply(view: FilterView, look: LookOptions): { readonly wish: FilterWish; readonly outcome: FilterOutcome } {
    const { filter, features, logger } = this.#options;
    this.#judge(view, look.trust);
    for (;;) {
      const wish = this.#wish(view);
      try {
        return { wish, outcome: filter.ensure(wish, look) };
      } catch (error) {
        const told = features.learn(error);
        if (told === undefined) throw error;
        logger.warn(told);
        this.#current = undefined;
      }
    }
  }

  /** A comparison of all peers derives the same placements anew: then nothing has to be compared with the kernel. */
  #currentPlacements(given: Placements): Placements {
    const { placementSource } = given;
    const before = this.#placementSource;
    const isSame = before.length === placementSource.length && before.every((value, i) => value === placementSource[i]);
    if (!isSame) this.#placementSource = placementSource;
    return {
      placementSource: this.#placementSource,
      get placements() {
        return given.placements;
      },
    };
  }

  #linked(view: FilterView): FilterView {
    return this.#links ? { ...view, links: this.#links } : view;
  }

  #seen(view: FilterView): FilterView {
    return {
      ...this.#linked(view),
      ...(this.#placements ? { placements: this.#currentPlacements(this.#placements) } : {}),
      ...(this.#judges ? { stateJudges: this.#judges } : {}),
    };
  }

  /** Looks for rules of others that go by the state of the tunnel's packets, and tells what follows. */
  #judge(view: FilterView, trust: boolean): void {
    const { filter, parts, features, logger } = this.#options;
    const samples = parts.some(({ name }) => name === untrackedPart) ? tunnelSamples(this.#linked(view)) : [];
    const isMoot = samples.length === 0 || !features.canUntrack;
    const { judges, againMs } = isMoot ? nobodyJudges : filter.stateJudges(samples, trust);
    this.#judgeAgainMs = againMs;
    const before = this.#judges?.join();
    if (before === judges.join()) return;
    this.#judges = judges;
    this.#current = undefined;
    if (judges.length > 0) {
      const because = `rules of ${judges.map((place) => `"${place}"`).join(', ')} go by the state of connections`;
      logger.info("the tunnel's packets stay tracked as connections", { because });
    } else if (before !== undefined) logger.info("the tunnel's packets are not tracked as connections any longer");
  }

  /** The same object for the same view, as long as the parts say so. */
  #wish(view: FilterView): FilterWish {
    const { parts, foreignChains, ways, now } = this.#options;
    if (this.#current?.view === view && now() < this.#current.untilMs) return this.#current.wish;
    const prefixes = prefixesOf(view);
    const seen = this.#seen(view);
    const subnets = prefixes.subnets.flatMap((each) => valuesOf(each));
    const wish: FilterWish = {
      contents: parts.flatMap((part) => part.wants(seen) ?? []),
      foreign: foreignChains ? () => forwardSettings(prefixes, ways.read(subnets)) : undefined,
      containers: containerPrefixes(prefixes),
    };
    const validMs = wish.contents.map((content) => content.validMs ?? Number.POSITIVE_INFINITY);
    this.#current = { view, wish, untilMs: now() + Math.min(Number.POSITIVE_INFINITY, ...validMs) };
    return wish;
  }
}
