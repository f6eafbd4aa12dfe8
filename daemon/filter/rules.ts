/**
 * Keeps the packet filter's part: one nftables table of weftd's own, `inet weft` unless the network's etcd prefix is
 * another than flannel's.
 *
 * It is compared as a whole with what is there, and replaced as a whole in one transaction when it differs: no packet
 * meets half of it, and counting goes on. Peers that come and go are changed in the table's sets alone. While the
 * packet filter's generation is the one that weftd left behind nobody has changed anything, and nothing is read.
 */

import { hasCode } from '../../linux/errors.ts';
import type { NetlinkRequest } from '../../linux/netlink/connection.ts';
import { type NftConnection, openNft, tableDifference } from '../../linux/nft/connection.ts';
import { deleteElements, type NftSet, type NftTable, newElements } from '../../linux/nft/table.ts';
import type { Sys } from '../../linux/sys.ts';
import type { Address } from '../../net/address.ts';
import type { Logger } from '../report/log.ts';
import type { ForwardOutcome, ForwardSettings } from './foreign-forward.ts';
import { ForwardKeeper } from './forward-keeper.ts';
import type { Roads } from './packet-walk.ts';
import {
  heldPorts,
  type LockCount,
  type LockCounts,
  lockChainNames,
  lockSetOf,
  lockSets,
  type PeerLock,
  readCounts,
  renewLock,
  withCounts,
} from './peer-lock.ts';
import { acceptedPrefixes, desiredTable, formatStructure, forwardSettings, type RuleSettings } from './rule-table.ts';
import { forgetUnmasqueraded } from './unmasqueraded.ts';

export interface EnsureOptions {
  /** Those who are let in stay so although they are no longer among the settings' peers. */
  readonly keepPeers?: boolean;
  /** What was so at the last look is taken to be so: whoever hears of changes asks for another look. */
  readonly trust?: boolean;
}

/** What came of it. */
export interface RuleOutcome {
  /** Tables of weftd's own that were replaced, or had their peers changed by others. */
  readonly changes: number;
  /** Other programs' chains, of those that were looked at. */
  readonly forward: readonly ForwardOutcome[];
  /** When to look again although nothing is heard of; infinite where there is no need. */
  readonly againMs: number;
}

/** Keeps the packet filter. */
export interface Rules {
  /** Puts everything there where it differs. */
  ensure(settings: RuleSettings, options?: EnsureOptions): RuleOutcome;
  /** Whether a change in a table may matter; undefined for one that is not known, as when changes were lost. */
  concerns(family: string, table: string): boolean;
  /**
   * Lets peers in and shuts others out, where the table is known to be as it was left; in one small transaction, however
   * many there are. False where it is not known: `ensure` looks.
   */
  changePeers(added: readonly Address[], removed: readonly Address[]): boolean;
  /** Makes the peer lock hold on, where there is one; before the first `ensure` the one that an earlier weftd has left. */
  renewLock(): void;
  /** By what number the packet filter's events name us as their cause. */
  readonly port: number | undefined;
  /** What the peer lock has dropped; undefined where it is off. One small question to the kernel. */
  counters(): LockCount | undefined;
  /** Takes all of it away. @throws Error: some of it could not be */
  remove(): void;
  close(): void;
}

export interface RulesOptions {
  /** Of weftd's own table. */
  readonly name: string;
  /** Milliseconds on a clock that does not go back. */
  readonly now: () => number;
  /** The ways that the cluster's packets take on this host. */
  readonly roads: () => Roads;
  /** The program that has made the last change by others, for the log; undefined where it is not known. */
  readonly changedBy?: () => string | undefined;
  /** This host's own addresses. */
  readonly addresses: () => readonly Address[];
  /** Whether a lock that an earlier weftd has left is to hold while it is not known yet what is wanted now. */
  readonly keepLock?: boolean;
}

/** The elements of a set by their bytes as text. */
type Elements = Map<string, Uint8Array>;

function keyOf(bytes: Uint8Array): string {
  let key = '';
  for (let i = 0; i < bytes.length; i++) key += String.fromCharCode(bytes[i]!);
  return key;
}
const elementsOf = ({ elements }: NftSet): Elements => {
  const found = new Map<string, Uint8Array>();
  // Prefixes are in sets of intervals only, of which there is none here.
  for (const element of elements) if (element instanceof Uint8Array) found.set(keyOf(element), element);
  return found;
};
const withoutElements = (table: NftTable): NftTable => ({
  ...table,
  sets: table.sets.map((set) => ({ ...set, elements: [] })),
});
const without = (some: Elements, others: Elements): Uint8Array[] =>
  [...some].flatMap(([key, bytes]) => (others.has(key) ? [] : [bytes]));

/** What is known of the table in the kernel: true for as long as the packet filter has this generation. */
interface Known {
  readonly generation: number;
  readonly structure: string;
  readonly sets: ReadonlyMap<string, Elements>;
  /** The settings' peers, where the sets hold exactly those. */
  readonly peers?: readonly Address[];
}

/** None that the packet filter has: it begins with 1. */
const unknownGeneration = 0;

/** Listing all connections of a host may take long: not at every change of somebody who makes many. */
const leakPauseMs = 5000;

/** How often a change by others in between is met by looking again, at once. */
const attempts = 4;

/** What was mended is told once. */
const withoutNews = (outcomes: readonly ForwardOutcome[]): ForwardOutcome[] =>
  outcomes.map(({ mended: _, ...rest }) => rest);

const generationOf = (nft: NftConnection): number => nft.generation() ?? unknownGeneration;

class RuleKeeper implements Rules {
  private readonly sys: Sys;
  private readonly logger: Logger;
  private readonly name: string;
  private readonly now: () => number;
  private readonly roads: () => Roads;
  private readonly addresses: () => readonly Address[];
  private readonly changedBy: () => string | undefined;
  private readonly forward: ForwardKeeper;
  private connection: NftConnection | undefined;
  private known: Known | undefined;
  /** The packet filter's generation at which all other chains were right, and what for. */
  private forwardKnown: { readonly generation: number; readonly structure: string } | undefined;
  private forwardOutcomes: readonly ForwardOutcome[] = [];
  /** Those of the older kind of tables as well. */
  private allOutcomes: readonly ForwardOutcome[] = [];
  private forwardAtMs = Number.POSITIVE_INFINITY;
  /** What the lock had counted when it was looked at last. */
  private counted: LockCounts = new Map();
  private lock: PeerLock | undefined;
  /** Whether the lock of an earlier weftd is kept, as nobody has said yet what is wanted. */
  private keepsFormerLock: boolean;
  /** Whether containers' connections may have begun without masquerading. */
  private hasLeaked = false;
  private forgotAtMs = Number.NEGATIVE_INFINITY;

  constructor(sys: Sys, logger: Logger, { name, now, roads, addresses, changedBy, keepLock }: RulesOptions) {
    this.sys = sys;
    this.logger = logger;
    this.name = name;
    this.now = now;
    this.roads = roads;
    this.addresses = addresses;
    this.keepsFormerLock = keepLock ?? false;
    this.changedBy = changedBy ?? (() => undefined);
    this.forward = new ForwardKeeper(sys, logger, { tableName: name, now, changedBy: () => this.by() });
  }

  /** For a line of the log. */
  private by(): { readonly by?: string } {
    const by = this.changedBy();
    return by === undefined ? {} : { by };
  }

  private get table() {
    return { family: 'inet', name: this.name } as const;
  }

  close(): void {
    this.connection?.close();
    this.connection = undefined;
    this.known = undefined;
    this.forwardKnown = undefined;
  }

  /** After any error the connection may hold answers that nobody waits for: a new one then. */
  private use<T>(body: (nft: NftConnection) => T): T {
    this.connection ??= openNft(this.sys);
    try {
      return body(this.connection);
    } catch (error) {
      this.close();
      throw error;
    }
  }

  concerns(family: string, table: string): boolean {
    return (family === 'inet' && table === this.name) || this.forward.concerns(family, table);
  }

  remove(): void {
    this.known = undefined;
    this.forwardKnown = undefined;
    const errors = this.use((nft) => {
      nft.removeTable(this.table);
      return this.forward.remove(nft);
    });
    if (errors.length > 0) throw new Error(errors.map(({ message }) => message).join('; '));
  }

  counters(): LockCount | undefined {
    if (!this.lock) return undefined;
    try {
      this.use((nft) => {
        const chains = lockChainNames.map((name) => ({ name, rules: nft.listRules(this.table, name) }));
        this.noteCounts(readCounts(chains));
      });
    } catch {
      // What was counted last is better than nothing; `ensure` says what is wrong.
    }
    const counts = [...this.counted.values()];
    return {
      packets: counts.reduce((sum, { packets }) => sum + packets, 0),
      bytes: counts.reduce((sum, { bytes }) => sum + bytes, 0),
    };
  }

  get port(): number | undefined {
    return this.connection?.port;
  }

  changePeers(added: readonly Address[], removed: readonly Address[]): boolean {
    if (!this.lock) return true;
    return this.use((nft) => {
      const { known } = this;
      if (!known) return false;
      const requests: NetlinkRequest[] = [];
      const differ = (addresses: readonly Address[], isIn: boolean) =>
        addresses.flatMap((address) => {
          const set = lockSetOf(address);
          const elements = set && known.sets.get(set);
          const key = keyOf(address.bytes);
          return elements && elements.has(key) !== isIn ? [{ set: set!, elements, key, bytes: address.bytes }] : [];
        });
      const [come, gone] = [differ(added, true), differ(removed, false)];
      for (const { set, bytes } of come) requests.push(...newElements(this.table, set, [bytes]));
      for (const { set, bytes } of gone) requests.push(...deleteElements(this.table, set, [bytes]));
      if (requests.length === 0) return true;
      const generation = generationOf(nft);
      this.known = undefined;
      nft.transact(requests);
      for (const { elements, key, bytes } of come) elements.set(key, bytes);
      for (const { elements, key } of gone) elements.delete(key);
      const { peers: _, ...rest } = known;
      this.known = rest;
      // Changed by others as well: whether that matters is seen at the next look.
      if (!this.settle(nft, generation) || known.generation !== generation) {
        this.known = { ...rest, generation: unknownGeneration };
      }
      return true;
    });
  }

  renewLock(): void {
    // Whether or not the table is known to be as it was left: a fault elsewhere must not open the lock.
    const { lock } = this;
    if (!lock) {
      if (this.keepsFormerLock) this.renewFormerLock();
      return;
    }
    this.use((nft) => {
      const generation = generationOf(nft);
      nft.transact(renewLock(this.table, lock));
      if (this.known?.generation === generation) this.settle(nft, generation);
    });
  }

  private renewFormerLock(): void {
    this.use((nft) => {
      const ports = heldPorts(nft.readTable(this.table)?.sets ?? []);
      nft.transact(ports.flatMap((port) => renewLock(this.table, { port })));
    });
  }

  private noteCounts(counts: LockCounts): void {
    this.counted = new Map([...this.counted, ...counts]);
  }

  ensure(settings: RuleSettings, { keepPeers = false, trust = false }: EnsureOptions = {}): RuleOutcome {
    this.lock = settings.lock;
    this.keepsFormerLock = false;
    let changes = 0;
    for (let attempt = 1; attempt <= attempts; attempt++) {
      const done = this.attempt(settings, keepPeers, trust);
      changes += done.changes;
      if (done.settled) break;
      // Others change the packet filter all the time; each such change is told of, and brings us here again.
    }
    const { forward, againMs } = this.ensureForward(settings, trust);
    // Whoever has changed something that is all right is not to blame for what comes next.
    if (!trust) this.changedBy();
    return { changes, forward, againMs: Math.min(againMs, this.forgetLeaked(settings)) };
  }

  /** @returns when it is to be called again */
  private forgetLeaked(settings: RuleSettings): number {
    if (!this.hasLeaked) return Number.POSITIVE_INFINITY;
    const waitMs = this.forgotAtMs + leakPauseMs - this.now();
    if (waitMs > 0) return waitMs;
    this.hasLeaked = false;
    this.forgotAtMs = this.now();
    try {
      const containers = acceptedPrefixes(settings);
      const { forgotten, isWhole } = forgetUnmasqueraded(this.sys, containers, this.addresses(), this.now);
      if (forgotten > 0) {
        this.logger.info('connections that began without masquerading begin anew', { connections: forgotten });
      }
      // Those that were found are out of the way: the next look gets further.
      this.hasLeaked = !isWhole && forgotten > 0;
      if (this.hasLeaked) return leakPauseMs;
      if (!isWhole) {
        this.logger.warn(
          'This host has too many connections to find all that began without masquerading; some may stay so',
        );
      }
    } catch (error) {
      this.logger.warn(`${(error as Error).message}; those that began without masquerading stay so`);
    }
    return Number.POSITIVE_INFINITY;
  }

  /** Other programs' chains. */
  private ensureForward(settings: RuleSettings, trust: boolean): Omit<RuleOutcome, 'changes'> {
    const structure = formatStructure(settings);
    const nowMs = this.now();
    const isKnown = this.forwardKnown?.structure === structure;
    if (trust && isKnown) return { forward: this.allOutcomes, againMs: Math.max(0, this.forwardAtMs - nowMs) };
    return this.use((nft) => {
      if (!settings.forward) {
        if (!isKnown) for (const error of this.forward.remove(nft)) this.logger.warn(error.message);
        this.forwardKnown = { generation: unknownGeneration, structure };
        return { forward: [], againMs: Number.POSITIVE_INFINITY };
      }
      const generation = generationOf(nft);
      // A table with an owner goes with it, and nothing tells.
      const isWell = !this.forwardOutcomes.some(({ problem }) => problem !== undefined);
      const isSame = isKnown && isWell && this.forwardKnown?.generation === generation && nowMs < this.forwardAtMs;
      let wanted: ForwardSettings | undefined;
      const wantedNow = (): ForwardSettings => {
        wanted ??= forwardSettings(settings, this.roads());
        return wanted;
      };
      let againMs = Number.POSITIVE_INFINITY;
      let forward = this.forwardOutcomes;
      if (!isSame) {
        const looked = this.forward.look(nft, wantedNow());
        againMs = looked.againMs;
        forward = looked.outcomes;
        this.forwardKnown = { generation, structure };
        this.forwardOutcomes = withoutNews(forward);
        this.forwardAtMs = nowMs + againMs;
      }
      const older = this.forward.lookAtLegacy(wantedNow);
      forward = [...forward, ...older.outcomes];
      this.allOutcomes = withoutNews(forward);
      return { forward, againMs: Math.min(againMs, older.againMs) };
    });
  }

  /** `settled`: the table is known to be as it should be; otherwise somebody changed something meanwhile. */
  private attempt(settings: RuleSettings, keepPeers: boolean, trust: boolean): { changes: number; settled: boolean } {
    return this.use((nft) => {
      const structure = formatStructure(settings);
      const peers = settings.lock?.peers;
      const isTrusted = trust && this.known?.structure === structure;
      if (isTrusted && (!peers || this.known?.peers === peers)) return { changes: 0, settled: true };
      const generation = generationOf(nft);
      const isCurrent = this.known?.generation === generation;
      const isKnown = isTrusted || (isCurrent && this.known?.structure === structure);
      if (isKnown && (!peers || this.known?.peers === peers)) return { changes: 0, settled: true };
      const desiredSets = settings.lock ? lockSets(settings.lock) : [];
      let changes = 0;
      if (!isKnown) {
        const looked = this.look(nft, settings, structure, generation, desiredSets);
        if (looked === 'replaced') return { changes: 1, settled: this.settle(nft, generation) };
        changes = looked;
      }
      const known = this.known!;
      const requests: NetlinkRequest[] = [];
      const sets = new Map<string, Elements>();
      let exact = true;
      for (const set of desiredSets) {
        const desired = elementsOf(set);
        const actual = known.sets.get(set.name)!;
        const gone = without(actual, desired);
        const keep = keepPeers && gone.length > 0;
        if (keep) exact = false;
        requests.push(
          ...newElements(this.table, set.name, without(desired, actual)),
          ...deleteElements(this.table, set.name, keep ? [] : gone),
        );
        sets.set(set.name, keep ? new Map([...actual, ...desired]) : desired);
      }
      const { peers: _, ...rest } = known;
      const next = { ...rest, sets, ...(exact && peers ? { peers } : {}) };
      if (requests.length === 0) {
        this.known = next;
        return { changes, settled: true };
      }
      try {
        nft.transact(requests);
      } catch (error) {
        // Somebody was there first: look again.
        if (!hasCode(error, 'ENOENT', 'EEXIST')) throw error;
        this.known = undefined;
        return { changes, settled: false };
      }
      this.known = next;
      if (this.settle(nft, generation) && (isCurrent || !isTrusted)) return { changes, settled: true };
      // Changed by others as well: whether that matters is seen at the next look.
      this.known = isTrusted ? { ...next, generation: unknownGeneration } : undefined;
      return { changes, settled: isTrusted };
    });
  }

  /** Reads the table, and replaces it where more than peers differs. @returns whether others changed the peers */
  private look(
    nft: NftConnection,
    settings: RuleSettings,
    structure: string,
    generation: number,
    desiredSets: readonly NftSet[],
  ): 'replaced' | number {
    const actual = nft.readTable(this.table);
    if (actual) this.noteCounts(readCounts(actual.chains));
    const desired = desiredTable(settings, this.name);
    // The peers are compared one by one, not as a part of the whole.
    const difference = actual ? tableDifference(withoutElements(desired), withoutElements(actual)) : 'it is not there';
    if (actual && difference === undefined) {
      const sets = new Map(actual.sets.map((set) => [set.name, elementsOf(set)]));
      const before = this.known;
      this.known = { generation, structure, sets };
      const touched = [...sets].filter(([name, elements]) => {
        const own = before?.sets.get(name);
        return own && (without(own, elements).length > 0 || without(elements, own).length > 0);
      });
      for (const [name] of touched) {
        this.logger.info(`packet filter set "${name}" of table "inet ${this.name}" mended`, this.by());
      }
      return touched.length;
    }
    nft.replaceTable({
      ...desired,
      chains: withCounts(desired.chains, this.counted),
    });
    this.logger.info(`packet filter table "inet ${this.name}" set`, { because: difference, ...this.by() });
    const peers = settings.lock?.peers;
    // It was right before: somebody else has changed it.
    if (settings.ipMasq && this.known?.structure === structure) this.hasLeaked = true;
    this.known = {
      generation,
      structure,
      sets: new Map(desiredSets.map((set) => [set.name, elementsOf(set)])),
      ...(peers ? { peers } : {}),
    };
    return 'replaced';
  }

  /** After our own transaction the generation is the next one, unless somebody else has changed something, too. */
  private settle(nft: NftConnection, before: number): boolean {
    const generation = generationOf(nft);
    if (generation !== ((before + 1) >>> 0 || 1)) {
      this.known = undefined;
      return false;
    }
    this.known = { ...this.known!, generation };
    if (this.forwardKnown?.generation === before) this.forwardKnown = { ...this.forwardKnown, generation };
    return true;
  }
}

export const openRules = (sys: Sys, logger: Logger, options: RulesOptions): Rules =>
  new RuleKeeper(sys, logger, options);
