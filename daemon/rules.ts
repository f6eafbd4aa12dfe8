/**
 * Keeps the packet filter's part: one nftables table of weftd's own, `inet weft` unless the network's etcd prefix is
 * another than flannel's.
 *
 * It is compared as a whole with what is there, and replaced as a whole in one transaction when it differs: no packet
 * meets half of it, and counting goes on. Peers that come and go are changed in the table's sets alone. While the
 * packet filter's generation is the one that weftd left behind nobody has changed anything, and nothing is read.
 */

import { hasCode } from '../linux/errors.ts';
import type { NetlinkRequest } from '../linux/netlink/connection.ts';
import { type NftConnection, openNft, tableDifference } from '../linux/nft/connection.ts';
import { deleteElements, type NftSet, type NftTable, newElements } from '../linux/nft/table.ts';
import type { Sys } from '../linux/sys.ts';
import type { Address } from '../net/address.ts';
import type { Logger } from './log.ts';
import {
  type LockCount,
  type LockCounts,
  lockChainName,
  lockSetOf,
  lockSets,
  readCounts,
  withCounts,
} from './peer-lock.ts';
import { desiredTable, formatStructure, type RuleSettings } from './rule-table.ts';

/** Keeps the table. */
export interface Rules {
  /**
   * Puts the table there where it differs.
   * @param keepPeers those who are let in stay so although they are no longer among the settings' peers
   * @returns how many tables were replaced, or had their peers changed by others
   */
  ensure(settings: RuleSettings, keepPeers?: boolean): number;
  /**
   * Lets peers in and shuts others out, where the table is known to be as it was left; in one small transaction, however
   * many there are. False where it is not known: `ensure` looks.
   */
  changePeers(added: readonly Address[], removed: readonly Address[]): boolean;
  /** By what number the packet filter's events name us as their cause. */
  readonly port: number | undefined;
  /** What the peer lock has dropped; undefined where it is off. One small question to the kernel. */
  counters(): LockCount | undefined;
  /** Takes it away. */
  remove(): void;
  close(): void;
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

/** How often a change by others in between is met by looking again, at once. */
const attempts = 4;

class RuleKeeper implements Rules {
  private readonly sys: Sys;
  private readonly logger: Logger;
  private readonly name: string;
  private connection: NftConnection | undefined;
  private known: Known | undefined;
  /** What the lock had counted when it was looked at last. */
  private counted: LockCounts = {};
  private locked = false;

  constructor(sys: Sys, logger: Logger, name: string) {
    this.sys = sys;
    this.logger = logger;
    this.name = name;
  }

  private get table() {
    return { family: 'inet', name: this.name } as const;
  }

  close(): void {
    this.connection?.close();
    this.connection = undefined;
    this.known = undefined;
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

  remove(): void {
    this.use((nft) => nft.removeTable(this.table));
    this.known = undefined;
  }

  counters(): LockCount | undefined {
    if (!this.locked) return undefined;
    try {
      this.use((nft) => this.noteCounts(readCounts(nft.listRules(this.table, lockChainName))));
    } catch {
      // What was counted last is better than nothing; `ensure` says what is wrong.
    }
    const counts = Object.values(this.counted);
    return {
      packets: counts.reduce((sum, { packets }) => sum + packets, 0),
      bytes: counts.reduce((sum, { bytes }) => sum + bytes, 0),
    };
  }

  get port(): number | undefined {
    return this.connection?.port;
  }

  changePeers(added: readonly Address[], removed: readonly Address[]): boolean {
    if (!this.locked) return true;
    return this.use((nft) => {
      const { known } = this;
      const generation = nft.generation() ?? 0;
      if (known?.generation !== generation) return false;
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
      this.known = undefined;
      nft.transact(requests);
      for (const { elements, key, bytes } of come) elements.set(key, bytes);
      for (const { elements, key } of gone) elements.delete(key);
      const { peers: _, ...rest } = known;
      this.known = rest;
      return this.settle(nft, generation);
    });
  }

  private noteCounts(counts: LockCounts): void {
    this.counted = { ...this.counted, ...counts };
  }

  ensure(settings: RuleSettings, keepPeers = false): number {
    this.locked = settings.lock !== undefined;
    let changes = 0;
    for (let attempt = 1; attempt <= attempts; attempt++) {
      const done = this.attempt(settings, keepPeers);
      changes += done.changes;
      if (done.settled) return changes;
    }
    // Others change the packet filter all the time; each such change is told of, and brings us here again.
    return changes;
  }

  /** `settled`: the table is known to be as it should be; otherwise somebody changed something meanwhile. */
  private attempt(settings: RuleSettings, keepPeers: boolean): { changes: number; settled: boolean } {
    return this.use((nft) => {
      const generation = nft.generation() ?? 0;
      const structure = formatStructure(settings);
      const peers = settings.lock?.peers;
      const isKnown = this.known?.generation === generation && this.known.structure === structure;
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
      return { changes, settled: this.settle(nft, generation) };
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
    if (actual) this.noteCounts(readCounts(actual.chains.find(({ name }) => name === lockChainName)?.rules ?? []));
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
      for (const [name] of touched) this.logger.info(`packet filter set "${name}" of table "inet ${this.name}" mended`);
      return touched.length;
    }
    nft.replaceTable({
      ...desired,
      chains: desired.chains.map((chain) => (chain.name === lockChainName ? withCounts(chain, this.counted) : chain)),
    });
    this.logger.info(`packet filter table "inet ${this.name}" set`, { because: difference });
    const peers = settings.lock?.peers;
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
    const generation = nft.generation() ?? 0;
    if (generation !== ((before + 1) >>> 0 || 1)) {
      this.known = undefined;
      return false;
    }
    this.known = { ...this.known!, generation };
    return true;
  }
}

/** @param name the table's */
export const openRules = (sys: Sys, logger: Logger, name: string): Rules => new RuleKeeper(sys, logger, name);
