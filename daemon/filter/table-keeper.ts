/**
 * Keeps one nftables table of weftd's own: `inet weft`, unless the network's etcd prefix is another than flannel's, and
 * one of the same name in each further family that a part is in. packet-filter.ts puts the tables' changes into one
 * transaction.
 *
 * - The table is compared as a whole with the actual one, and replaced as a whole if it differs. No packet meets half of
 *   it, the order of its chains stays, and counters continue. The comparison still finds which parts were damaged.
 * - Elements are compared one by one, and changed without touching the rest.
 * - While the packet filter's generation is the one that weftd left, nobody has changed anything, and nothing is read. With
 *   `trust`, not even the generation is read: the table counts as unchanged since the last look.
 * - With `keepElements`, unwanted elements stay until a later look without it.
 * - If others change the table between a look and its repair, the transaction fails or the generation differs. Then the
 *   next attempt looks again.
 */

import type { NetlinkRequest } from '../../linux/netlink/connection.ts';
import { type NftConnection, replaceTableRequests, tableDifference } from '../../linux/nft/connection.ts';
import {
  deleteElements,
  deleteTable,
  type NftChain,
  type NftSet,
  type NftTable,
  newElements,
  newTable,
  type TableName,
} from '../../linux/nft/table.ts';
import { type Count, type Counts, doesCount, readCounts, sumOf, withCounts } from './counts.ts';
import { bytesOf, type Elements, elementsOf, keyOf, without } from './elements.ts';
import { type FilterSession, type Knowledge, unknownGeneration } from './filter-session.ts';
import type { ElementChange, PartContent, PartSet } from './part.ts';

/** A set's content in the kernel; `source` is present if the content is exactly what `source` gives. */
interface KnownSet {
  readonly elements: Elements;
  readonly source?: unknown;
  /** The source of before changes that are not complete yet. */
  readonly sourceBefore?: unknown;
}

/** The knowledge of the table in the kernel. */
interface KnownTable {
  /** Of all parts in it. */
  readonly structure: string;
  readonly sets: Map<string, KnownSet>;
}

/** The desired content of the table. */
interface Wanted {
  /** By priority, then by name. */
  readonly contents: readonly PartContent[];
  readonly structure: string;
  readonly sets: readonly PartSet[];
}

export interface LookOptions {
  readonly keepElements: boolean;
  readonly trust: boolean;
}

/** The changes that a table needs, and the knowledge after them. */
export interface TableStep {
  readonly requests: readonly NetlinkRequest[];
  /** How the table differed as a whole; undefined if only elements differ. */
  readonly because?: string;
  /** Sets whose elements others had changed. */
  readonly touchedSets: readonly string[];
  /** Parts that were right before, and were changed by others. */
  readonly damaged: readonly string[];
  /**
   * Call it once the requests are done, and before `FilterSession.settle`.
   * @param generation the packet filter's before them
   */
  readonly commit: (generation: number) => void;
  /** Call it afterwards. @returns whether the table is known to be right */
  readonly conclude: (isSettled: boolean) => boolean;
}

/**
 * The order of parts in a table is the order in which packets meet them: by the lowest priority of their chains, then
 * by name. It serves people who read the table; part.ts explains why packets do not depend on it.
 */
function inOrder(contents: readonly PartContent[]): readonly PartContent[] {
  const ranked = contents.map((content) => {
    const priorities = content.chains().flatMap(({ base }) => (base ? [base.priority] : []));
    return { content, rank: Math.min(Number.POSITIVE_INFINITY, ...priorities) };
  });
  return ranked
    .sort((a, b) => a.rank - b.rank || (a.content.name < b.content.name ? -1 : 1))
    .map(({ content }) => content);
}

/** The table with all parts' chains and sets. @throws Error: two parts have a chain or a set of one name */
export function assembleTable(table: TableName, contents: readonly PartContent[]): NftTable {
  const ordered = inOrder(contents);
  const sets = ordered.flatMap((content) =>
    content.sets.map(
      ({ name, keyType, timeoutMs, dynamicSize, elements }): NftSet => ({
        name,
        keyType,
        interval: false,
        ...(timeoutMs === undefined ? {} : { timeoutMs }),
        ...(dynamicSize === undefined ? {} : { dynamicSize }),
        elements: elements(),
      }),
    ),
  );
  const chains = ordered.flatMap((content) => content.chains());
  for (const [kind, named] of [
    ['sets', sets],
    ['chains', chains],
  ] as const) {
    const twice = named.find(({ name }, i) => named.findIndex((other) => other.name === name) < i);
    if (twice) throw new Error(`Two parts of table "${table.family} ${table.name}" have ${kind} named "${twice.name}"`);
  }
  return { ...table, sets, chains };
}

const withoutElements = (table: NftTable): NftTable => ({
  ...table,
  sets: table.sets.map((set) => ({ ...set, elements: [] })),
});

/** The chains and sets of a table that have one of these names. */
const narrowedTo = (table: NftTable, names: ReadonlySet<string>): NftTable => ({
  ...table,
  sets: table.sets.filter(({ name }) => names.has(`set ${name}`)),
  chains: table.chains.filter(({ name }) => names.has(`chain ${name}`)),
});

const namesOf = (content: PartContent, chains: readonly NftChain[]): ReadonlySet<string> =>
  new Set([...content.sets.map(({ name }) => `set ${name}`), ...chains.map(({ name }) => `chain ${name}`)]);

/** The parts that differ; foreign content of the table may concern any of them. */
function damagedParts(contents: readonly PartContent[], desired: NftTable, actual: NftTable | undefined): string[] {
  const all = contents.map(({ name }) => name);
  if (!actual) return all;
  const parts = contents.map((content) => ({ name: content.name, names: namesOf(content, content.chains()) }));
  const isForeign =
    actual.chains.some(({ name }) => !parts.some(({ names }) => names.has(`chain ${name}`))) ||
    actual.sets.some(({ name }) => !parts.some(({ names }) => names.has(`set ${name}`)));
  if (isForeign) return all;
  return parts
    .filter(({ names }) => tableDifference(narrowedTo(desired, names), narrowedTo(actual, names)) !== undefined)
    .map(({ name }) => name);
}

export class TableKeeper {
  readonly table: TableName;
  /** Whether the table is there even if no part wants anything. */
  readonly #isPermanent: boolean;
  readonly #known: Knowledge<KnownTable>;
  #contents: readonly PartContent[] = [];
  /** Counters of each part at the last look. */
  readonly #counted = new Map<string, Counts>();
  /** The current or former part of a chain. */
  readonly #owners = new Map<string, string>();

  constructor(session: FilterSession, table: TableName, isPermanent: boolean) {
    this.table = table;
    this.#isPermanent = isPermanent;
    this.#known = session.knowledge();
  }

  /** As nft(8) names it. */
  get title(): string {
    return `${this.table.family} ${this.table.name}`;
  }

  /** Selects from `all` the parts of this table. */
  want(all: readonly PartContent[]): Wanted {
    const contents = all.filter(({ family }) => family === this.table.family);
    this.#contents = contents;
    return {
      contents,
      structure: JSON.stringify(contents.map(({ name, structure }) => [name, structure])),
      sets: contents.flatMap(({ sets }) => sets),
    };
  }

  /** Whether the table was right at the last look. */
  #held({ structure, sets }: Wanted): boolean {
    const known = this.#known.value;
    if (known?.structure !== structure) return false;
    return sets.every(({ name, source }) => {
      const set = known.sets.get(name);
      return set !== undefined && 'source' in set && set.source === source;
    });
  }

  /** @param generation the packet filter's current one; undefined: not read, sufficient with `trust` only */
  isInOrder(wanted: Wanted, generation: number | undefined, trust: boolean): boolean {
    return (trust || (generation !== undefined && this.#known.isOf(generation))) && this.#held(wanted);
  }

  plan(nft: NftConnection, wanted: Wanted, generation: number, { keepElements, trust }: LookOptions): TableStep {
    const isSame = this.#known.value?.structure === wanted.structure;
    const isCurrent = this.#known.isOf(generation);
    const isTrusted = trust && isSame;
    let touchedSets: readonly string[] = [];
    if (!isTrusted && !(isCurrent && isSame)) {
      const looked = this.#look(nft, wanted, generation);
      if ('replacement' in looked) return looked.replacement;
      touchedSets = looked.touchedSets;
    }
    const known = this.#known.value!;
    const requests: NetlinkRequest[] = [];
    const sets = new Map<string, KnownSet>();
    for (const set of wanted.sets) {
      const before = known.sets.get(set.name)!;
      if ('source' in before && before.source === set.source) {
        sets.set(set.name, before);
        continue;
      }
      const [actual, desired] = [before.elements, elementsOf(set.elements())];
      const gone = without(actual, desired);
      const keeps = keepElements && gone.length > 0;
      requests.push(
        ...newElements(this.table, set.name, without(desired, actual)),
        ...deleteElements(this.table, set.name, keeps ? [] : gone),
      );
      sets.set(
        set.name,
        keeps ? { elements: new Set([...actual, ...desired]) } : { elements: desired, source: set.source },
      );
    }
    const next: KnownTable = { structure: wanted.structure, sets };
    // Seen at this generation, or trusted from an older one: then the next look must check it.
    const isSeen = !isTrusted || isCurrent;
    if (requests.length === 0) {
      this.#known.amend(next);
      return { requests, touchedSets, damaged: this.#partsOf(touchedSets), commit() {}, conclude: () => true };
    }
    return {
      requests,
      touchedSets,
      damaged: this.#partsOf(touchedSets),
      commit: () => this.#known.set(next, isSeen ? generation : unknownGeneration),
      conclude: (isSettled) => {
        if (isSettled) return true;
        // Others have changed something meanwhile. The next look without `trust` finds out whether it matters.
        if (isTrusted) this.#known.set(next, unknownGeneration);
        else this.#known.forget();
        return isTrusted;
      },
    };
  }

  /** Reads the table. @returns the sets that others changed; if more than elements differs, how to replace it */
  #look(
    nft: NftConnection,
    wanted: Wanted,
    generation: number,
  ): { readonly touchedSets: readonly string[] } | { readonly replacement: TableStep } {
    const { contents, structure } = wanted;
    const actual = nft.readTable(this.table);
    const isWanted = this.#isPermanent || contents.length > 0;
    const desired = isWanted ? assembleTable(this.table, contents) : undefined;
    for (const content of contents) {
      for (const { name } of content.chains()) this.#owners.set(name, content.name);
    }
    if (actual) this.#noteCounts(actual.chains);
    const before = this.#known.value;
    const because = this.#difference(desired, actual);
    if (because === undefined) {
      const found = (actual?.sets ?? []).map(({ name, elements }) => [name, elementsOf(elements)] as const);
      this.#known.set({ structure, sets: new Map(found.map(([name, elements]) => [name, { elements }])) }, generation);
      const touched = found.filter(([name, elements]) => {
        const own = before?.sets.get(name)?.elements;
        return own && (without(own, elements).length > 0 || without(elements, own).length > 0);
      });
      return { touchedSets: touched.map(([name]) => name) };
    }
    // It was right before: somebody else has changed it.
    const wasRight = before?.structure === structure;
    const next: KnownTable = {
      structure,
      sets: new Map(
        wanted.sets.map(({ name, source, elements }) => [name, { elements: elementsOf(elements()), source }]),
      ),
    };
    const replacement: TableStep = {
      requests: desired
        ? replaceTableRequests({ ...desired, chains: this.#withCounts(desired.chains) })
        : [newTable(this.table), deleteTable(this.table)],
      because,
      touchedSets: [],
      damaged: wasRight && desired ? damagedParts(contents, desired, actual) : [],
      commit: () => this.#known.set(next, generation),
      conclude: (isSettled) => {
        if (!isSettled) this.#known.forget();
        return isSettled;
      },
    };
    return { replacement };
  }

  #difference(desired: NftTable | undefined, actual: NftTable | undefined): string | undefined {
    if (!desired) return actual ? 'no part wants it' : undefined;
    // Elements are compared one by one, not as part of the table.
    return actual ? tableDifference(withoutElements(desired), withoutElements(actual)) : 'it is not there';
  }

  #partsOf(sets: readonly string[]): string[] {
    return this.#contents
      .filter((content) => content.sets.some(({ name }) => sets.includes(name)))
      .map(({ name }) => name);
  }

  /** The attempt failed: the kernel refused an element because somebody else was first. */
  forget(): void {
    this.#known.forget();
  }

  /** @returns the requests for these changes; undefined if too little is known of the table */
  planChanges(changes: readonly ElementChange[]): TableStep | undefined {
    const known = this.#known.value;
    if (!known) return undefined;
    const steps = changes.flatMap(({ set, added, removed }) => {
      const elements = known.sets.get(set)?.elements;
      if (!elements) return [];
      const come = elementsOf(added.filter((bytes) => !elements.has(keyOf(bytes))));
      const gone = elementsOf(removed.filter((bytes) => elements.has(keyOf(bytes))));
      return come.size + gone.size > 0 ? [{ set, elements, come, gone }] : [];
    });
    return {
      requests: [
        ...steps.flatMap(({ set, come }) => newElements(this.table, set, [...come].map(bytesOf))),
        ...steps.flatMap(({ set, gone }) => deleteElements(this.table, set, [...gone].map(bytesOf))),
      ],
      touchedSets: [],
      damaged: [],
      commit: (generation) => {
        for (const { set, elements, come, gone } of steps) {
          // In place: there may be thousands, and changes every second.
          for (const key of come) elements.add(key);
          for (const key of gone) elements.delete(key);
          const before = known.sets.get(set)!;
          const isExact = 'source' in before || 'sourceBefore' in before;
          known.sets.set(set, { elements, ...(isExact ? { sourceBefore: before.source ?? before.sourceBefore } : {}) });
        }
        this.#known.set(known, this.#known.isOf(generation) ? generation : unknownGeneration);
      },
      conclude: (isSettled) => {
        if (!isSettled) this.#known.set(known, unknownGeneration);
        return true;
      },
    };
  }

  /** The changes since the last look are complete: what the sources give has changed in the same way. */
  followed(): void {
    const sets = this.#known.value?.sets ?? new Map<string, KnownSet>();
    for (const [name, { elements, ...set }] of sets) {
      if ('sourceBefore' in set) sets.set(name, { elements, source: set.sourceBefore });
    }
  }

  #noteCounts(chains: readonly NftChain[]): void {
    for (const chain of chains) {
      const part = this.#owners.get(chain.name);
      if (part !== undefined) {
        this.#counted.set(part, new Map([...(this.#counted.get(part) ?? []), ...readCounts([chain])]));
      }
    }
  }

  #withCounts(chains: readonly NftChain[]): NftChain[] {
    return chains.flatMap((chain) => {
      const counts = this.#counted.get(this.#owners.get(chain.name) ?? '');
      return counts ? withCounts([chain], counts) : [chain];
    });
  }

  /** The elements of a part's set whose packets its rules count; none if there is no such set. */
  readSenders(set: string, nft: NftConnection): ReturnType<NftConnection['listCounts']> {
    const isThere = this.#contents.some(({ sets }) => sets.some(({ name }) => name === set));
    return isThere ? nft.listCounts(this.table, set) : [];
  }

  /** The part's counters, read now; undefined if the part is not in the table. */
  readCounters(part: string, use: (body: (nft: NftConnection) => void) => void): Count | undefined {
    const content = this.#contents.find(({ name }) => name === part);
    if (!content) return undefined;
    try {
      use((nft) => {
        const chains = content.chains().filter(doesCount);
        for (const { name } of chains) this.#owners.set(name, part);
        this.#noteCounts(chains.map(({ name }) => ({ name, rules: nft.listRules(this.table, name) })));
      });
    } catch {
      // The last counters are better than none; the next look reports the problem.
    }
    return sumOf(this.#counted.get(part) ?? new Map());
  }
}
