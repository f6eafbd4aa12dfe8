/**
 * A connection to nf_tables: replace a whole table in one transaction, read it back, compare.
 *
 *     const nft = openNft(sys);                                  // or { namespace: fd }
 *     const table: NftTable = { family: 'inet', name: 'weft', sets: [], chains: [{
 *       name: 'postrouting',
 *       base: { type: 'nat', hook: 'postrouting', priority: nftPriority.srcnat, policy: 'accept' },
 *       rules: [rule([sourceIn(network), not(destinationIn(network)), masquerade({ fullyRandom: true })])],
 *     }] };
 *     const actual = nft.readTable(table);
 *     if (!actual || tableDifference(table, actual)) nft.transact(replaceTableRequests(table));
 *     nft.transact(newElements(table, 'peers', added), …);       // a set's elements, without touching the rest
 *
 * Other programs' tables are never touched, except by `newRule` and `deleteRule` with their names.
 */

import { errno, hasCode, NetlinkError, SyscallError } from '../errors.ts';
import {
  makeQuery,
  type NetlinkConnection,
  type NetlinkOptions,
  type NetlinkRequest,
  openNetlink,
  socket,
} from '../netlink/connection.ts';
import type { Sys } from '../sys.ts';
import { formatExpression } from './expression.ts';
import {
  batchBegin,
  batchEnd,
  countElements,
  decodeChain,
  decodeElements,
  decodeGeneration,
  decodeRule,
  decodeSet,
  decodeTable,
  deleteTable,
  elementTexts,
  encodeNfgenmsg,
  type NftChain,
  type NftRule,
  type NftSet,
  type NftTable,
  newChain,
  newElements,
  newRule,
  newSet,
  newTable,
  nfproto,
  nftaChain,
  nftaRule,
  nftaSet,
  nftaSetElementList,
  nftaTable,
  nftMessage,
  rawElements,
  type TableName,
  toElements,
} from './table.ts';

const readAttempts = 8;

/** Opens a connection to nf_tables, which the caller closes. */
export const openNft = (sys: Sys, options: NetlinkOptions = {}): NftConnection =>
  new NftConnection(openNetlink(sys, { ...options, protocol: socket.NETLINK_NETFILTER }));

/** Runs `body` on a connection of its own, in the namespace of the calling thread. */
export function withNft<T>(sys: Sys, body: (nft: NftConnection) => T): T {
  const nft = openNft(sys);
  try {
    return body(nft);
  } finally {
    nft.close();
  }
}

/**
 * Whether an error means that the kernel has no nf_tables: the socket's protocol is unknown (EPROTONOSUPPORT), or no
 * subsystem handles the message (EINVAL; nfnetlink_rcv_msg in net/netfilter/nfnetlink.c).
 */
export const isNftMissing = (error: unknown): boolean =>
  hasCode(error, 'EPROTONOSUPPORT', 'EOPNOTSUPP', 'EAFNOSUPPORT') ||
  (error instanceof NetlinkError && hasCode(error, 'EINVAL'));

/** The requests that create the table, or replace the table of that name. */
export function replaceTableRequests(table: NftTable): NetlinkRequest[] {
  const requests = [
    // Deleting a missing table would fail, and the batch with it. Creating a table that exists is no error.
    newTable(table),
    deleteTable(table),
    newTable(table),
  ];
  table.sets.forEach((set, i) => {
    requests.push(newSet(table, set, i + 1), ...newElements(table, set.name, set.elements));
  });
  // All chains before any rule: rules may jump to any of them.
  for (const chain of table.chains) requests.push(newChain(table, chain));
  for (const chain of table.chains) for (const rule of chain.rules) requests.push(newRule(table, chain.name, rule));
  return requests;
}

/** The netlink connection that nf_tables needs. */
export type NftLink = Pick<NetlinkConnection, 'close' | 'dump' | 'get' | 'port' | 'transact'>;

export class NftConnection {
  readonly #netlink: NftLink;

  constructor(netlink: NftLink) {
    this.#netlink = netlink;
  }

  close(): void {
    this.#netlink.close();
  }

  /** The number by which events name this connection as their cause. */
  get port(): number {
    return this.#netlink.port;
  }

  /** All of the requests or none. @throws NetlinkError of the first that is refused */
  transact(requests: readonly NetlinkRequest[]): void {
    this.#netlink.transact(batchBegin, requests, batchEnd);
  }

  /** The table with its content, as a consistent snapshot; undefined if there is none. */
  readTable(name: TableName): NftTable | undefined {
    for (let attempt = 1; attempt <= readAttempts; attempt++) {
      const generation = this.generation();
      const table = this.#readOnce(name);
      if (table !== 'torn' && this.generation() === generation) return table;
    }
    throw new SyscallError(`read table "${name.family} ${name.name}": it kept changing`, errno.EAGAIN);
  }

  #readOnce(name: TableName): NftTable | undefined | 'torn' {
    const found = this.#netlink.get(
      makeQuery(
        nftMessage.NFT_MSG_GETTABLE,
        () => ['read table', `${name.family} ${name.name}`],
        (writer) => {
          encodeNfgenmsg(writer, nfproto[name.family]);
          writer.attributeText(nftaTable.NAME, name.name);
        },
        (_type, body) => decodeTable(body),
      ),
    );
    if (!found) return undefined;
    const chains = this.listChains(name.family)
      .filter(({ table }) => table.name === name.name)
      .map(({ chain }) => ({ ...chain, rules: this.listRules(name, chain.name) }));
    const sets = this.#listSets(name);
    return sets.includes('torn') ? 'torn' : { ...name, sets: sets as NftSet[], chains };
  }

  /** All chains of a family's tables, without their rules: another program's FORWARD with policy drop is among them. */
  listChains(family: TableName['family']): { table: TableName; chain: NftChain }[] {
    return this.#netlink.dump(
      makeQuery(
        nftMessage.NFT_MSG_GETCHAIN,
        () => `list the chains of family ${family}`,
        (writer) => encodeNfgenmsg(writer, nfproto[family]),
        (_type, body) => decodeChain(body),
      ),
    );
  }

  /** The rules of a chain, in order, with their handles. */
  listRules(table: TableName, chain: string): NftRule[] {
    return this.#netlink
      .dump(
        makeQuery(
          nftMessage.NFT_MSG_GETRULE,
          () => ['list the rules of chain', chain, `of table "${table.family} ${table.name}"`],
          (writer) => {
            encodeNfgenmsg(writer, nfproto[table.family]);
            writer.attributeText(nftaRule.TABLE, table.name);
            writer.attributeText(nftaRule.CHAIN, chain);
          },
          (_type, body) => decodeRule(body),
        ),
      )
      .filter((item) => item.chain === chain)
      .map(({ rule }) => rule);
  }

  /** The keys of any set, also of an unnamed one of a rule; undefined if it has intervals. */
  listKeys(table: TableName, set: string): Uint8Array[] | undefined {
    const raw = this.#listElements(table, set);
    return raw.some(({ end }) => end) ? undefined : raw.map(({ key }) => key);
  }

  /** The elements of a set whose packets rules count. */
  listCounts(table: TableName, set: string): { readonly key: Uint8Array; readonly packets: number }[] {
    return this.#listElements(table, set).map(({ key, count }) => ({ key, packets: count?.packets ?? 0 }));
  }

  /** Whether the table has the chain. */
  hasChain(table: TableName, chain: string): boolean {
    const found = this.#netlink.get(
      makeQuery(
        nftMessage.NFT_MSG_GETCHAIN,
        () => ['look for chain', chain, `of table "${table.family} ${table.name}"`],
        (writer) => {
          encodeNfgenmsg(writer, nfproto[table.family]);
          writer.attributeText(nftaChain.TABLE, table.name);
          writer.attributeText(nftaChain.NAME, chain);
        },
        () => true,
      ),
    );
    return found === true;
  }

  /**
   * After an insertion the kernel may rehash a large set while it lists it. Then some elements come twice and as many
   * are missing; the duplicates are the only sign of that ('torn').
   */
  #listSets(table: TableName): (NftSet | 'torn')[] {
    const sets = this.#netlink.dump(
      makeQuery(
        nftMessage.NFT_MSG_GETSET,
        () => ['list the sets of table', `${table.family} ${table.name}`],
        (writer) => {
          encodeNfgenmsg(writer, nfproto[table.family]);
          writer.attributeText(nftaSet.TABLE, table.name);
        },
        (_type, body) => decodeSet(body),
      ),
    );
    return sets.map((set) => {
      // Packets change it at any time.
      if (set.dynamicSize !== undefined) return set;
      const raw = this.#listElements(table, set.name);
      if (countElements(raw) !== raw.length) return 'torn';
      return { ...set, elements: toElements(set, raw) };
    });
  }

  #listElements(table: TableName, set: string): ReturnType<typeof decodeElements> {
    return this.#netlink
      .dump(
        makeQuery(
          nftMessage.NFT_MSG_GETSETELEM,
          () => ['list the elements of set', set, `of table "${table.family} ${table.name}"`],
          (writer) => {
            encodeNfgenmsg(writer, nfproto[table.family]);
            writer.attributeText(nftaSetElementList.TABLE, table.name);
            writer.attributeText(nftaSetElementList.SET, set);
          },
          (_type, body) => decodeElements(body),
        ),
      )
      .flat();
  }

  /** The ruleset's generation: it changes with every change of any program. */
  generation(): number | undefined {
    return this.#netlink.get(
      makeQuery(
        nftMessage.NFT_MSG_GETGEN,
        () => "read the packet filter's generation",
        (writer) => encodeNfgenmsg(writer, 0),
        (_type, body) => decodeGeneration(body).id,
      ),
    );
  }
}

/** Rules are the same if their expressions and comments are. Handles and counters are ignored. */
export const sameRule = (a: NftRule, b: NftRule): boolean => formatRule(a) === formatRule(b);
const formatRule = (rule: NftRule): string =>
  `${rule.expressions.map(formatExpression).join(' ')} ${JSON.stringify(rule.comment ?? '')}`;

/**
 * The first difference between the desired and the actual table, for a log; undefined if there is none. The order of
 * rules matters. The order of chains, sets and elements does not, and neither do handles and counters.
 */
export function tableDifference(desired: NftTable, actual: NftTable): string | undefined {
  const extraChain = actual.chains.find(({ name }) => !desired.chains.some((chain) => chain.name === name));
  if (extraChain) return `chain "${extraChain.name}" is not Weft's`;
  const extraSet = actual.sets.find(({ name }) => !desired.sets.some((set) => set.name === name));
  if (extraSet) return `set "${extraSet.name}" is not Weft's`;
  for (const set of desired.sets) {
    const other = actual.sets.find(({ name }) => name === set.name);
    if (!other) return `set "${set.name}" is missing`;
    const sameType = other.keyType === set.keyType && other.interval === set.interval;
    if (!sameType || other.timeoutMs !== set.timeoutMs || other.dynamicSize !== set.dynamicSize)
      return `set "${set.name}" is of another type`;
    const texts = [set, other].map(({ elements }) => elementTexts(rawElements(elements)).join());
    if (texts[0] !== texts[1]) return `set "${set.name}" has other elements`;
  }
  for (const chain of desired.chains) {
    const other = actual.chains.find(({ name }) => name === chain.name);
    if (!other) return `chain "${chain.name}" is missing`;
    const { base, rules } = chain;
    const same =
      base?.type === other.base?.type &&
      base?.hook === other.base?.hook &&
      base?.priority === other.base?.priority &&
      base?.policy === other.base?.policy;
    if (!same) return `chain "${chain.name}" is of another type, hook, priority or policy`;
    if (rules.length !== other.rules.length) {
      return `chain "${chain.name}" has ${other.rules.length} rules, not ${rules.length}`;
    }
    const wrong = rules.findIndex((rule, i) => !sameRule(rule, other.rules[i]!));
    if (wrong >= 0) return `rule ${wrong + 1} of chain "${chain.name}" is another one`;
  }
  return undefined;
}
