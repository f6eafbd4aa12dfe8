/**
 * Weftd's rules in other programs' chains. An accept in weftd's own table does not stop another table from dropping the
 * packet. So where another program's chain drops forwarded packets (Docker sets iptables' FORWARD to DROP, a firewall
 * rejects unknown packets) the cluster's packets are accepted in that chain, as flannel does it.
 *
 * In iptables' tables the rules are exactly those that `iptables -A FORWARD -j WEFT-FORWARD` and a chain of that name
 * would give, so that iptables can still read and change its tables. In other tables they are two rules with a comment.
 * They stand in front of the first rule that drops the cluster's ordinary packets, else at the end, where flannel has
 * its own. So network policies, and rules of people about particular packets, stay in force. Weftd does not insist on
 * being first: only a rule that drops all of the cluster's packets has to come after its own.
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
import { formatCause, planRepair } from './forward-plan.ts';
import { readRule } from './nft-walk.ts';
import { formatWalkRule, type SamplePacket, type WalkRule } from './packet-walk.ts';

/** The packets that must pass. */
export interface ForwardSettings {
  readonly accepted: readonly Prefix[];
  readonly packets: readonly SamplePacket[];
}

/** A base chain at the forward hook, of any program. */
export interface ForwardChain {
  readonly table: TableName;
  readonly chain: NftChain;
}

/** The result of a look at a chain. */
export interface ForwardOutcome {
  readonly place: string;
  /** The fault that was repaired; undefined if there was none. */
  readonly mended?: string;
  /** A fault that weftd cannot repair, and what to do about it. */
  readonly problem?: string;
}

/** The families whose tables see forwarded packets of IPv4 and IPv6. */
const tableFamilies = ['ip', 'ip6', 'inet'] as const satisfies readonly NftFamily[];
const packetFamily: Partial<Record<NftFamily, Family>> = { ip: 4, ip6: 6 };

/** The names of weftd's own objects in others' tables: with several networks on a host each weftd has its own. */
export interface ForwardNames {
  /** Of the chain in iptables' tables; iptables takes names of 28 characters. */
  readonly chain: string;
  /** The comment of rules in other tables. */
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

/** Base chains that may drop forwarded packets, except weftd's own. */
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
 * `-s` and `-d` in the form that every version of iptables reads: the whole address, and a mask. (Newer versions write
 * fewer bytes if possible, but older ones cannot read that.)
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

/** The accepting rules, in the form of the table that they are for. */
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

/** weftd's rules in the base chain. */
const isOwn = (place: ForwardChain, names: ForwardNames, each: NftRule): boolean =>
  isIptables(place)
    ? each.expressions.some((expression) => expression.type === 'verdict' && expression.chain === names.chain)
    : each.comment === names.comment;

/** How to repair a base chain. */
interface ForwardPlan {
  readonly because: string;
  readonly requests: readonly NetlinkRequest[];
}

/**
 * Compares a base chain with its desired state.
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

  // Versions of iptables write the same rule in several ways.
  const same = (a: NftRule, b: NftRule): boolean =>
    isIptables(place) ? formatWalkRule(readRule(a, family)) === formatWalkRule(readRule(b, family)) : sameRule(a, b);
  const sameList = (some: readonly NftRule[], list: readonly NftRule[] | undefined): boolean =>
    list?.length === some.length && some.every((each, i) => same(each, list[i]!));
  const ownChain = isIptables(place) ? listed(names.chain) : undefined;
  const isTargetRight = !isIptables(place) || sameList(wanted, ownChain);
  const repair = planRepair<NftRule>({
    rules,
    policy: chain.base!.policy,
    isOwn: (each) => isOwn(place, names, each),
    read: (each) => readRule(each, family),
    chains,
    packets: packets.filter((packet) => family === undefined || packet.family === family),
    isRight: (own) => sameList(inBase, own),
    isTargetRight,
    // One command changes iptables' policy: the rules are there beforehand.
    isPermanent: isIptables(place),
  });
  if (!repair) return undefined;
  const { cause, own, isBaseWrong, others } = repair;
  const requests: NetlinkRequest[] = [];
  if (!isTargetRight) {
    requests.push(newChain(table, { name: names.chain, rules: [] }));
    if (ownChain && ownChain.length > 0) requests.push(flushChain(table, names.chain));
    requests.push(...wanted.map((each) => newRule(table, names.chain, each)));
  }
  if (isBaseWrong) {
    const before = others[repair.place]?.handle;
    requests.push(
      ...inBase.map((each) => newRule(table, chain.name, each, before ?? 'last')),
      ...own.map(({ handle }) => deleteRule(table, chain.name, handle!)),
    );
  }
  const quoted = `"${placeOf(place)}"`;
  return { because: formatCause(cause, `of ${quoted}`, `the policy of ${quoted}`), requests };
}

/** The advice for a table that only its owner can change. */
function refusal(place: ForwardChain, accepted: readonly Prefix[], message: string): string {
  const { table } = place;
  const what = `"${placeOf(place)}" drops the cluster's packets, and weftd cannot add to it: ${message}`;
  if (table.name !== 'firewalld')
    return `${what}; make its owner accept packets from and to ${accepted.map(formatPrefix).join(', ')}`;
  const sources = accepted.map((prefix) => `--add-source=${formatPrefix(prefix)}`).join(' ');
  return `${what}; run: firewall-cmd --permanent --zone=trusted ${sources} && firewall-cmd --reload`;
}

/**
 * Checks a base chain and repairs it, in one transaction.
 * @throws NetlinkError: another program was changing it, or another fault
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
    return { place: name, problem: refusal(place, settings.accepted, 'only its owner can change the table') };
  }
}

/** Removes weftd's rules from the chain. */
export function removeForward(nft: NftConnection, place: ForwardChain, names: ForwardNames): void {
  const { table, chain } = place;
  const own = nft.listRules(table, chain.name).filter((each) => isOwn(place, names, each));
  const requests = own.map(({ handle }) => deleteRule(table, chain.name, handle!));
  if (isIptables(place) && nft.hasChain(table, names.chain)) {
    requests.push(flushChain(table, names.chain), deleteChain(table, names.chain));
  }
  nft.transact(requests);
}
