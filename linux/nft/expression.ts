/**
 * nf_tables' expressions, the instructions that a rule is made of: include/uapi/linux/netfilter/nf_tables.h. Most load
 * something into a register or compare one; a rule goes on to its next expression as long as each one holds. Rules are
 * better written with match.ts.
 *
 * Decoding is lossless: an unknown expression, or one with an unknown attribute, becomes 'other' with its bytes.
 *
 * The file is long because each expression has an encoder and a decoder that are read side by side.
 */

import type { NetlinkReader, NetlinkWriter } from '../netlink/wire.ts';

/** enum nft_registers. NFT_REG32_01 is the second quarter of NFT_REG_1: the next one for values of 4 bytes. */
export const nftRegister = {
  NFT_REG_VERDICT: 0,
  NFT_REG_1: 1,
  NFT_REG_2: 2,
  NFT_REG_3: 3,
  NFT_REG_4: 4,
  NFT_REG32_01: 9,
} as const;

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
export const nftFib = {
  NFT_FIB_RESULT_OIF: 1,
  NFT_FIB_RESULT_ADDRTYPE: 3,
  NFTA_FIB_F_SADDR: 1,
  NFTA_FIB_F_DADDR: 2,
  NFTA_FIB_F_IIF: 8,
  NFTA_FIB_F_PRESENT: 32,
} as const;

/** enum nft_dynset_ops */
const dynsetOperations = ['add', 'update'] as const;

/** enum nft_exthdr_op, enum nft_exthdr_flags */
const nftExthdr = { NFT_EXTHDR_OP_IPV6: 0, NFT_EXTHDR_F_PRESENT: 1 } as const;

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
  /** The target of 'jump' and 'goto'. */
  readonly chain?: string;
}

export type Expression =
  /** Loads metadata of the packet. `key`: NFT_META_*. */
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
  /** Loads a result of the routing table. `result`: NFT_FIB_RESULT_*, `flags`: NFTA_FIB_F_*. */
  | { readonly type: 'fib'; readonly result: number; readonly flags: number; readonly register: number }
  /**
   * Adds the register's value to a set, where the kernel counts its packets; 'update' restarts the element's time. If the
   * set is full, the rule ends here.
   */
  | {
      readonly type: 'dynset';
      readonly set: string;
      readonly source: number;
      readonly operation: (typeof dynsetOperations)[number];
    }
  /** Loads 1 if the packet has the IPv6 extension header (its number), else 0. */
  | { readonly type: 'exthdr'; readonly header: number; readonly register: number }
  /** The packet's connection is not tracked. */
  | { readonly type: 'notrack' }
  | { readonly type: 'other'; readonly name: string; readonly data: Uint8Array };

// NFTA_EXPR_*, NFTA_DATA_*, NFTA_VERDICT_*; the attributes of each expression stand further down.
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

/** enum nft_*_attributes: NFTA_META_DREG and so on, by the expression they are of. */
const nftaMeta = { DREG: 1, KEY: 2, SREG: 3 } as const;
const nftaCt = { DREG: 1, KEY: 2, DIRECTION: 3, SREG: 4 } as const;
const nftaPayload = { DREG: 1, BASE: 2, OFFSET: 3, LEN: 4 } as const;
const nftaBitwise = { SREG: 1, DREG: 2, LEN: 3, MASK: 4, XOR: 5, OP: 6 } as const;
const nftaCmp = { SREG: 1, OP: 2, DATA: 3 } as const;
const nftaRange = { SREG: 1, OP: 2, FROM_DATA: 3, TO_DATA: 4 } as const;
const nftaLookup = { SET: 1, SREG: 2, DREG: 3, SET_ID: 4, FLAGS: 5 } as const;
const nftaImmediate = { DREG: 1, DATA: 2 } as const;
const nftaCounter = { BYTES: 1, PACKETS: 2, PAD: 3 } as const;
const nftaMasq = { FLAGS: 1 } as const;
const nftaFib = { DREG: 1, RESULT: 2, FLAGS: 3 } as const;
const nftaDynset = { SET_NAME: 1, SET_ID: 2, OP: 3, SREG_KEY: 4, TIMEOUT: 6, EXPR: 7, PAD: 8, FLAGS: 9 } as const;
const nftaExthdr = { DREG: 1, TYPE: 2, OFFSET: 3, LEN: 4, FLAGS: 5, OP: 6 } as const;

function encodeExpressionData(writer: NetlinkWriter, e: Expression): void {
  switch (e.type) {
    case 'meta':
      writer.attributeU32be(nftaMeta.KEY, e.key);
      writer.attributeU32be(nftaMeta.DREG, e.register);
      break;
    case 'meta set':
      writer.attributeU32be(nftaMeta.KEY, e.key);
      writer.attributeU32be(nftaMeta.SREG, e.source);
      break;
    case 'ct':
      writer.attributeU32be(nftaCt.DREG, e.register);
      writer.attributeU32be(nftaCt.KEY, e.key);
      if (e.direction !== undefined) writer.attributeU8(nftaCt.DIRECTION, e.direction);
      break;
    case 'ct set':
      writer.attributeU32be(nftaCt.KEY, e.key);
      writer.attributeU32be(nftaCt.SREG, e.source);
      break;
    case 'payload':
      writer.attributeU32be(nftaPayload.DREG, e.register);
      writer.attributeU32be(nftaPayload.BASE, e.base);
      writer.attributeU32be(nftaPayload.OFFSET, e.offset);
      writer.attributeU32be(nftaPayload.LEN, e.lengthBytes);
      break;
    case 'bitwise':
      writer.attributeU32be(nftaBitwise.SREG, e.source);
      writer.attributeU32be(nftaBitwise.DREG, e.register);
      writer.attributeU32be(nftaBitwise.LEN, e.mask.length);
      encodeData(writer, nftaBitwise.MASK, e.mask);
      encodeData(writer, nftaBitwise.XOR, e.xor);
      break;
    case 'cmp':
      writer.attributeU32be(nftaCmp.SREG, e.source);
      writer.attributeU32be(nftaCmp.OP, comparisons.indexOf(e.op));
      encodeData(writer, nftaCmp.DATA, e.value);
      break;
    case 'range':
      writer.attributeU32be(nftaRange.SREG, e.source);
      writer.attributeU32be(nftaRange.OP, e.inverted ? 1 : 0);
      encodeData(writer, nftaRange.FROM_DATA, e.from);
      encodeData(writer, nftaRange.TO_DATA, e.to);
      break;
    case 'lookup':
      writer.attributeText(nftaLookup.SET, e.set);
      writer.attributeU32be(nftaLookup.SREG, e.source);
      writer.attributeU32be(nftaLookup.FLAGS, e.inverted ? 1 : 0);
      break;
    case 'immediate':
      writer.attributeU32be(nftaImmediate.DREG, e.register);
      encodeData(writer, nftaImmediate.DATA, e.value);
      break;
    case 'verdict': {
      writer.attributeU32be(nftaImmediate.DREG, nftRegister.NFT_REG_VERDICT);
      const data = writer.begin(nftaImmediate.DATA);
      const verdict = writer.begin(NFTA_DATA_VERDICT);
      writer.attributeU32be(NFTA_VERDICT_CODE, verdictCodes[e.verdict] >>> 0);
      if (e.chain !== undefined) writer.attributeText(NFTA_VERDICT_CHAIN, e.chain);
      writer.end(verdict);
      writer.end(data);
      break;
    }
    case 'counter':
      writer.attributeU64be(nftaCounter.BYTES, e.bytes);
      writer.attributeU64be(nftaCounter.PACKETS, e.packets);
      break;
    case 'masq':
      if (e.flags !== 0) writer.attributeU32be(nftaMasq.FLAGS, e.flags);
      break;
    case 'fib':
      writer.attributeU32be(nftaFib.DREG, e.register);
      writer.attributeU32be(nftaFib.RESULT, e.result);
      writer.attributeU32be(nftaFib.FLAGS, e.flags);
      break;
    case 'dynset': {
      writer.attributeText(nftaDynset.SET_NAME, e.set);
      writer.attributeU32be(nftaDynset.OP, dynsetOperations.indexOf(e.operation));
      writer.attributeU32be(nftaDynset.SREG_KEY, e.source);
      const counting = writer.begin(nftaDynset.EXPR);
      encodeExpression(writer, { type: 'counter', packets: 0, bytes: 0 });
      writer.end(counting);
      break;
    }
    case 'exthdr':
      writer.attributeU32be(nftaExthdr.DREG, e.register);
      writer.attributeU8(nftaExthdr.TYPE, e.header);
      writer.attributeU32be(nftaExthdr.OFFSET, 0);
      writer.attributeU32be(nftaExthdr.LEN, 1);
      writer.attributeU32be(nftaExthdr.FLAGS, nftExthdr.NFT_EXTHDR_F_PRESENT);
      writer.attributeU32be(nftaExthdr.OP, nftExthdr.NFT_EXTHDR_OP_IPV6);
      break;
    case 'notrack':
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
  // An expression without attributes may come without NFTA_EXPR_DATA.
  if (name === 'masq' && !raw) return { type: 'masq', flags: 0 };
  if (name === 'notrack' && !raw) return { type: 'notrack' };
  return known ?? { type: 'other', name, data: raw ?? new Uint8Array(0) };
}

/** Attributes of one expression: numbers (big endian), data and texts by attribute number. */
class Fields {
  readonly #seen = new Map<number, number | string | Uint8Array>();
  /**
   * @param shapes how each attribute is read; 'pad' skips it, 'expression' keeps its name. An attribute that is not listed makes the result
   *   undefined.
   */
  static read(
    r: NetlinkReader,
    shapes: Readonly<Record<number, 'number' | 'small' | 'long' | 'data' | 'text' | 'pad' | 'expression'>>,
  ): Fields | undefined {
    const fields = new Fields();
    while (r.next()) {
      const shape = shapes[r.type];
      if (shape === undefined) return undefined;
      if (shape === 'number') fields.#seen.set(r.type, r.u32be());
      else if (shape === 'small') fields.#seen.set(r.type, r.u8());
      else if (shape === 'long') fields.#seen.set(r.type, r.u64be());
      else if (shape === 'text') fields.#seen.set(r.type, r.text());
      else if (shape === 'expression') fields.#seen.set(r.type, decodeExpression(r.nested()).type);
      else if (shape === 'data') {
        const value = decodeData(r);
        if (!value) return undefined;
        fields.#seen.set(r.type, value);
      }
    }
    return fields;
  }
  has(type: number): boolean {
    return this.#seen.has(type);
  }
  number(type: number): number {
    return (this.#seen.get(type) as number | undefined) ?? 0;
  }
  data(type: number): Uint8Array {
    return (this.#seen.get(type) as Uint8Array | undefined) ?? new Uint8Array(0);
  }
  text(type: number): string {
    return (this.#seen.get(type) as string | undefined) ?? '';
  }
}

/** Undefined if the expression or one of its attributes is unknown. */
function decodeExpressionData(name: string, r: NetlinkReader): Expression | undefined {
  switch (name) {
    case 'meta': {
      const f = Fields.read(r, { [nftaMeta.DREG]: 'number', [nftaMeta.KEY]: 'number', [nftaMeta.SREG]: 'number' });
      if (!f) return undefined;
      return f.has(nftaMeta.SREG)
        ? { type: 'meta set', key: f.number(nftaMeta.KEY), source: f.number(nftaMeta.SREG) }
        : { type: 'meta', key: f.number(nftaMeta.KEY), register: f.number(nftaMeta.DREG) };
    }
    case 'ct': {
      const f = Fields.read(r, {
        [nftaCt.DREG]: 'number',
        [nftaCt.KEY]: 'number',
        [nftaCt.DIRECTION]: 'small',
        [nftaCt.SREG]: 'number',
      });
      if (!f) return undefined;
      if (f.has(nftaCt.SREG))
        return f.has(nftaCt.DIRECTION)
          ? undefined
          : { type: 'ct set', key: f.number(nftaCt.KEY), source: f.number(nftaCt.SREG) };
      const load = { type: 'ct', key: f.number(nftaCt.KEY), register: f.number(nftaCt.DREG) } as const;
      return f.has(nftaCt.DIRECTION) ? { ...load, direction: f.number(nftaCt.DIRECTION) } : load;
    }
    case 'payload': {
      const f = Fields.read(r, {
        [nftaPayload.DREG]: 'number',
        [nftaPayload.BASE]: 'number',
        [nftaPayload.OFFSET]: 'number',
        [nftaPayload.LEN]: 'number',
      });
      if (!f?.has(nftaPayload.DREG)) return undefined;
      return {
        type: 'payload',
        base: f.number(nftaPayload.BASE),
        offset: f.number(nftaPayload.OFFSET),
        lengthBytes: f.number(nftaPayload.LEN),
        register: f.number(nftaPayload.DREG),
      };
    }
    case 'bitwise': {
      const f = Fields.read(r, {
        [nftaBitwise.SREG]: 'number',
        [nftaBitwise.DREG]: 'number',
        [nftaBitwise.LEN]: 'number',
        [nftaBitwise.MASK]: 'data',
        [nftaBitwise.XOR]: 'data',
        [nftaBitwise.OP]: 'number',
      });
      // Operation 0 is mask and xor.
      if (f?.number(nftaBitwise.OP) !== 0) return undefined;
      return {
        type: 'bitwise',
        source: f.number(nftaBitwise.SREG),
        register: f.number(nftaBitwise.DREG),
        mask: f.data(nftaBitwise.MASK),
        xor: f.data(nftaBitwise.XOR),
      };
    }
    case 'cmp': {
      const f = Fields.read(r, { [nftaCmp.SREG]: 'number', [nftaCmp.OP]: 'number', [nftaCmp.DATA]: 'data' });
      const op = f && comparisons[f.number(nftaCmp.OP)];
      return op && { type: 'cmp', source: f.number(nftaCmp.SREG), op, value: f.data(nftaCmp.DATA) };
    }
    case 'range': {
      const f = Fields.read(r, {
        [nftaRange.SREG]: 'number',
        [nftaRange.OP]: 'number',
        [nftaRange.FROM_DATA]: 'data',
        [nftaRange.TO_DATA]: 'data',
      });
      return (
        f && {
          type: 'range',
          source: f.number(nftaRange.SREG),
          inverted: f.number(nftaRange.OP) === 1,
          from: f.data(nftaRange.FROM_DATA),
          to: f.data(nftaRange.TO_DATA),
        }
      );
    }
    case 'lookup': {
      // A lookup in a map has a destination register. The set's number is for senders of a batch.
      const f = Fields.read(r, {
        [nftaLookup.SET]: 'text',
        [nftaLookup.SREG]: 'number',
        [nftaLookup.SET_ID]: 'pad',
        [nftaLookup.FLAGS]: 'number',
      });
      return (
        f && {
          type: 'lookup',
          source: f.number(nftaLookup.SREG),
          set: f.text(nftaLookup.SET),
          inverted: f.number(nftaLookup.FLAGS) === 1,
        }
      );
    }
    case 'immediate':
      return decodeImmediate(r);
    case 'counter': {
      const f = Fields.read(r, {
        [nftaCounter.BYTES]: 'long',
        [nftaCounter.PACKETS]: 'long',
        [nftaCounter.PAD]: 'pad',
      });
      return f && { type: 'counter', packets: f.number(nftaCounter.PACKETS), bytes: f.number(nftaCounter.BYTES) };
    }
    case 'masq': {
      const f = Fields.read(r, { [nftaMasq.FLAGS]: 'number' });
      return f && { type: 'masq', flags: f.number(nftaMasq.FLAGS) };
    }
    case 'fib': {
      const f = Fields.read(r, { [nftaFib.DREG]: 'number', [nftaFib.RESULT]: 'number', [nftaFib.FLAGS]: 'number' });
      return (
        f && {
          type: 'fib',
          result: f.number(nftaFib.RESULT),
          flags: f.number(nftaFib.FLAGS),
          register: f.number(nftaFib.DREG),
        }
      );
    }
    case 'dynset': {
      const f = Fields.read(r, {
        [nftaDynset.SET_NAME]: 'text',
        [nftaDynset.SET_ID]: 'pad',
        [nftaDynset.OP]: 'number',
        [nftaDynset.SREG_KEY]: 'number',
        [nftaDynset.TIMEOUT]: 'long',
        [nftaDynset.EXPR]: 'expression',
        [nftaDynset.PAD]: 'pad',
        [nftaDynset.FLAGS]: 'number',
      });
      const operation = f && dynsetOperations[f.number(nftaDynset.OP)];
      const isPlain = f?.number(nftaDynset.TIMEOUT) === 0 && f.number(nftaDynset.FLAGS) === 0;
      if (!operation || !isPlain || f.text(nftaDynset.EXPR) !== 'counter') return undefined;
      return { type: 'dynset', set: f.text(nftaDynset.SET_NAME), source: f.number(nftaDynset.SREG_KEY), operation };
    }
    case 'exthdr': {
      const f = Fields.read(r, {
        [nftaExthdr.DREG]: 'number',
        [nftaExthdr.TYPE]: 'small',
        [nftaExthdr.OFFSET]: 'number',
        [nftaExthdr.LEN]: 'number',
        [nftaExthdr.FLAGS]: 'number',
        [nftaExthdr.OP]: 'number',
      });
      if (!f?.has(nftaExthdr.DREG)) return undefined;
      const isPresence =
        f.number(nftaExthdr.OP) === nftExthdr.NFT_EXTHDR_OP_IPV6 &&
        f.number(nftaExthdr.FLAGS) === nftExthdr.NFT_EXTHDR_F_PRESENT;
      if (!isPresence) return undefined;
      return { type: 'exthdr', header: f.number(nftaExthdr.TYPE), register: f.number(nftaExthdr.DREG) };
    }
    case 'notrack':
      return { type: 'notrack' };
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
    if (r.type === nftaImmediate.DREG) register = r.u32be();
    else if (r.type === nftaImmediate.DATA) {
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

/**
 * A text for comparing and for people: it is the same for two expressions with the same effect. Counters are ignored.
 */
export function formatExpression(expression: Expression): string {
  if (expression.type === 'counter') return '{"type":"counter"}';
  return JSON.stringify(expression, (_key, value) =>
    value instanceof Uint8Array ? Array.from(value, (byte) => byte.toString(16).padStart(2, '0')).join('') : value,
  );
}
