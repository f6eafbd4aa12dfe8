/** Matches and statements of nf_tables that tests write and weftd only reads, in the manner of `linux/nft/match.ts`. */

import {
  type Comparison,
  type Expression,
  nftCt,
  nftMeta,
  nftPayload,
  nftRegister,
} from '../../linux/nft/expression.ts';
import { udphdr } from '../../linux/nft/header.ts';
import type { Match, RuleItem } from '../../linux/nft/match.ts';
import type { Family } from '../../net/address.ts';

const register = nftRegister.NFT_REG_1;
const meta = (key: number): Expression => ({ type: 'meta', key, register });
const statement = (...expressions: Expression[]): RuleItem => ({ guards: [], expressions });
const bigU16 = (value: number): Uint8Array => new Uint8Array([value >> 8, value & 255]);
const hostU32 = (value: number): Uint8Array => new Uint8Array(new Uint32Array([value]).buffer);
const destinationPortLoad = {
  type: 'payload',
  base: nftPayload.NFT_PAYLOAD_TRANSPORT_HEADER,
  offset: udphdr.dest,
  lengthBytes: 2,
} as const;
const ifnamsiz = 16;
const interfaceName = (name: string): Uint8Array => {
  const bytes = new Uint8Array(ifnamsiz);
  bytes.set(new TextEncoder().encode(name));
  return bytes;
};

/** Loads, then compares with `value`. */
function compare(guards: Match['guards'], load: readonly Expression[], value: Uint8Array): Match {
  const cmp = (op: Comparison): Expression => ({ type: 'cmp', source: register, op, value });
  return { guards, expressions: [...load, cmp('==')], negated: [...load, cmp('!=')] };
}

/** UDP or TCP, to this port. */
export const destinationPort = (protocol: 'UDP' | 'TCP', port: number): Match =>
  compare([protocol], [{ ...destinationPortLoad, register }], bigU16(port));

/** It leaves by the interface of this name. */
export const outputInterface = (name: string): Match =>
  compare([], [meta(nftMeta.NFT_META_OIFNAME)], interfaceName(name));

/** The packet is IPv4, or IPv6. */
export const isFamily = (family: Family): RuleItem => ({ guards: [family === 4 ? 'IPv4' : 'IPv6'], expressions: [] });

/** The same of the connection's mark. */
export const connectionMarkIs = (value: number, mask = 0xffffffff): Match =>
  compare(
    [],
    [
      { type: 'ct', key: nftCt.NFT_CT_MARK, register },
      ...(mask >>> 0 === 0xffffffff
        ? []
        : [{ type: 'bitwise', source: register, register, mask: hostU32(mask), xor: hostU32(0) } as const]),
    ],
    hostU32(value),
  );

/** NF_CT_STATE_BIT of enum ip_conntrack_info, include/uapi/linux/netfilter/nf_conntrack_common.h */
const connectionStates = { invalid: 1, established: 2, related: 4, new: 8, untracked: 64 } as const;
/** The packet's connection is in one of the states. */
export function connectionStateIn(states: readonly (keyof typeof connectionStates)[]): Match {
  const bits = states.reduce((sum, state) => sum | connectionStates[state], 0);
  const load: Expression[] = [
    { type: 'ct', key: nftCt.NFT_CT_STATE, register },
    { type: 'bitwise', source: register, register, mask: hostU32(bits), xor: hostU32(0) },
  ];
  const none = compare([], load, hostU32(0));
  return { guards: [], expressions: none.negated, negated: none.expressions };
}

/** Sets those bits of the packet's mark that are in `mask`. */
export function setMark(value: number, mask = 0xffffffff): RuleItem {
  const set: Expression = { type: 'meta set', key: nftMeta.NFT_META_MARK, source: register };
  if (mask >>> 0 === 0xffffffff) return statement({ type: 'immediate', register, value: hostU32(value) }, set);
  const change: Expression = {
    type: 'bitwise',
    source: register,
    register,
    mask: hostU32(~mask >>> 0),
    xor: hostU32((value & mask) >>> 0),
  };
  return statement(meta(nftMeta.NFT_META_MARK), change, set);
}
/** Copies the packet's mark to its connection. */
export const saveMark = (): RuleItem =>
  statement(meta(nftMeta.NFT_META_MARK), { type: 'ct set', key: nftCt.NFT_CT_MARK, source: register });
/** Copies the connection's mark to the packet. */
export const restoreMark = (): RuleItem =>
  statement(
    { type: 'ct', key: nftCt.NFT_CT_MARK, register },
    { type: 'meta set', key: nftMeta.NFT_META_MARK, source: register },
  );
