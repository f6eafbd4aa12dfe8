/**
 * Readable rules. An item is a match (the rule continues if it holds) or a statement; a rule is a list of items.
 *
 *     rule([sourceIn(network), not(destinationIn(network)), masquerade({ fullyRandom: true })], { comment: 'weft' })
 *
 * The values decide between IPv4 and IPv6. A match has guards, its preconditions ("this is IPv4", "this is UDP"). Each
 * guard is added before the match, once per rule, in the form that suits the table's family.
 */

import type { Address, Family } from '../../net/address.ts';
import type { Mac } from '../../net/mac.ts';
import { networkOf, type Prefix } from '../../net/prefix.ts';
import {
  type Comparison,
  type Expression,
  nfNatRange,
  nftFib,
  nftMeta,
  nftPayload,
  nftRegister,
} from './expression.ts';
import {
  addressBytes,
  addressOffset,
  ethernetProtocol,
  ethhdr,
  greFlag,
  greHeader,
  ipProtocol,
  udphdr,
  vxlanhdr,
} from './header.ts';
import { type NftFamily, type NftRule, nfproto } from './table.ts';

/** A precondition of a match. */
type Guard = 'IPv4' | 'IPv6' | 'Ethernet' | 'TCP' | 'UDP';

/** A statement, or a match that cannot be negated. */
export interface RuleItem {
  readonly guards: readonly Guard[];
  readonly expressions: readonly Expression[];
}

export interface Match extends RuleItem {
  /** The expressions of the negated match; it has the same guards. */
  readonly negated: readonly Expression[];
}

const register = nftRegister.NFT_REG_1;
/** include/uapi/linux/rtnetlink.h */
const RTN_LOCAL = 2;

/** Loads, then compares with `value`. */
function compare(guards: readonly Guard[], load: readonly Expression[], value: Uint8Array): Match {
  const cmp = (op: Comparison): Expression => ({ type: 'cmp', source: register, op, value });
  return { guards, expressions: [...load, cmp('==')], negated: [...load, cmp('!=')] };
}

const payload = (base: number, offset: number, lengthBytes: number): Expression => ({
  type: 'payload',
  base,
  offset,
  lengthBytes,
  register,
});
const meta = (key: number): Expression => ({ type: 'meta', key, register });

/** Host byte order: little endian on all machines that Weft is built for. */
const hostU32 = (value: number): Uint8Array =>
  new Uint8Array([value & 255, (value >>> 8) & 255, (value >>> 16) & 255, value >>> 24]);
const bigU16 = (value: number): Uint8Array => new Uint8Array([value >> 8, value & 255]);
const bigU32 = (value: number): Uint8Array =>
  new Uint8Array([value >>> 24, (value >>> 16) & 255, (value >>> 8) & 255, value & 255]);

/** The packet is IPv4, or IPv6. */
export const isFamily = (family: Family): RuleItem => ({ guards: [ipGuard(family)], expressions: [] });

const ipGuard = (family: Family): Guard => (family === 4 ? 'IPv4' : 'IPv6');

function addressIn(side: 'source' | 'destination', prefix: Prefix): Match {
  const { family } = prefix.address;
  return addressAt(
    [ipGuard(family)],
    nftPayload.NFT_PAYLOAD_NETWORK_HEADER,
    addressOffset[side][family],
    networkOf(prefix),
  );
}

/** The address at this place of the packet is in the prefix. */
function addressAt(guards: readonly Guard[], base: number, offset: number, { address, length }: Prefix): Match {
  const { family } = address;
  const size = address.bytes.length;
  if (length === 0) {
    // Every packet of the family matches, and none matches the negation. A loaded byte is always from 0 to 255.
    const load = [payload(base, offset, 1)];
    const never: Expression = { type: 'range', source: register, inverted: true, from: byte(0), to: byte(255) };
    return { guards, expressions: [], negated: [...load, never] };
  }
  // As nft does it: whole bytes are compared directly. Only a length that is no multiple of 8 needs a mask.
  if (length % 8 === 0) {
    return compare(guards, [payload(base, offset, length / 8)], address.bytes.slice(0, length / 8));
  }
  const mask = networkOf({ address: { family, bytes: new Uint8Array(size).fill(255) }, length }).address.bytes;
  const and: Expression = { type: 'bitwise', source: register, register, mask, xor: new Uint8Array(size) };
  return compare(guards, [payload(base, offset, size), and], address.bytes);
}
const byte = (value: number): Uint8Array => new Uint8Array([value]);

/** The packet's source address is in the prefix. */
export const sourceIn = (prefix: Prefix): Match => addressIn('source', prefix);
/** The packet's destination address is in the prefix. */
export const destinationIn = (prefix: Prefix): Match => addressIn('destination', prefix);

function inSet(guards: readonly Guard[], load: Expression, set: string): Match {
  const lookup = (inverted: boolean): Expression => ({ type: 'lookup', source: register, set, inverted });
  return { guards, expressions: [load, lookup(false)], negated: [load, lookup(true)] };
}
const addressInSet = (side: 'source' | 'destination', set: string, family: Family): Match =>
  inSet(
    [ipGuard(family)],
    payload(nftPayload.NFT_PAYLOAD_NETWORK_HEADER, addressOffset[side][family], addressBytes[family]),
    set,
  );
/** The packet's source address is in the table's set of that name, whose keys are of the family. */
export const sourceInSet = (set: string, family: Family): Match => addressInSet('source', set, family);
export const destinationInSet = (set: string, family: Family): Match => addressInSet('destination', set, family);

export const sourceMac = (mac: Mac): Match =>
  compare(['Ethernet'], [payload(nftPayload.NFT_PAYLOAD_LL_HEADER, ethhdr.h_source, 6)], mac);

/** UDP or TCP, to a port in the table's set of that name. */
export const destinationPortInSet = (protocol: 'UDP' | 'TCP', set: string): Match =>
  inSet([protocol], payload(nftPayload.NFT_PAYLOAD_TRANSPORT_HEADER, udphdr.dest, 2), set);
/** A port as a set's key. */
export const portKey = (port: number): Uint8Array => bigU16(port);

/** The packet is VXLAN with this VNI. */
export const vxlanNetwork = (vni: number): Match =>
  compare(
    ['UDP'],
    [payload(nftPayload.NFT_PAYLOAD_TRANSPORT_HEADER, udphdr.bytes + vxlanhdr.vx_vni, 3)],
    bigU32(vni << 8).subarray(0, 3),
  );

/** The two bytes at this offset of what the IP packet carries are this number. */
export const carriesWord = (offset: number, value: number): Match =>
  compare([], [payload(nftPayload.NFT_PAYLOAD_TRANSPORT_HEADER, offset, 2)], bigU16(value));

/** The packet carries another IP packet at this offset, whose source is in the prefix. */
export const innerSourceIn = (prefix: Prefix, offset: number): Match =>
  addressAt(
    [],
    nftPayload.NFT_PAYLOAD_TRANSPORT_HEADER,
    offset + addressOffset.source[prefix.address.family],
    networkOf(prefix),
  );

/**
 * The packet's source, together with the first bits of the source of the packet that it carries, is in the table's set of
 * that name. Both packets are of the family.
 */
export function sourcesInSet(set: string, family: Family, offset: number, bits: number): Match {
  const size = addressBytes[family];
  const second = family === 4 ? nftRegister.NFT_REG32_01 : nftRegister.NFT_REG_2;
  const whole = { family, bytes: new Uint8Array(size).fill(255) };
  const mask = networkOf({ address: whole, length: bits }).address.bytes;
  const inner: Expression = {
    type: 'payload',
    base: nftPayload.NFT_PAYLOAD_TRANSPORT_HEADER,
    offset: offset + addressOffset.source[family],
    lengthBytes: size,
    register: second,
  };
  const load: Expression[] = [
    payload(nftPayload.NFT_PAYLOAD_NETWORK_HEADER, addressOffset.source[family], size),
    inner,
    ...(bits === size * 8
      ? []
      : [{ type: 'bitwise', source: second, register: second, mask, xor: new Uint8Array(size) } as const]),
  ];
  const lookup = (inverted: boolean): Expression => ({ type: 'lookup', source: register, set, inverted });
  return { guards: [ipGuard(family)], expressions: [...load, lookup(false)], negated: [...load, lookup(true)] };
}

/** A key of such a set. */
export function sourcesKey(outer: Address, inner: Address): Uint8Array {
  const key = new Uint8Array(outer.bytes.length + inner.bytes.length);
  key.set(outer.bytes);
  key.set(inner.bytes, outer.bytes.length);
  return key;
}

/** The packet is a fragment: over IPv6, the packet filter may see packets before they are put together. */
export const isFragment6 = (): RuleItem => ({
  guards: ['IPv6'],
  expressions: [
    { type: 'exthdr', header: ipProtocol.IPPROTO_FRAGMENT, register },
    { type: 'cmp', source: register, op: '==', value: byte(1) },
  ],
});

/** The IP protocol is in the table's set of that name. */
export const protocolInSet = (set: string): Match => inSet([], meta(nftMeta.NFT_META_L4PROTO), set);
/** An IP protocol as a set's key. */
export const protocolKey = (protocol: number): Uint8Array => byte(protocol);

// The matches of GRE come after `protocolInSet`. They have no guard of their own: nft 1.0.6 ends with a failed assertion when
// it lists a rule that compares the protocol with GRE's number and then loads from its header.

/** Those bits of GRE's flags that are in `mask` are as in `value`. */
const greFlagsAre = (value: number, mask: number): Match =>
  compare(
    [],
    [
      payload(nftPayload.NFT_PAYLOAD_TRANSPORT_HEADER, greHeader.flags, 2),
      { type: 'bitwise', source: register, register, mask: bigU16(mask), xor: bigU16(0) },
    ],
    bigU16(value),
  );
/** The packet is GRE that carries packets, not Ethernet frames: devices of kind `gre` and `ip6gre` take such. */
export const grePackets = (): Match =>
  not(
    compare(
      [],
      [payload(nftPayload.NFT_PAYLOAD_TRANSPORT_HEADER, greHeader.protocol, 2)],
      bigU16(ethernetProtocol.ETH_P_TEB),
    ),
  );
/**
 * The packet is GRE with this key: one list of items for each place where the key may be, as a checksum before it is
 * the sender's choice.
 */
export function greKeyIs(key: number): RuleItem[][] {
  const { GRE_CSUM, GRE_KEY, GRE_VERSION } = greFlag;
  return [0, GRE_CSUM].map((checksum) => [
    greFlagsAre(GRE_KEY | checksum, GRE_CSUM | GRE_KEY | GRE_VERSION),
    greKeyAt(checksum === 0 ? greHeader.options : greHeader.options + greHeader.checksumBytes, key),
  ]);
}
const greKeyAt = (offset: number, key: number): Match =>
  compare([], [payload(nftPayload.NFT_PAYLOAD_TRANSPORT_HEADER, offset, 4)], bigU32(key));

/** The options of a GRE header. */
export interface GreOptions {
  readonly checksum: boolean;
  /** A number: this key; true: any. */
  readonly key: number | boolean;
  readonly sequence: boolean;
}
/** The packet is GRE with exactly these options. */
export function greWith({ checksum, key, sequence }: GreOptions): RuleItem[] {
  const { GRE_CSUM, GRE_ROUTING, GRE_KEY, GRE_SEQ, GRE_VERSION } = greFlag;
  const flags = (checksum ? GRE_CSUM : 0) | (key === false ? 0 : GRE_KEY) | (sequence ? GRE_SEQ : 0);
  const exact = greFlagsAre(flags, GRE_CSUM | GRE_ROUTING | GRE_KEY | GRE_SEQ | GRE_VERSION);
  return typeof key === 'number' ? [exact, greKeyAt(greHeader.options + (checksum ? 4 : 0), key)] : [exact];
}
/** Where the packet begins that GRE with these options carries. */
export const greBytes = ({ checksum, key, sequence }: GreOptions): number =>
  greHeader.options + [checksum, key !== false, sequence].filter(Boolean).length * greHeader.optionBytes;

/** The packet is GRE, with or without a key. */
export const greAnyKey = (): Match => greFlagsAre(0, greFlag.GRE_VERSION);
/** The packet is GRE without a key. */
export const greWithoutKey = (): Match => greFlagsAre(0, greFlag.GRE_KEY | greFlag.GRE_VERSION);

/** An interface's name, zero-padded as the kernel has it (IFNAMSIZ). */
function interfaceName(name: string): Uint8Array {
  if (name.length === 0 || name.length > 15) throw new RangeError(`"${name}" is no interface name`);
  const bytes = new Uint8Array(16);
  for (let i = 0; i < name.length; i++) bytes[i] = name.charCodeAt(i);
  return bytes;
}
/** The packet came in by the interface of this name, which need not exist yet. */
export const inputInterface = (name: string): Match =>
  compare([], [meta(nftMeta.NFT_META_IIFNAME)], interfaceName(name));
/** The packet came in by an interface whose name is in the table's set of that name. */
export const inputInterfaceInSet = (set: string): Match => inSet([], meta(nftMeta.NFT_META_IIFNAME), set);
/** An interface's name as a set's key. */
export const interfaceKey = interfaceName;

/**
 * The packet's source is not reached by the interface that it came in by: its route leads elsewhere, or it is this host's
 * own. Needs nft_fib, at the hooks prerouting, input and forward.
 */
export const comesFromElsewhere = (): Match => {
  const { NFT_FIB_RESULT_OIF, NFTA_FIB_F_SADDR, NFTA_FIB_F_IIF, NFTA_FIB_F_PRESENT } = nftFib;
  const flags = NFTA_FIB_F_SADDR | NFTA_FIB_F_IIF | NFTA_FIB_F_PRESENT;
  return compare([], [{ type: 'fib', result: NFT_FIB_RESULT_OIF, flags, register }], hostU32(0));
};

/** The destination is an address of this host. Needs nft_fib, at the hooks prerouting and later. */
export const destinationIsLocal = (): Match =>
  compare(
    [],
    [{ type: 'fib', result: nftFib.NFT_FIB_RESULT_ADDRTYPE, flags: nftFib.NFTA_FIB_F_DADDR, register }],
    hostU32(RTN_LOCAL),
  );

const masked = (load: Expression, value: number, mask: number): Match =>
  mask >>> 0 === 0xffffffff
    ? compare([], [load], hostU32(value))
    : compare(
        [],
        [load, { type: 'bitwise', source: register, register, mask: hostU32(mask), xor: hostU32(0) }],
        hostU32(value),
      );
/** Those bits of the packet's mark that are in `mask` are as in `value`. */
export const markIs = (value: number, mask = 0xffffffff): Match => masked(meta(nftMeta.NFT_META_MARK), value, mask);
/** Negates a match but not its guards: not(sourceIn(an IPv4 prefix)) matches IPv4 packets only. */
export const not = (match: Match): Match => ({
  guards: match.guards,
  expressions: match.negated,
  negated: match.expressions,
});

const statement = (...expressions: Expression[]): RuleItem => ({ guards: [], expressions });
/** Ends this base chain for the packet; later base chains of the same hook still see it. */
export const accept = (): RuleItem => statement({ type: 'verdict', verdict: 'accept' });
export const drop = (): RuleItem => statement({ type: 'verdict', verdict: 'drop' });
/** Continues after the jump that led here; in a base chain with its policy. */
export const returnVerdict = (): RuleItem => statement({ type: 'verdict', verdict: 'return' });
export const jump = (chain: string): RuleItem => statement({ type: 'verdict', verdict: 'jump', chain });
/** As `jump`, but without a return: after the chain's end the base chain's policy applies. */
export const goTo = (chain: string): RuleItem => statement({ type: 'verdict', verdict: 'goto', chain });
/** Counts the packets and bytes that get this far. */
export const counter = (): RuleItem => statement({ type: 'counter', packets: 0, bytes: 0 });
/** The packet's connection is not tracked; in a chain that comes before connection tracking, as those of priority raw do. */
export const notrack = (): RuleItem => statement({ type: 'notrack' });
/** Adds the packet's source to the table's set of that name, which counts its packets. If the set is full, the rule ends. */
export const countSource = (set: string, family: Family): RuleItem => ({
  guards: [ipGuard(family)],
  expressions: [
    payload(nftPayload.NFT_PAYLOAD_NETWORK_HEADER, addressOffset.source[family], addressBytes[family]),
    { type: 'dynset', set, source: register, operation: 'update' },
  ],
});
/** Source NAT to the address of the outgoing interface; in a chain of type nat at postrouting. */
export const masquerade = (options: { fullyRandom?: boolean } = {}): RuleItem =>
  statement({ type: 'masq', flags: options.fullyRandom ? nfNatRange.NF_NAT_RANGE_PROTO_RANDOM_FULLY : 0 });
/** The expressions that check a guard in a table of the family; none if the family implies the guard. */
function guardExpressions(guard: Guard, family: NftFamily): readonly Expression[] {
  const is = (key: number, value: Uint8Array) => compare([], [meta(key)], value).expressions;
  switch (guard) {
    case 'IPv4':
    case 'IPv6':
      if (family === 'ip' || family === 'ip6') return [];
      if (family === 'bridge')
        return is(
          nftMeta.NFT_META_PROTOCOL,
          bigU16(guard === 'IPv4' ? ethernetProtocol.ETH_P_IP : ethernetProtocol.ETH_P_IPV6),
        );
      return is(nftMeta.NFT_META_NFPROTO, byte(guard === 'IPv4' ? nfproto.ip : nfproto.ip6));
    case 'Ethernet':
      return family === 'bridge' ? [] : is(nftMeta.NFT_META_IIFTYPE, new Uint8Array([1, 0]));
    case 'TCP':
      return is(nftMeta.NFT_META_L4PROTO, byte(ipProtocol.IPPROTO_TCP));
    case 'UDP':
      return is(nftMeta.NFT_META_L4PROTO, byte(ipProtocol.IPPROTO_UDP));
  }
}

/**
 * A rule of these items, in this order.
 * @param options.family of the table that the rule is for; default inet
 * @param options.comment what `nft list` shows, at most 127 bytes
 */
export function rule(items: readonly RuleItem[], options: { comment?: string; family?: NftFamily } = {}): NftRule {
  const { family = 'inet', comment } = options;
  const checked = new Set<Guard>();
  const expressions: Expression[] = [];
  for (const item of items) {
    for (const guard of item.guards) {
      if (checked.has(guard)) continue;
      checked.add(guard);
      expressions.push(...guardExpressions(guard, family));
    }
    expressions.push(...item.expressions);
  }
  return comment === undefined ? { expressions } : { expressions, comment };
}

/** The keys of a set of addresses. */
export const addressKeys = (addresses: readonly Address[]): Uint8Array[] => addresses.map(({ bytes }) => bytes);
