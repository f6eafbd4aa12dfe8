/**
 * nf_tables' expressions, the instructions that a rule is made of: include/uapi/linux/netfilter/nf_tables.h. Most load
 * something into a register or compare one; a rule goes on to its next expression as long as each one holds.
 * Rules are better written with match.ts.
 *
 * Decoding is lossless: an expression that is not known here, or has an attribute that is not, comes as 'other' with
 * its bytes.
 */

import type { NetlinkReader, NetlinkWriter } from '../netlink/wire.ts';

/** enum nft_registers */
export const nftRegister = { NFT_REG_VERDICT: 0, NFT_REG_1: 1, NFT_REG_2: 2, NFT_REG_3: 3, NFT_REG_4: 4 } as const;

/** enum nft_meta_keys */
export const nftMeta = {
  NFT_META_PROTOCOL: 1,
  NFT_META_MARK: 3,
  NFT_META_IIF: 4,
  NFT_META_OIF: 5,
  NFT_META_IIFNAME: 6,
  NFT_META_OIFNAME: 7,
  NFT_META_IIFTYPE: 8,
  NFT_META_NFPROTO: 15,
  NFT_META_L4PROTO: 16,
} as const;

/** enum nft_ct_keys */
export const nftCt = { NFT_CT_STATE: 0, NFT_CT_STATUS: 2, NFT_CT_MARK: 3 } as const;

/** enum nft_payload_bases */
export const nftPayload = {
  NFT_PAYLOAD_LL_HEADER: 0,
  NFT_PAYLOAD_NETWORK_HEADER: 1,
  NFT_PAYLOAD_TRANSPORT_HEADER: 2,
} as const;

/** enum nft_fib_result, enum nft_fib_flags */
export const nftFib = { NFT_FIB_RESULT_ADDRTYPE: 3, NFTA_FIB_F_SADDR: 1, NFTA_FIB_F_DADDR: 2 } as const;

/** include/uapi/linux/netfilter/nf_nat.h */
export const nfNatRange = {
  NF_NAT_RANGE_PROTO_RANDOM: 4,
  NF_NAT_RANGE_PERSISTENT: 8,
  NF_NAT_RANGE_PROTO_RANDOM_FULLY: 16,
} as const;

/** In the order of enum nft_cmp_ops. */
const comparisons = ['==', '!=', '<', '<=', '>', '>='] as const;
export type Comparison = (typeof comparisons)[number];

/** enum nft_verdicts; NF_DROP and NF_ACCEPT of include/uapi/linux/netfilter.h */
const verdictCodes = { drop: 0, accept: 1, continue: -1, jump: -3, goto: -4, return: -5 } as const;
export type VerdictName = keyof typeof verdictCodes;

export interface Verdict {
  readonly verdict: VerdictName;
  /** Of 'jump' and 'goto'. */
  readonly chain?: string;
}

export type Expression =
  /** Loads what is known of the packet beside its bytes. `key`: NFT_META_*. */
  | { readonly type: 'meta'; readonly key: number; readonly register: number }
  | { readonly type: 'meta set'; readonly key: number; readonly source: number }
  /** Loads from the packet's connection. `key`: NFT_CT_*; `direction` where the key has one. */
  | { readonly type: 'ct'; readonly key: number; readonly register: number; readonly direction?: number }
  | { readonly type: 'ct set'; readonly key: number; readonly source: number }
  /** Loads `lengthBytes` at `offset` of a header. `base`: NFT_PAYLOAD_*. */
  | {
      readonly type: 'payload';
      readonly base: number;
      readonly offset: number;
      readonly lengthBytes: number;
      readonly register: number;
    }
  /** register = (source & mask) ^ xor */
  | {
      readonly type: 'bitwise';
      readonly source: number;
      readonly register: number;
      readonly mask: Uint8Array;
      readonly xor: Uint8Array;
    }
  | { readonly type: 'cmp'; readonly source: number; readonly op: Comparison; readonly value: Uint8Array }
  /** Whether the register is (not) from `from` to `to`, both included. */
  | {
      readonly type: 'range';
      readonly source: number;
      readonly inverted: boolean;
      readonly from: Uint8Array;
      readonly to: Uint8Array;
    }
  /** Whether the register is (not) in the set. */
  | { readonly type: 'lookup'; readonly source: number; readonly set: string; readonly inverted: boolean }
  | { readonly type: 'immediate'; readonly register: number; readonly value: Uint8Array }
  | ({ readonly type: 'verdict' } & Verdict)
  | { readonly type: 'counter'; readonly packets: number; readonly bytes: number }
  /** `flags`: NF_NAT_RANGE_*. */
  | { readonly type: 'masq'; readonly flags: number }
  /** Loads what the routing table says. `result`: NFT_FIB_RESULT_*, `flags`: NFTA_FIB_F_*. */
  | { readonly type: 'fib'; readonly result: number; readonly flags: number; readonly register: number }
  | { readonly type: 'other'; readonly name: string; readonly data: Uint8Array };

// NFTA_EXPR_*, NFTA_DATA_*, NFTA_VERDICT_*; the attributes of each expression are numbered beside their use.
const NFTA_EXPR_NAME = 1;
const NFTA_EXPR_DATA = 2;
const NFTA_DATA_VALUE = 1;
const NFTA_DATA_VERDICT = 2;
const NFTA_VERDICT_CODE = 1;
const NFTA_VERDICT_CHAIN = 2;

/** An NFTA_DATA_VALUE inside an attribute. */
export function encodeData(writer: NetlinkWriter, type: number, value: Uint8Array): void {
  const start = writer.begin(type);
  writer.attributeBytes(NFTA_DATA_VALUE, value);
  writer.end(start);
}

/** The NFTA_DATA_VALUE inside the current attribute. */
export function decodeData(r: NetlinkReader): Uint8Array | undefined {
  const data = r.nested();
  let value: Uint8Array | undefined;
  while (data.next()) if (data.type === NFTA_DATA_VALUE) value = data.bytes();
  return value;
}

/** The kernel's name of the expression. */
function nameOf(expression: Expression): string {
  switch (expression.type) {
    case 'meta set':
      return 'meta';
    case 'ct set':
      return 'ct';
    case 'verdict':
      return 'immediate';
    case 'other':
      return expression.name;
    default:
      return expression.type;
  }
}

/** NFTA_EXPR_NAME and NFTA_EXPR_DATA. */
export function encodeExpression(writer: NetlinkWriter, expression: Expression): void {
  writer.attributeText(NFTA_EXPR_NAME, nameOf(expression));
  const data = writer.begin(NFTA_EXPR_DATA);
  encodeExpressionData(writer, expression);
  writer.end(data);
}

function encodeExpressionData(writer: NetlinkWriter, e: Expression): void {
  switch (e.type) {
    case 'meta': // NFTA_META_DREG 1, KEY 2, SREG 3
      writer.attributeU32be(2, e.key);
      writer.attributeU32be(1, e.register);
      break;
    case 'meta set':
      writer.attributeU32be(2, e.key);
      writer.attributeU32be(3, e.source);
      break;
    case 'ct': // NFTA_CT_DREG 1, KEY 2, DIRECTION 3, SREG 4
      writer.attributeU32be(1, e.register);
      writer.attributeU32be(2, e.key);
      if (e.direction !== undefined) writer.attributeU8(3, e.direction);
      break;
    case 'ct set':
      writer.attributeU32be(2, e.key);
      writer.attributeU32be(4, e.source);
      break;
    case 'payload': // NFTA_PAYLOAD_DREG 1, BASE 2, OFFSET 3, LEN 4
      writer.attributeU32be(1, e.register);
      writer.attributeU32be(2, e.base);
      writer.attributeU32be(3, e.offset);
      writer.attributeU32be(4, e.lengthBytes);
      break;
    case 'bitwise': // NFTA_BITWISE_SREG 1, DREG 2, LEN 3, MASK 4, XOR 5
      writer.attributeU32be(1, e.source);
      writer.attributeU32be(2, e.register);
      writer.attributeU32be(3, e.mask.length);
      encodeData(writer, 4, e.mask);
      encodeData(writer, 5, e.xor);
      break;
    case 'cmp': // NFTA_CMP_SREG 1, OP 2, DATA 3
      writer.attributeU32be(1, e.source);
      writer.attributeU32be(2, comparisons.indexOf(e.op));
      encodeData(writer, 3, e.value);
      break;
    case 'range': // NFTA_RANGE_SREG 1, OP 2, FROM_DATA 3, TO_DATA 4
      writer.attributeU32be(1, e.source);
      writer.attributeU32be(2, e.inverted ? 1 : 0);
      encodeData(writer, 3, e.from);
      encodeData(writer, 4, e.to);
      break;
    case 'lookup': // NFTA_LOOKUP_SET 1, SREG 2, DREG 3, SET_ID 4, FLAGS 5
      writer.attributeText(1, e.set);
      writer.attributeU32be(2, e.source);
      writer.attributeU32be(5, e.inverted ? 1 : 0);
      break;
    case 'immediate': // NFTA_IMMEDIATE_DREG 1, DATA 2
      writer.attributeU32be(1, e.register);
      encodeData(writer, 2, e.value);
      break;
    case 'verdict': {
      writer.attributeU32be(1, nftRegister.NFT_REG_VERDICT);
      const data = writer.begin(2);
      const verdict = writer.begin(NFTA_DATA_VERDICT);
      writer.attributeU32be(NFTA_VERDICT_CODE, verdictCodes[e.verdict] >>> 0);
      if (e.chain !== undefined) writer.attributeText(NFTA_VERDICT_CHAIN, e.chain);
      writer.end(verdict);
      writer.end(data);
      break;
    }
    case 'counter': // NFTA_COUNTER_BYTES 1, PACKETS 2
      writer.attributeU64be(1, e.bytes);
      writer.attributeU64be(2, e.packets);
      break;
    case 'masq': // NFTA_MASQ_FLAGS 1
      if (e.flags !== 0) writer.attributeU32be(1, e.flags);
      break;
    case 'fib': // NFTA_FIB_DREG 1, RESULT 2, FLAGS 3
      writer.attributeU32be(1, e.register);
      writer.attributeU32be(2, e.result);
      writer.attributeU32be(3, e.flags);
      break;
    case 'other':
      writer.bytes(e.data);
      break;
  }
}

/** From the attributes of one expression. */
export function decodeExpression(r: NetlinkReader): Expression {
  let name = '';
  let raw: Uint8Array | undefined;
  let known: Expression | undefined;
  while (r.next()) {
    if (r.type === NFTA_EXPR_NAME) name = r.text();
    else if (r.type === NFTA_EXPR_DATA) {
      raw = r.bytes();
      known = decodeExpressionData(name, r.nested());
    }
  }
  // One without attributes may come without NFTA_EXPR_DATA.
  if (name === 'masq' && !raw) return { type: 'masq', flags: 0 };
  return known ?? { type: 'other', name, data: raw ?? new Uint8Array(0) };
}

/** Attributes of one expression: numbers (big endian), data and texts by attribute number. */
class Fields {
  private readonly seen = new Map<number, number | string | Uint8Array>();
  /** @param shapes what to read each attribute as; 'pad' leaves it out. One that has no shape spoils the whole. */
  static read(
    r: NetlinkReader,
    shapes: Readonly<Record<number, 'number' | 'small' | 'long' | 'data' | 'text' | 'pad'>>,
  ): Fields | undefined {
    const fields = new Fields();
    while (r.next()) {
      const shape = shapes[r.type];
      if (shape === undefined) return undefined;
      if (shape === 'number') fields.seen.set(r.type, r.u32be());
      else if (shape === 'small') fields.seen.set(r.type, r.u8());
      else if (shape === 'long') fields.seen.set(r.type, r.u64be());
      else if (shape === 'text') fields.seen.set(r.type, r.text());
      else if (shape === 'data') {
        const value = decodeData(r);
        if (!value) return undefined;
        fields.seen.set(r.type, value);
      }
    }
    return fields;
  }
  has(type: number): boolean {
    return this.seen.has(type);
  }
  number(type: number): number {
    return (this.seen.get(type) as number | undefined) ?? 0;
  }
  data(type: number): Uint8Array {
    return (this.seen.get(type) as Uint8Array | undefined) ?? new Uint8Array(0);
  }
  text(type: number): string {
    return (this.seen.get(type) as string | undefined) ?? '';
  }
}

/** Undefined where it is not known, or not in this shape. */
function decodeExpressionData(name: string, r: NetlinkReader): Expression | undefined {
  switch (name) {
    case 'meta': {
      const f = Fields.read(r, { 1: 'number', 2: 'number', 3: 'number' });
      if (!f) return undefined;
      return f.has(3)
        ? { type: 'meta set', key: f.number(2), source: f.number(3) }
        : { type: 'meta', key: f.number(2), register: f.number(1) };
    }
    case 'ct': {
      const f = Fields.read(r, { 1: 'number', 2: 'number', 3: 'small', 4: 'number' });
      if (!f) return undefined;
      if (f.has(4)) return f.has(3) ? undefined : { type: 'ct set', key: f.number(2), source: f.number(4) };
      const load = { type: 'ct', key: f.number(2), register: f.number(1) } as const;
      return f.has(3) ? { ...load, direction: f.number(3) } : load;
    }
    case 'payload': {
      const f = Fields.read(r, { 1: 'number', 2: 'number', 3: 'number', 4: 'number' });
      if (!f?.has(1)) return undefined;
      return {
        type: 'payload',
        base: f.number(2),
        offset: f.number(3),
        lengthBytes: f.number(4),
        register: f.number(1),
      };
    }
    case 'bitwise': {
      const f = Fields.read(r, { 1: 'number', 2: 'number', 3: 'number', 4: 'data', 5: 'data', 6: 'number' });
      // NFTA_BITWISE_OP 6: 0 is mask and xor.
      if (f?.number(6) !== 0) return undefined;
      return { type: 'bitwise', source: f.number(1), register: f.number(2), mask: f.data(4), xor: f.data(5) };
    }
    case 'cmp': {
      const f = Fields.read(r, { 1: 'number', 2: 'number', 3: 'data' });
      const op = f && comparisons[f.number(2)];
      return op && { type: 'cmp', source: f.number(1), op, value: f.data(3) };
    }
    case 'range': {
      const f = Fields.read(r, { 1: 'number', 2: 'number', 3: 'data', 4: 'data' });
      return f && { type: 'range', source: f.number(1), inverted: f.number(2) === 1, from: f.data(3), to: f.data(4) };
    }
    case 'lookup': {
      // With a destination register (3) it is a map's. The set's number (4) is for those that send a batch.
      const f = Fields.read(r, { 1: 'text', 2: 'number', 4: 'pad', 5: 'number' });
      return f && { type: 'lookup', source: f.number(2), set: f.text(1), inverted: f.number(5) === 1 };
    }
    case 'immediate':
      return decodeImmediate(r);
    case 'counter': {
      const f = Fields.read(r, { 1: 'long', 2: 'long', 3: 'pad' });
      return f && { type: 'counter', packets: f.number(2), bytes: f.number(1) };
    }
    case 'masq': {
      const f = Fields.read(r, { 1: 'number' });
      return f && { type: 'masq', flags: f.number(1) };
    }
    case 'fib': {
      const f = Fields.read(r, { 1: 'number', 2: 'number', 3: 'number' });
      return f && { type: 'fib', result: f.number(2), flags: f.number(3), register: f.number(1) };
    }
    default:
      return undefined;
  }
}

function decodeImmediate(r: NetlinkReader): Expression | undefined {
  let register = 0;
  let value: Uint8Array | undefined;
  let code: number | undefined;
  let chain: string | undefined;
  while (r.next()) {
    if (r.type === 1) register = r.u32be();
    else if (r.type === 2) {
      const data = r.nested();
      while (data.next()) {
        if (data.type === NFTA_DATA_VALUE) value = data.bytes();
        if (data.type !== NFTA_DATA_VERDICT) continue;
        const verdict = data.nested();
        while (verdict.next()) {
          if (verdict.type === NFTA_VERDICT_CODE) code = verdict.u32be() | 0;
          else if (verdict.type === NFTA_VERDICT_CHAIN) chain = verdict.text();
        }
      }
    } else return undefined;
  }
  if (value) return { type: 'immediate', register, value };
  const verdict = (Object.keys(verdictCodes) as VerdictName[]).find((name) => verdictCodes[name] === code);
  if (verdict === undefined) return undefined;
  return chain === undefined ? { type: 'verdict', verdict } : { type: 'verdict', verdict, chain };
}

/** Text that is the same for two expressions if they do the same: counts do not matter. For comparing and reading. */
export function formatExpression(expression: Expression): string {
  if (expression.type === 'counter') return '{"type":"counter"}';
  return JSON.stringify(expression, (_key, value) =>
    value instanceof Uint8Array ? Array.from(value, (byte) => byte.toString(16).padStart(2, '0')).join('') : value,
  );
}
