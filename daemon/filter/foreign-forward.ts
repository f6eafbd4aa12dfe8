/**
 * Rules of weftd's among those of others: an accept in a table of one's own does not keep another table from dropping
 * the packet, so where another program's chain drops what is forwarded (Docker sets iptables' FORWARD to DROP, a
 * firewall rejects what it does not know) the cluster's packets are accepted there, as flannel does it.
 *
 * In iptables' tables they are just what iptables would make of `-A FORWARD -j WEFT-FORWARD` and a chain of that name,
 * so that iptables goes on reading and changing its tables; elsewhere two rules with a comment. They are put in front of
 * the first rule that would drop the cluster's ordinary packets, else at the end, where flannel has its own. So network
 * policies, and what people have set up for particular packets, stay in force, and nobody who wants to be first is
 * fought: only a rule that drops the cluster's packets as such has to be behind.
 */

import { createHash } from 'node:crypto';
import { hasCode } from '../../linux/errors.ts';
import type { NetlinkRequest } from '../../linux/netlink/connection.ts';
import { type NftConnection, sameRule } from '../../linux/nft/connection.ts';
import { type Expression, nftPayload, nftRegister } from '../../linux/nft/expression.ts';
import { addressOffset } from '../../linux/nft/header.ts';
import { accept, counter, destinationIn, jump, rule, sourceIn } from '../../linux/nft/match.ts';
import {
  deleteChain,
  deleteRule,
  flushChain,
  type NftChain,
  type NftFamily,
  type NftRule,
  newChain,
  newRule,
  type TableName,
} from '../../linux/nft/table.ts';
import type { Family } from '../../net/address.ts';
import { formatPrefix, networkOf, type Prefix } from '../../net/prefix.ts';
import { readRule } from './nft-walk.ts';
import { findHindrance, formatWalkRule, type SamplePacket, type WalkRule } from './packet-walk.ts';

/** What is to get through. */
export interface ForwardSettings {
  readonly accepted: readonly Prefix[];
  readonly packets: readonly SamplePacket[];
}

/** A base chain at the forward hook, of whatever program. */
export interface ForwardChain {
  readonly table: TableName;
  readonly chain: NftChain;
}

/** What a look at a chain came to. */
export interface ForwardOutcome {
  readonly place: string;
  /** What was wrong and is mended; undefined where nothing was. */
  readonly mended?: string;
  /** What is wrong and cannot be mended, and what to do. */
  readonly problem?: string;
}

/** The families whose tables see forwarded packets of IPv4 and IPv6. */
const tableFamilies = ['ip', 'ip6', 'inet'] as const satisfies readonly NftFamily[];
const packetFamily: Partial<Record<NftFamily, Family>> = { ip: 4, ip6: 6 };

/** The names of weftd's own things in others' tables: with several networks on a host each weftd has its own. */
export interface ForwardNames {
  /** Of the chain in iptables' tables, which takes names of 28 characters. */
  readonly chain: string;
  /** What rules in other tables say. */
  readonly comment: string;
}

/** @param tableName of weftd's own table */
export function forwardNames(tableName: string): ForwardNames {
  if (tableName === 'weft') return { chain: 'WEFT-FORWARD', comment: 'weft forward' };
  const hash = createHash('sha256').update(tableName).digest('hex').slice(0, 8);
  return { chain: `WEFT-FORWARD-${hash}`, comment: `weft forward ${hash}` };
}

export const isIptables = ({ table, chain }: ForwardChain): boolean =>
  (table.family === 'ip' || table.family === 'ip6') && table.name === 'filter' && chain.name === 'FORWARD';

const placeOf = ({ table, chain }: ForwardChain): string => `${table.family} ${table.name} ${chain.name}`;

/** Base chains that may drop what is forwarded, but weftd's own. */
export function listForwardChains(nft: NftConnection): ForwardChain[] {
  return tableFamilies
    .flatMap((family) => nft.listChains(family))
    .filter(
      ({ table, chain }) =>
        chain.base?.hook === 'forward' &&
        chain.base.type === 'filter' &&
        !(table.family === 'inet' && /^weft(?![A-Za-z0-9_-])/.test(table.name)),
    );
}

const register = nftRegister.NFT_REG_1;

/**
 * `-s` and `-d` as iptables of every version reads them: the whole address, and a mask. (Newer ones write fewer bytes
 * where they can, older ones do not know that.)
 */
function iptablesAddress(side: 'source' | 'destination', prefix: Prefix): Expression[] {
  const { family } = prefix.address;
  const { address, length } = networkOf(prefix);
  const size = address.bytes.length;
  const all = { family, bytes: new Uint8Array(size).fill(255) };
  const load: Expression = {
    type: 'payload',
    base: nftPayload.NFT_PAYLOAD_NETWORK_HEADER,
    offset: addressOffset[side][family],
    lengthBytes: size,
    register,
  };
  const and: Expression = {
    type: 'bitwise',
    source: register,
    register,
    mask: networkOf({ address: all, length }).address.bytes,
    xor: new Uint8Array(size),
  };
  const cmp: Expression = { type: 'cmp', source: register, op: '==', value: address.bytes };
  return length === size * 8 ? [load, cmp] : [load, and, cmp];
}

/** The rules that accept, in the shape of the table that they are for. */
function acceptingRules(place: ForwardChain, accepted: readonly Prefix[], names: ForwardNames): NftRule[] {
  const { family } = place.table;
  const ofTable = accepted.filter(({ address }) => (packetFamily[family] ?? address.family) === address.family);
  if (!isIptables(place)) {
    return ofTable.flatMap((prefix) =>
      [sourceIn(prefix), destinationIn(prefix)].map((match) =>
        rule([match, accept()], { family, comment: names.comment }),
      ),
    );
  }
  return ofTable.flatMap((prefix) =>
    (['source', 'destination'] as const).map((side) => ({
      expressions: [...iptablesAddress(side, prefix), ...rule([counter(), accept()]).expressions],
    })),
  );
}

/** The rules in the base chain that are weftd's. */
const isOwn = (place: ForwardChain, names: ForwardNames, each: NftRule): boolean =>
  isIptables(place)
    ? each.expressions.some((expression) => expression.type === 'verdict' && expression.chain === names.chain)
    : each.comment === names.comment;

/** What is to be done to a base chain; undefined where nothing is. */
interface ForwardPlan {
  readonly because: string;
  readonly requests: readonly NetlinkRequest[];
}

function describeHindrance(place: ForwardChain, at: number, others: readonly NftRule[]): string {
  if (at < others.length) return `rule ${at + 1} of "${placeOf(place)}" drops the cluster's packets`;
  return `the policy of "${placeOf(place)}" is drop`;
}

/**
 * Compares a base chain with what it should have.
 * @param rules its rules
 * @param listed the rules of another chain of its table
 */
export function planForward(
  place: ForwardChain,
  rules: readonly NftRule[],
  listed: (chain: string) => readonly NftRule[] | undefined,
  { accepted, packets }: ForwardSettings,
  names: ForwardNames,
): ForwardPlan | undefined {
  const { table, chain } = place;
  const family = packetFamily[table.family];
  const wanted = acceptingRules(place, accepted, names);
  if (wanted.length === 0) return undefined;
  const inBase = isIptables(place) ? [rule([counter(), jump(names.chain)])] : wanted;

  const walked = new Map<string, readonly WalkRule[]>();
  const chains = (name: string): readonly WalkRule[] => {
    const known = walked.get(name) ?? (listed(name) ?? []).map((each) => readRule(each, family));
    walked.set(name, known);
    return known;
  };
  const ofFamily = packets.filter((packet) => family === undefined || packet.family === family);
  const hindrance = (among: readonly NftRule[]): number | undefined =>
    findHindrance(
      among.map((each) => readRule(each, family)),
      chain.base!.policy,
      ofFamily,
      chains,
    )?.at;

  const own = rules.filter((each) => isOwn(place, names, each));
  const others = rules.filter((each) => !own.includes(each));
  const stoppedAt = hindrance(others);
  // Where nothing is dropped there is nothing to do, but that iptables' policy is changed by a word.
  if (own.length === 0 && stoppedAt === undefined && !isIptables(place)) return undefined;

  // iptables' versions write the same rule in several ways.
  const same = (a: NftRule, b: NftRule): boolean =>
    isIptables(place) ? formatWalkRule(readRule(a, family)) === formatWalkRule(readRule(b, family)) : sameRule(a, b);
  const ownChain = isIptables(place) ? listed(names.chain) : undefined;
  const chainDiffers =
    isIptables(place) && (ownChain?.length !== wanted.length || wanted.some((each, i) => !same(each, ownChain[i]!)));
  const baseDiffers = own.length !== inBase.length || inBase.some((each, i) => !same(each, own[i]!));
  const last = own.length === 0 ? -1 : rules.indexOf(own.at(-1)!);
  const isTooLate = stoppedAt !== undefined && stoppedAt < others.length && rules.indexOf(others[stoppedAt]!) < last;
  if (!chainDiffers && !baseDiffers && !isTooLate) return undefined;

  const requests: NetlinkRequest[] = [];
  if (chainDiffers) {
    requests.push(newChain(table, { name: names.chain, rules: [] }));
    if (ownChain && ownChain.length > 0) requests.push(flushChain(table, names.chain));
    requests.push(...wanted.map((each) => newRule(table, names.chain, each)));
  }
  if (baseDiffers || isTooLate) {
    const before = stoppedAt === undefined ? undefined : others[stoppedAt]?.handle;
    requests.push(
      ...inBase.map((each) => newRule(table, chain.name, each, before ?? 'last')),
      ...own.map(({ handle }) => deleteRule(table, chain.name, handle!)),
    );
  }
  return { because: reason(), requests };

  function reason(): string {
    if (own.length > 0) return isTooLate ? describeHindrance(place, stoppedAt!, others) : 'they were changed';
    return stoppedAt === undefined ? 'they are not there' : describeHindrance(place, stoppedAt, others);
  }
}

/** What to do where the kernel lets nobody but a table's owner change it. */
function refusal(place: ForwardChain, accepted: readonly Prefix[], message: string): string {
  const { table } = place;
  const what = `"${placeOf(place)}" drops the cluster's packets, and weftd cannot add to it: ${message}`;
  if (table.name !== 'firewalld')
    return `${what}; have its owner accept what is from and to ${accepted.map(formatPrefix).join(', ')}`;
  const sources = accepted.map((prefix) => `--add-source=${formatPrefix(prefix)}`).join(' ');
  return `${what}; run: firewall-cmd --permanent --zone=trusted ${sources} && firewall-cmd --reload`;
}

/**
 * Looks at a base chain and mends it, in one transaction.
 * @throws NetlinkError: somebody else was changing it, or another fault
 */
export function ensureForward(
  nft: NftConnection,
  place: ForwardChain,
  settings: ForwardSettings,
  names: ForwardNames,
): ForwardOutcome {
  const { table, chain } = place;
  const name = placeOf(place);
  const planned = planForward(
    place,
    nft.listRules(table, chain.name),
    (other) => (nft.hasChain(table, other) ? nft.listRules(table, other) : undefined),
    settings,
    names,
  );
  if (!planned) return { place: name };
  try {
    nft.transact(planned.requests);
    return { place: name, mended: planned.because };
  } catch (error) {
    if (!hasCode(error, 'EPERM')) throw error;
    return { place: name, problem: refusal(place, settings.accepted, 'the table has an owner, who alone may') };
  }
}

/** Takes weftd's rules out of the chain. */
export function removeForward(nft: NftConnection, place: ForwardChain, names: ForwardNames): void {
  const { table, chain } = place;
  const own = nft.listRules(table, chain.name).filter((each) => isOwn(place, names, each));
  const requests = own.map(({ handle }) => deleteRule(table, chain.name, handle!));
  if (isIptables(place) && nft.hasChain(table, names.chain)) {
    requests.push(flushChain(table, names.chain), deleteChain(table, names.chain));
  }
  nft.transact(requests);
}
