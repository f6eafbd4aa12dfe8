/**
 * nf_tables' tables, chains, rules and sets, and the messages that carry them: include/uapi/linux/netfilter/
 * nf_tables.h. Families are those of nft(8): a table belongs to one, and sees its packets only (inet: IPv4 and IPv6).
 *
 * The file is long because requests and decoders of one object share its numbers and are read side by side.
 */

import { type Address, offsetAddress } from '../../net/address.ts';
import { lastAddressOf, networkOf, type Prefix } from '../../net/prefix.ts';
import type { Action } from '../errors.ts';
import { makeRequest, type NetlinkRequest } from '../netlink/connection.ts';
import { type NetlinkReader, type NetlinkWriter, nlmsg } from '../netlink/wire.ts';
import { decodeData, decodeExpression, type Expression, encodeData, encodeExpression } from './expression.ts';

/** include/uapi/linux/netfilter.h: NFPROTO_* */
export const nfproto = { inet: 1, ip: 2, arp: 3, netdev: 5, bridge: 7, ip6: 10 } as const;
export type NftFamily = keyof typeof nfproto;

/** include/uapi/linux/netfilter/nfnetlink.h */
const NFNL_SUBSYS_NFTABLES = 10;
const nfnlBatch = { NFNL_MSG_BATCH_BEGIN: 16, NFNL_MSG_BATCH_END: 17 } as const;

/** enum nf_tables_msg_types, with the subsystem in the upper byte as a netlink message's type has it */
export const nftMessage = {
  NFT_MSG_NEWTABLE: 0x0a00,
  NFT_MSG_GETTABLE: 0x0a01,
  NFT_MSG_DELTABLE: 0x0a02,
  NFT_MSG_NEWCHAIN: 0x0a03,
  NFT_MSG_GETCHAIN: 0x0a04,
  NFT_MSG_DELCHAIN: 0x0a05,
  NFT_MSG_NEWRULE: 0x0a06,
  NFT_MSG_GETRULE: 0x0a07,
  NFT_MSG_DELRULE: 0x0a08,
  NFT_MSG_NEWSET: 0x0a09,
  NFT_MSG_GETSET: 0x0a0a,
  NFT_MSG_DELSET: 0x0a0b,
  NFT_MSG_NEWSETELEM: 0x0a0c,
  NFT_MSG_GETSETELEM: 0x0a0d,
  NFT_MSG_DELSETELEM: 0x0a0e,
  NFT_MSG_NEWGEN: 0x0a0f,
  NFT_MSG_GETGEN: 0x0a10,
} as const;

/** include/uapi/linux/netfilter.h: enum nf_inet_hooks; NF_BR_* are the same numbers. */
const hookNumbers = { prerouting: 0, input: 1, forward: 2, output: 3, postrouting: 4, ingress: 5 } as const;
export type NftHook = keyof typeof hookNumbers;

/** Priorities by nft(8)'s names, those of the inet and ip families. Lower runs earlier. */
export const nftPriority = { raw: -300, mangle: -150, dstnat: -100, filter: 0, security: 50, srcnat: 100 } as const;

export interface NftTable {
  readonly family: NftFamily;
  readonly name: string;
  readonly sets: readonly NftSet[];
  readonly chains: readonly NftChain[];
}

export interface NftChain {
  readonly name: string;
  /** Of a base chain: where the kernel calls it. A chain without it is reached by jumps only. */
  readonly base?: {
    readonly type: 'filter' | 'nat' | 'route';
    readonly hook: NftHook;
    readonly priority: number;
    readonly policy: 'accept' | 'drop';
  };
  readonly rules: readonly NftRule[];
}

export interface NftRule {
  readonly expressions: readonly Expression[];
  readonly comment?: string;
  /** Its number in the table, given by the kernel. */
  readonly handle?: number;
}

/**
 * The types of a set's keys: nft(8)'s numbers for them, which only nft reads, and the lengths of keys. Of two fields each has
 * 6 bits of the number, and whole registers of 4 bytes in the key.
 *
 * `userData` is what nft 1.0.6 writes for such a set, in hexadecimal: that names are in the host's byte order, or that the
 * second field is any part of the packet (`typeof ip saddr . @th,96,32`). Without it, nft cannot read back what it lists, and
 * a saved ruleset is lost as a whole.
 */
const keyTypes = {
  ipv4_addr: { number: 7, lengthBytes: 4, userData: '' },
  ipv6_addr: { number: 8, lengthBytes: 16, userData: '' },
  ether_addr: { number: 9, lengthBytes: 6, userData: '' },
  inet_proto: { number: 12, lengthBytes: 1, userData: '' },
  inet_service: { number: 13, lengthBytes: 2, userData: '' },
  ifname: { number: 41, lengthBytes: 16, userData: '000401000000' },
  'ipv4_addr . integer': {
    number: (7 << 6) | 4,
    lengthBytes: 8,
    userData:
      '000400000000034600040d000000013e0014000407000000010c00040c00000001040b000000012600040700000001' +
      '1e000400000000010400000000020403000000030460000000040420000000',
  },
  'ipv6_addr . integer': {
    number: (8 << 6) | 4,
    lengthBytes: 32,
    userData:
      '000400000000034600040d000000013e0014000407000000010c00040d000000010408000000012600040700000001' +
      '1e000400000000010400000000020403000000030440000000040480000000',
  },
} as const;
export type NftKeyType = keyof typeof keyTypes;

export interface NftSet {
  readonly name: string;
  readonly keyType: NftKeyType;
  /** Whether its elements are prefixes; single keys otherwise. Prefixes must not overlap. */
  readonly interval: boolean;
  /** The lifetime of an element; without it, elements stay until they are deleted. */
  readonly timeoutMs?: number;
  /** Rules add elements to it by `dynset`, at most this many. */
  readonly dynamicSize?: number;
  readonly elements: readonly NftElement[];
}
/** A key's bytes, or a prefix in a set of intervals. */
export type NftElement = Uint8Array | Prefix;

// Attributes of each object, and NFTA_LIST_ELEM.
const NFTA_LIST_ELEM = 1;
export const nftaTable = { NAME: 1 } as const;
const nftaGeneration = { ID: 1, PROC_NAME: 3 } as const;
export const nftaChain = { TABLE: 1, NAME: 3, HOOK: 4, POLICY: 5, TYPE: 7 } as const;
const nftaHook = { HOOKNUM: 1, PRIORITY: 2 } as const;
export const nftaRule = { TABLE: 1, CHAIN: 2, HANDLE: 3, EXPRESSIONS: 4, POSITION: 6, USERDATA: 7 } as const;
export const nftaSet = {
  TABLE: 1,
  NAME: 2,
  FLAGS: 3,
  KEY_TYPE: 4,
  KEY_LEN: 5,
  DESC: 9,
  ID: 10,
  TIMEOUT: 11,
  USERDATA: 13,
} as const;
const nftaSetDescription = { SIZE: 1 } as const;
export const nftaSetElementList = { TABLE: 1, SET: 2, ELEMENTS: 3 } as const;
const nftaSetElement = { KEY: 1, FLAGS: 3, EXPR: 7 } as const;
const NFT_SET_ANONYMOUS = 1;
const NFT_SET_INTERVAL = 4;
const NFT_SET_MAP = 8;
const NFT_SET_TIMEOUT = 16;
const NFT_SET_EVAL = 32;
const NFT_SET_ELEM_INTERVAL_END = 1;
/** libnftnl, include/libnftnl/udata.h */
const NFTNL_UDATA_RULE_COMMENT = 0;
/** nft(8)'s limit. */
export const commentLimitBytes = 128;

/** Bytes of `struct nfgenmsg` (nfnetlink.h): family, version, resource (big endian). */
export const nfgenmsgBytes = 4;
export function encodeNfgenmsg(writer: NetlinkWriter, family: number, resource = 0): void {
  writer.u8(family);
  writer.u8(0);
  writer.u16be(resource);
}
const familyNames = new Map<number, NftFamily>(
  (Object.keys(nfproto) as NftFamily[]).map((name) => [nfproto[name], name]),
);
const decodeFamily = (body: NetlinkReader): NftFamily | undefined => familyNames.get(body.u8(0));

const batchMessage = (type: number): NetlinkRequest =>
  makeRequest(
    type,
    0,
    () => 'change the packet filter',
    (writer) => encodeNfgenmsg(writer, 0, NFNL_SUBSYS_NFTABLES),
  );
export const batchBegin = batchMessage(nfnlBatch.NFNL_MSG_BATCH_BEGIN);
export const batchEnd = batchMessage(nfnlBatch.NFNL_MSG_BATCH_END);

/** The table that a request is about. */
export interface TableName {
  readonly family: NftFamily;
  readonly name: string;
}
const nameOf = ({ family, name }: TableName): string => `${family} ${name}`;

const change = (
  type: number,
  flags: number,
  action: () => Action,
  table: TableName,
  encode: (writer: NetlinkWriter) => void,
): NetlinkRequest =>
  makeRequest(type, flags, action, (writer) => {
    encodeNfgenmsg(writer, nfproto[table.family]);
    encode(writer);
  });

/** Creates the table if it is missing. */
export const newTable = (table: TableName): NetlinkRequest =>
  change(
    nftMessage.NFT_MSG_NEWTABLE,
    nlmsg.NLM_F_CREATE,
    () => ['create table', nameOf(table)],
    table,
    (writer) => writer.attributeText(nftaTable.NAME, table.name),
  );

/** Deletes the table and all in it; ENOENT where there is none. */
export const deleteTable = (table: TableName): NetlinkRequest =>
  change(
    nftMessage.NFT_MSG_DELTABLE,
    0,
    () => ['delete table', nameOf(table)],
    table,
    (writer) => writer.attributeText(nftaTable.NAME, table.name),
  );

/** Creates the chain, without its rules, if it is missing. */
export const newChain = (table: TableName, chain: NftChain): NetlinkRequest =>
  change(
    nftMessage.NFT_MSG_NEWCHAIN,
    nlmsg.NLM_F_CREATE,
    () => ['create chain', chain.name, `in table "${nameOf(table)}"`],
    table,
    (writer) => {
      writer.attributeText(nftaChain.TABLE, table.name);
      writer.attributeText(nftaChain.NAME, chain.name);
      if (!chain.base) return;
      const hook = writer.begin(nftaChain.HOOK);
      writer.attributeU32be(nftaHook.HOOKNUM, hookNumbers[chain.base.hook]);
      writer.attributeU32be(nftaHook.PRIORITY, chain.base.priority);
      writer.end(hook);
      writer.attributeU32be(nftaChain.POLICY, chain.base.policy === 'accept' ? 1 : 0);
      writer.attributeText(nftaChain.TYPE, chain.base.type);
    },
  );

const changeChain = (type: number, verb: string, table: TableName, chain: string, nameType: number): NetlinkRequest =>
  change(
    type,
    0,
    () => [`${verb} chain`, chain, `of table "${nameOf(table)}"`],
    table,
    (writer) => {
      writer.attributeText(nftaChain.TABLE, table.name);
      writer.attributeText(nameType, chain);
    },
  );

/** Deletes the chain with its rules; ENOENT where there is none, EBUSY where a rule jumps to it. */
export const deleteChain = (table: TableName, chain: string): NetlinkRequest =>
  changeChain(nftMessage.NFT_MSG_DELCHAIN, 'delete', table, chain, nftaChain.NAME);

/** Deletes the chain's rules; ENOENT where there is no such chain. */
export const flushChain = (table: TableName, chain: string): NetlinkRequest =>
  changeChain(nftMessage.NFT_MSG_DELRULE, 'empty', table, chain, nftaRule.CHAIN);

/** Adds a rule to a chain, which may be another program's: at its end, before all others, or before one (by its handle). */
export const newRule = (
  table: TableName,
  chain: string,
  rule: NftRule,
  place: 'last' | 'first' | number = 'last',
): NetlinkRequest =>
  change(
    nftMessage.NFT_MSG_NEWRULE,
    nlmsg.NLM_F_CREATE | (place === 'last' ? nlmsg.NLM_F_APPEND : 0),
    () =>
      rule.comment === undefined
        ? ['add rule to chain', chain, `of table "${nameOf(table)}"`]
        : ['add rule', rule.comment, `to chain "${chain}" of table "${nameOf(table)}"`],
    table,
    (writer) => {
      writer.attributeText(nftaRule.TABLE, table.name);
      writer.attributeText(nftaRule.CHAIN, chain);
      if (typeof place === 'number') writer.attributeU64be(nftaRule.POSITION, place);
      const list = writer.begin(nftaRule.EXPRESSIONS);
      for (const expression of rule.expressions) {
        const element = writer.begin(NFTA_LIST_ELEM);
        encodeExpression(writer, expression);
        writer.end(element);
      }
      writer.end(list);
      if (rule.comment !== undefined) encodeComment(writer, rule.comment);
    },
  );

/** Deletes one rule; ENOENT where it is gone. */
export const deleteRule = (table: TableName, chain: string, handle: number): NetlinkRequest =>
  change(
    nftMessage.NFT_MSG_DELRULE,
    0,
    () => [`delete rule ${handle} of chain`, chain, `of table "${nameOf(table)}"`],
    table,
    (writer) => {
      writer.attributeText(nftaRule.TABLE, table.name);
      writer.attributeText(nftaRule.CHAIN, chain);
      writer.attributeU64be(nftaRule.HANDLE, handle);
    },
  );

/** libnftnl's user data: type, length, text with its terminating zero. */
function encodeComment(writer: NetlinkWriter, comment: string): void {
  const start = writer.beginValue(nftaRule.USERDATA);
  writer.u8(NFTNL_UDATA_RULE_COMMENT);
  const at = writer.length;
  writer.u8(0);
  writer.text(comment);
  writer.u8(0);
  const length = writer.length - at - 1;
  if (length > commentLimitBytes + 1) throw new RangeError(`A rule's comment is too long: "${comment}"`);
  writer.setU8(at, length);
  writer.end(start);
}

function decodeComment(r: NetlinkReader): string | undefined {
  for (let at = 0; at + 2 <= r.length; at += 2 + r.u8(at + 1)) {
    if (r.u8(at) === NFTNL_UDATA_RULE_COMMENT) return r.textAt(at + 2, r.u8(at + 1));
  }
  return undefined;
}

/** Makes the set (without its elements). `id` tells the sets of one batch apart. */
export const newSet = (table: TableName, set: NftSet, id: number): NetlinkRequest =>
  change(
    nftMessage.NFT_MSG_NEWSET,
    nlmsg.NLM_F_CREATE,
    () => ['create set', set.name, `in table "${nameOf(table)}"`],
    table,
    (writer) => {
      writer.attributeText(nftaSet.TABLE, table.name);
      writer.attributeText(nftaSet.NAME, set.name);
      const timed = set.timeoutMs === undefined ? 0 : NFT_SET_TIMEOUT;
      const dynamic = set.dynamicSize === undefined ? 0 : NFT_SET_EVAL;
      writer.attributeU32be(nftaSet.FLAGS, (set.interval ? NFT_SET_INTERVAL : 0) | timed | dynamic);
      writer.attributeU32be(nftaSet.KEY_TYPE, keyTypes[set.keyType].number);
      writer.attributeU32be(nftaSet.KEY_LEN, keyTypes[set.keyType].lengthBytes);
      if (set.dynamicSize !== undefined) {
        const description = writer.begin(nftaSet.DESC);
        writer.attributeU32be(nftaSetDescription.SIZE, set.dynamicSize);
        writer.end(description);
      }
      writer.attributeU32be(nftaSet.ID, id);
      if (set.timeoutMs !== undefined) writer.attributeU64be(nftaSet.TIMEOUT, set.timeoutMs);
      const { userData } = keyTypes[set.keyType];
      if (userData !== '') writer.attributeBytes(nftaSet.USERDATA, fromHex(userData));
    },
  );

/** One element as the kernel has it: a key, and whether an interval ends before it. */
interface RawElement {
  readonly key: Uint8Array;
  readonly end: boolean;
  /** If rules count its packets. */
  readonly count?: { readonly packets: number; readonly bytes: number };
}

/** An interval is two elements: its first key, and the first one behind it (none at the end of the address space). */
function toRaw(element: NftElement): RawElement[] {
  if (element instanceof Uint8Array) return [{ key: element, end: false }];
  const behind = offsetAddress(lastAddressOf(element), 1);
  const first = { key: networkOf(element).address.bytes, end: false };
  return behind ? [first, { key: behind.bytes, end: true }] : [first];
}

/** An attribute's length is 16 bits; an element takes some 30 bytes. */
const elementsPerMessage = 1000;

function elementRequests(
  type: number,
  flags: number,
  verb: string,
  table: TableName,
  set: string,
  elements: readonly NftElement[],
): NetlinkRequest[] {
  const requests: NetlinkRequest[] = [];
  for (let at = 0; at < elements.length; at += elementsPerMessage) {
    const some = elements.slice(at, at + elementsPerMessage);
    const action = (): Action => [`${verb} ${some.length} elements: set`, set, `of table "${nameOf(table)}"`];
    requests.push(
      change(type, flags, action, table, (writer) => {
        writer.attributeText(nftaSetElementList.TABLE, table.name);
        writer.attributeText(nftaSetElementList.SET, set);
        const list = writer.begin(nftaSetElementList.ELEMENTS);
        for (const { key, end } of some.flatMap(toRaw)) {
          const element = writer.begin(NFTA_LIST_ELEM);
          encodeData(writer, nftaSetElement.KEY, key);
          if (end) writer.attributeU32be(nftaSetElement.FLAGS, NFT_SET_ELEM_INTERVAL_END);
          writer.end(element);
        }
        writer.end(list);
      }),
    );
  }
  return requests;
}

/** Adds elements; those that are there are fine. */
export const newElements = (table: TableName, set: string, elements: readonly NftElement[]): NetlinkRequest[] =>
  elementRequests(nftMessage.NFT_MSG_NEWSETELEM, nlmsg.NLM_F_CREATE, 'add', table, set, elements);

/** Deletes elements; ENOENT where one is missing. */
export const deleteElements = (table: TableName, set: string, elements: readonly NftElement[]): NetlinkRequest[] =>
  elementRequests(nftMessage.NFT_MSG_DELSETELEM, 0, 'delete', table, set, elements);

// Decoding: each of these takes the body of the kernel's NFT_MSG_NEW… message.

export function decodeTable(body: NetlinkReader): TableName | undefined {
  const family = decodeFamily(body);
  if (family === undefined) return undefined;
  let name = '';
  const r = body.attributes(nfgenmsgBytes, 'nft table');
  while (r.next()) if (r.type === nftaTable.NAME) name = r.text();
  return { family, name };
}

/** The packet filter's generation, and the program that caused it if the kernel reports that. */
export function decodeGeneration(body: NetlinkReader): { id: number | undefined; program: string | undefined } {
  let id: number | undefined;
  let program: string | undefined;
  const r = body.attributes(nfgenmsgBytes, 'nft generation');
  while (r.next()) {
    if (r.type === nftaGeneration.ID) id = r.u32be();
    else if (r.type === nftaGeneration.PROC_NAME) program = r.text();
  }
  return { id, program };
}

/** A chain as the kernel lists it: its table, itself, and no rules yet. */
export function decodeChain(body: NetlinkReader): { table: TableName; chain: NftChain } | undefined {
  const family = decodeFamily(body);
  if (family === undefined) return undefined;
  let tableName = '';
  let name = '';
  let type = '';
  let policy = 1;
  let hook: number | undefined;
  let priority = 0;
  const r = body.attributes(nfgenmsgBytes, 'nft chain');
  while (r.next()) {
    if (r.type === nftaChain.TABLE) tableName = r.text();
    else if (r.type === nftaChain.NAME) name = r.text();
    else if (r.type === nftaChain.TYPE) type = r.text();
    else if (r.type === nftaChain.POLICY) policy = r.u32be();
    else if (r.type === nftaChain.HOOK) {
      const h = r.nested();
      while (h.next()) {
        if (h.type === nftaHook.HOOKNUM) hook = h.u32be();
        else if (h.type === nftaHook.PRIORITY) priority = h.u32be() | 0;
      }
    }
  }
  const table = { family, name: tableName };
  const hookName = (Object.keys(hookNumbers) as NftHook[]).find((each) => hookNumbers[each] === hook);
  if (hookName === undefined) return { table, chain: { name, rules: [] } };
  const base = {
    type: type as 'filter' | 'nat' | 'route',
    hook: hookName,
    priority,
    policy: policy === 1 ? ('accept' as const) : ('drop' as const),
  };
  return { table, chain: { name, base, rules: [] } };
}

export function decodeRule(body: NetlinkReader): { chain: string; rule: NftRule } {
  let chain = '';
  const rule: { expressions: Expression[]; comment?: string; handle?: number } = { expressions: [] };
  const r = body.attributes(nfgenmsgBytes, 'nft rule');
  while (r.next()) {
    if (r.type === nftaRule.CHAIN) chain = r.text();
    else if (r.type === nftaRule.HANDLE) rule.handle = r.u64be();
    else if (r.type === nftaRule.EXPRESSIONS) {
      const list = r.nested();
      while (list.next()) rule.expressions.push(decodeExpression(list.nested()));
    } else if (r.type === nftaRule.USERDATA) {
      const comment = decodeComment(r);
      if (comment !== undefined) rule.comment = comment;
    }
  }
  return { chain, rule };
}

/** A set without its elements; undefined for a kind that Weft does not use (anonymous, a map, other keys). */
export function decodeSet(body: NetlinkReader): NftSet | undefined {
  let name = '';
  let flags = 0;
  let number = 0;
  let lengthBytes = 0;
  let timeoutMs: number | undefined;
  let size = 0;
  const r = body.attributes(nfgenmsgBytes, 'nft set');
  while (r.next()) {
    if (r.type === nftaSet.NAME) name = r.text();
    else if (r.type === nftaSet.FLAGS) flags = r.u32be();
    else if (r.type === nftaSet.KEY_TYPE) number = r.u32be();
    else if (r.type === nftaSet.KEY_LEN) lengthBytes = r.u32be();
    else if (r.type === nftaSet.TIMEOUT) timeoutMs = r.u64be();
    else if (r.type === nftaSet.DESC) {
      const description = r.nested();
      while (description.next()) if (description.type === nftaSetDescription.SIZE) size = description.u32be();
    }
  }
  const keyType = (Object.keys(keyTypes) as NftKeyType[]).find(
    (each) => keyTypes[each].number === number && keyTypes[each].lengthBytes === lengthBytes,
  );
  if (keyType === undefined || flags & (NFT_SET_ANONYMOUS | NFT_SET_MAP)) return undefined;
  const timed = timeoutMs === undefined ? {} : { timeoutMs };
  const dynamic = flags & NFT_SET_EVAL ? { dynamicSize: size } : {};
  return { name, keyType, interval: (flags & NFT_SET_INTERVAL) !== 0, ...timed, ...dynamic, elements: [] };
}

/** Some elements of a set (a large one comes in several messages). */
export function decodeElements(body: NetlinkReader): RawElement[] {
  const elements: RawElement[] = [];
  const r = body.attributes(nfgenmsgBytes, 'nft set elements');
  while (r.next()) {
    if (r.type !== nftaSetElementList.ELEMENTS) continue;
    const list = r.nested();
    while (list.next()) {
      const element = list.nested();
      let key: Uint8Array | undefined;
      let flags = 0;
      let counted: Expression | undefined;
      while (element.next()) {
        if (element.type === nftaSetElement.KEY) key = decodeData(element);
        else if (element.type === nftaSetElement.FLAGS) flags = element.u32be();
        else if (element.type === nftaSetElement.EXPR) counted = decodeExpression(element.nested());
      }
      if (!key) continue;
      const end = (flags & NFT_SET_ELEM_INTERVAL_END) !== 0;
      if (counted?.type !== 'counter') elements.push({ key, end });
      else elements.push({ key, end, count: { packets: counted.packets, bytes: counted.bytes } });
    }
  }
  return elements;
}

/** The elements as sorted texts, for comparing with those of `NftSet.elements`. */
export function elementTexts(elements: readonly RawElement[]): string[] {
  return elements
    .map(({ key, end }) => `${hex(key)}${end ? ' end' : ''}`)
    .sort()
    .filter((text, i, all) => text !== all[i - 1]);
}
/** The number of distinct elements. */
export const countElements = (elements: readonly RawElement[]): number =>
  new Set(elements.map(({ key, end }) => `${String.fromCharCode(...key)}${end ? ' end' : ''}`)).size;
export const rawElements = (elements: readonly NftElement[]): RawElement[] => elements.flatMap(toRaw);
const fromHex = (text: string): Uint8Array =>
  Uint8Array.from(text.match(/../g) ?? [], (pair) => Number.parseInt(pair, 16));
const hex = (bytes: Uint8Array): string => Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');

/** Combines the elements of a set of intervals into prefixes. */
export function toElements(set: NftSet, raw: readonly RawElement[]): NftElement[] {
  if (!set.interval) return raw.map(({ key }) => key);
  const family = set.keyType === 'ipv4_addr' ? 4 : 6;
  const address = (key: Uint8Array): Address => ({ family, bytes: key });
  const sorted = [...raw].sort((a, b) =>
    hex(a.key) < hex(b.key) ? -1 : hex(a.key) > hex(b.key) ? 1 : +b.end - +a.end,
  );
  const prefixes: Prefix[] = [];
  for (let i = 0; i < sorted.length; i++) {
    if (sorted[i]!.end) continue;
    const end = sorted[i + 1];
    const first = address(sorted[i]!.key);
    const bits = first.bytes.length * 8;
    // The longest prefix that ends where the interval ends. Weft makes no interval that is not a prefix.
    for (let length = 0; length <= bits; length++) {
      const prefix = { address: first, length };
      if (hex(networkOf(prefix).address.bytes) !== hex(first.bytes)) continue;
      const behind = offsetAddress(lastAddressOf(prefix), 1);
      if (end?.end ? behind && hex(behind.bytes) === hex(end.key) : !behind) {
        prefixes.push(prefix);
        break;
      }
    }
  }
  return prefixes;
}
