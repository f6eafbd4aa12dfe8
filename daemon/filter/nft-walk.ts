/** nf_tables' rules in the form of packet-walk.ts: those of nft(8), and those that iptables makes. */

import { NetlinkReader } from '../../linux/netlink/wire.ts';
import { type Expression, nftCt, nftMeta, nftPayload } from '../../linux/nft/expression.ts';
import { addressBytes, addressOffset, protocolOffset, udphdr } from '../../linux/nft/header.ts';
import { type NftRule, nfproto } from '../../linux/nft/table.ts';
import type { Family } from '../../net/address.ts';
import { networkOf, type Prefix } from '../../net/prefix.ts';
import type { Condition, ConnectionState, Verdict, WalkRule } from './packet-walk.ts';

const special: Condition = { kind: 'special' };
const none: Verdict = { kind: 'none' };

/** The content of a register. */
type Loaded =
  | { readonly what: 'family' | 'input' | 'output' | 'state' | 'protocol' | 'port' | 'unknown' }
  | { readonly what: 'source' | 'destination'; readonly family: Family | undefined; readonly lengthBytes: number };

const familyNumbers = new Map<number, Family>([
  [nfproto.ip, 4],
  [nfproto.ip6, 6],
]);

function load(expression: Expression & { register: number }, family: Family | undefined): Loaded {
  if (expression.type === 'meta') {
    if (expression.key === nftMeta.NFT_META_NFPROTO) return { what: 'family' };
    if (expression.key === nftMeta.NFT_META_IIFNAME) return { what: 'input' };
    if (expression.key === nftMeta.NFT_META_OIFNAME) return { what: 'output' };
    if (expression.key === nftMeta.NFT_META_L4PROTO) return { what: 'protocol' };
  } else if (expression.type === 'ct') {
    if (expression.key === nftCt.NFT_CT_STATE && expression.direction === undefined) return { what: 'state' };
  } else if (expression.type === 'payload' && expression.base === nftPayload.NFT_PAYLOAD_TRANSPORT_HEADER) {
    // TCP's and SCTP's ports are in the same place: the protocol is another condition of such a rule.
    if (expression.offset === udphdr.dest && expression.lengthBytes === 2) return { what: 'port' };
  } else if (expression.type === 'payload' && expression.base === nftPayload.NFT_PAYLOAD_NETWORK_HEADER) {
    const { offset, lengthBytes } = expression;
    if (family !== undefined && lengthBytes === 1 && offset === protocolOffset[family]) return { what: 'protocol' };
    // The tables of one family leave out the check for it: the family is known all the same.
    if (family !== undefined && lengthBytes <= addressBytes[family]) {
      for (const what of ['source', 'destination'] as const) {
        if (addressOffset[what][family] === offset) return { what, family, lengthBytes };
      }
    }
  }
  return { what: 'unknown' };
}

/** The number of leading ones, followed by zeros only; undefined for another mask. */
function prefixLength(mask: Uint8Array): number | undefined {
  const bits = [...mask].map((byte) => byte.toString(2).padStart(8, '0')).join('');
  const length = bits.indexOf('0') < 0 ? bits.length : bits.indexOf('0');
  return bits.includes('1', length) ? undefined : length;
}

function addressPrefix(loaded: Loaded, value: Uint8Array, mask: Uint8Array | undefined): Prefix | undefined {
  if (loaded.what !== 'source' && loaded.what !== 'destination') return undefined;
  const { family } = loaded;
  if (family === undefined || value.length !== loaded.lengthBytes) return undefined;
  const length = mask ? prefixLength(mask) : loaded.lengthBytes * 8;
  if (length === undefined) return undefined;
  const bytes = new Uint8Array(addressBytes[family]);
  bytes.set(value);
  return networkOf({ address: { family, bytes }, length });
}

/** NF_CT_STATE_BIT: include/uapi/linux/netfilter/nf_conntrack_common.h */
const stateBits: readonly [ConnectionState, number][] = [
  ['invalid', 1],
  ['established', 2],
  ['related', 4],
  ['new', 8],
  ['untracked', 64],
];

const u32 = (bytes: Uint8Array): number => new DataView(bytes.buffer, bytes.byteOffset).getUint32(0, true);

function statesIn(bits: number, table = stateBits): ReadonlySet<ConnectionState> {
  return new Set(table.flatMap(([state, bit]) => (bits & bit ? [state] : [])));
}

/** The condition that a comparison stands for. */
function compared(loaded: Loaded, value: Uint8Array, negated: boolean, mask: Uint8Array | undefined): Condition {
  switch (loaded.what) {
    case 'source':
    case 'destination': {
      const prefix = addressPrefix(loaded, value, mask);
      return prefix ? { kind: loaded.what, prefix, negated } : special;
    }
    case 'family': {
      const family = familyNumbers.get(value[0] ?? 0);
      return family && !mask ? { kind: 'family', family, negated } : special;
    }
    case 'input':
    case 'output': {
      if (mask) return special;
      const end = value.indexOf(0);
      const name = String.fromCharCode(...(end < 0 ? value : value.subarray(0, end)));
      // A whole name is compared with its terminating zero, a prefix of one without it.
      return { kind: loaded.what, name, any: end < 0, negated };
    }
    case 'state':
      // `ct state new,related`: not all of the requested bits are zero.
      if (mask?.length !== 4 || value.length !== 4 || u32(value) !== 0) return { kind: 'some state' };
      return { kind: 'state', states: statesIn(u32(mask)), negated: !negated };
    case 'protocol':
      return mask || value.length !== 1 ? special : { kind: 'protocol', protocols: [value[0]!], negated };
    case 'port': {
      if (mask || value.length !== 2) return special;
      const port = (value[0]! << 8) | value[1]!;
      return { kind: 'port', ports: [[port, port]], negated };
    }
    default:
      return special;
  }
}

/** The condition that a look-up in a set stands for. */
function lookedUp(loaded: Loaded, keys: readonly Uint8Array[], negated: boolean): Condition {
  switch (loaded.what) {
    case 'state':
      return { kind: 'state', states: statesIn(keys.reduce((sum, key) => sum | u32(key), 0)), negated };
    case 'protocol':
      return { kind: 'protocol', protocols: keys.map((key) => key[0]!), negated };
    case 'port':
      return { kind: 'port', ports: keys.map((key) => [(key[0]! << 8) | key[1]!, (key[0]! << 8) | key[1]!]), negated };
    default:
      return special;
  }
}

/** NFTA_MATCH_* and NFTA_TARGET_* of include/uapi/linux/netfilter/nf_tables_compat.h: iptables' own extensions. */
function extension(data: Uint8Array): { readonly name: string; readonly revision: number; readonly info: Uint8Array } {
  let [name, revision, info] = ['', 0, new Uint8Array(0)];
  const r = NetlinkReader.of('xtables extension', data).attributes(0, 'xtables extension');
  while (r.next()) {
    if (r.type === 1) name = r.text();
    else if (r.type === 2) revision = r.u32be();
    else if (r.type === 3) info = new Uint8Array(r.bytes());
  }
  return { name, revision, info };
}

/** XT_CONNTRACK_STATE_BIT, include/uapi/linux/netfilter/xt_conntrack.h */
const xtStateBits: readonly [ConnectionState, number][] = [
  ['invalid', 1],
  ['established', 2],
  ['related', 4],
  ['new', 8],
  ['untracked', 256],
];
/** Of `struct xt_conntrack_mtinfo2` and `…3`: the flags that the match checks, and whether they are inverted. */
const conntrackOffsets = { matchFlags: 146, invertFlags: 148, stateMask: 150, end: 152 } as const;
const XT_CONNTRACK_STATE = 1;

/** struct xt_udp and struct xt_tcp: two source ports, two destination ports, and what is inverted. */
const portOffsets = { source: 0, destination: 4 } as const;
const inversionOffset = { udp: 8, tcp: 11 } as const;
const XT_UDP_INV_DSTPT = 2;
const anyPort = 65535;

function portConditions(name: 'udp' | 'tcp', view: DataView): Condition[] {
  const ports = (at: number): readonly [number, number] => [view.getUint16(at, true), view.getUint16(at + 2, true)];
  const [source, destination] = [ports(portOffsets.source), ports(portOffsets.destination)];
  const inverted = view.getUint8(inversionOffset[name]);
  const isAnySource = source[0] === 0 && source[1] === anyPort;
  if (!isAnySource || (inverted & ~XT_UDP_INV_DSTPT) !== 0) return [special];
  return [{ kind: 'port', ports: [destination], negated: (inverted & XT_UDP_INV_DSTPT) !== 0 }];
}

/** None for a match that always holds. */
function matchConditions(data: Uint8Array): Condition[] {
  const { name, revision, info } = extension(data);
  if (name === 'comment') return [];
  const view = new DataView(info.buffer, info.byteOffset, info.byteLength);
  if ((name === 'udp' || name === 'tcp') && info.length > inversionOffset[name]) return portConditions(name, view);
  if (name === 'state') return [{ kind: 'some state' }];
  if (name !== 'conntrack') return [special];
  if (revision < 2 || info.length < conntrackOffsets.end) return [{ kind: 'some state' }];
  if (view.getUint16(conntrackOffsets.matchFlags, true) !== XT_CONNTRACK_STATE) return [{ kind: 'some state' }];
  return [
    {
      kind: 'state',
      states: statesIn(view.getUint16(conntrackOffsets.stateMask, true), xtStateBits),
      negated: (view.getUint16(conntrackOffsets.invertFlags, true) & XT_CONNTRACK_STATE) !== 0,
    },
  ];
}

const targets: Readonly<Record<string, Verdict>> = { REJECT: { kind: 'drop' }, DROP: { kind: 'drop' } };

/** The verdict of an expression that neither loads nor compares; undefined where it is not understood. */
function verdictOf(expression: Expression): Verdict | undefined {
  if (expression.type === 'verdict') {
    const { verdict, chain = '' } = expression;
    if (verdict === 'jump' || verdict === 'goto') return { kind: verdict, chain };
    return verdict === 'continue' ? none : { kind: verdict };
  }
  if (expression.type !== 'other') return undefined;
  if (expression.name === 'reject') return { kind: 'drop' };
  return expression.name === 'target' ? (targets[extension(expression.data).name] ?? none) : undefined;
}

/** These decide nothing, and hold for every packet. */
const indifferent = new Set(['counter', 'log', 'notrack', 'immediate', 'meta set', 'ct set']);

/** A set's keys; undefined if they are not known, or are intervals. */
export type SetKeys = (name: string) => readonly Uint8Array[] | undefined;

/**
 * @param family of the table's packets; undefined if it has both, and rules check it themselves
 * @param setKeys by default, rules that look something up in a set are about particular packets
 */
export function readRule(
  { expressions }: NftRule,
  tableFamily: Family | undefined,
  setKeys: SetKeys = () => undefined,
): WalkRule {
  const conditions: Condition[] = [];
  const registers = new Map<number, { readonly loaded: Loaded; readonly mask?: Uint8Array }>();
  let family = tableFamily;
  let verdict = none;
  for (const expression of expressions) {
    const decided = verdictOf(expression);
    if (decided) {
      verdict = decided;
      continue;
    }
    switch (expression.type) {
      case 'meta':
      case 'ct':
      case 'payload':
        registers.set(expression.register, { loaded: load(expression, family) });
        break;
      case 'bitwise': {
        const before = registers.get(expression.source);
        const plain = before && !before.mask && expression.xor.every((byte) => byte === 0);
        registers.set(
          expression.register,
          plain ? { loaded: before.loaded, mask: expression.mask } : { loaded: { what: 'unknown' } },
        );
        break;
      }
      case 'cmp': {
        const before = registers.get(expression.source) ?? { loaded: { what: 'unknown' } };
        const isEquality = expression.op === '==' || expression.op === '!=';
        const condition = isEquality
          ? compared(before.loaded, expression.value, expression.op === '!=', before.mask)
          : special;
        if (condition.kind === 'family' && !condition.negated) family = condition.family;
        conditions.push(condition);
        break;
      }
      case 'lookup': {
        const { loaded, mask } = registers.get(expression.source) ?? { loaded: { what: 'unknown' } };
        const keys = mask ? undefined : setKeys(expression.set);
        if (keys) conditions.push(lookedUp(loaded, keys, expression.inverted));
        else conditions.push(loaded.what === 'state' ? { kind: 'some state' } : special);
        break;
      }
      case 'other':
        // A map of verdicts by the connection's state is read as something unknown.
        if (expression.name === 'lookup' && [...registers.values()].some(({ loaded }) => loaded.what === 'state'))
          conditions.push({ kind: 'some state' });
        else if (expression.name === 'match') conditions.push(...matchConditions(expression.data));
        else if (!indifferent.has(expression.name)) conditions.push(special);
        break;
      default:
        if (!indifferent.has(expression.type)) conditions.push(special);
    }
  }
  return { conditions, verdict };
}
