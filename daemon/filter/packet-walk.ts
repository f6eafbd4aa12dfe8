/**
 * Simulates what other programs' filter chains do to the cluster's ordinary packets. So weftd finds out whether it
 * has to put rules of its own among theirs, and where.
 *
 * It understands only what distinguishes ordinary packets: addresses, interfaces, the state of a connection. A rule
 * that asks for anything else (a port, a mark, a limit) is about particular packets, and is taken not to match.
 */

import type { Family } from '../../net/address.ts';
import { networkOf, type Prefix, prefixContains, prefixesOverlap } from '../../net/prefix.ts';

export type ConnectionState = 'new' | 'established' | 'related' | 'invalid' | 'untracked';

export type Condition =
  | { readonly kind: 'family'; readonly family: Family; readonly negated: boolean }
  | { readonly kind: 'source' | 'destination'; readonly prefix: Prefix; readonly negated: boolean }
  /** `name` may be a prefix, with `any` for the rest. */
  | { readonly kind: 'input' | 'output'; readonly name: string; readonly any: boolean; readonly negated: boolean }
  | { readonly kind: 'state'; readonly states: ReadonlySet<ConnectionState>; readonly negated: boolean }
  /** IP protocols. */
  | { readonly kind: 'protocol'; readonly protocols: readonly number[]; readonly negated: boolean }
  /** Destination ports: ranges, both ends included. */
  | { readonly kind: 'port'; readonly ports: readonly (readonly [number, number])[]; readonly negated: boolean }
  /** The connection's state, in a way that this simulation does not understand. */
  | { readonly kind: 'some state' }
  /** Something that this simulation does not understand. */
  | { readonly kind: 'special' };

export type Verdict =
  | { readonly kind: 'none' }
  | { readonly kind: 'accept' | 'drop' | 'return' }
  | { readonly kind: 'jump' | 'goto'; readonly chain: string };

export interface WalkRule {
  readonly conditions: readonly Condition[];
  readonly verdict: Verdict;
}

/** The same text for rules with the same effect. */
export const formatWalkRule = ({ conditions, verdict }: WalkRule): string =>
  JSON.stringify([conditions, verdict], (_key, value: unknown) =>
    value instanceof Uint8Array || value instanceof Set ? [...value] : value,
  );

/** An ordinary packet. */
export interface SamplePacket {
  readonly family: Family;
  /** From any address in it; undefined: from outside the cluster. */
  readonly source: Prefix | undefined;
  readonly destination: Prefix | undefined;
  readonly input: string;
  readonly output: string;
  readonly state: ConnectionState;
  /** Absent: any. A rule about a protocol is about particular packets. */
  readonly protocol?: number;
  /** The destination port, if the protocol has ports. */
  readonly port?: number;
}

/** Whether `outer` contains all of `inner`. */
const covers = (outer: Prefix, inner: Prefix): boolean =>
  outer.length <= inner.length && prefixContains(outer, networkOf(inner).address);

function addressHolds(prefix: Prefix, negated: boolean, range: Prefix | undefined): boolean {
  // An address outside the cluster may be any.
  if (!range) return negated ? prefix.length > 0 : prefix.length === 0;
  if (range.address.family !== prefix.address.family) return false;
  return negated ? !prefixesOverlap(prefix, range) : covers(prefix, range);
}

function holds(condition: Condition, packet: SamplePacket): boolean {
  switch (condition.kind) {
    case 'family':
      return (condition.family === packet.family) !== condition.negated;
    case 'source':
    case 'destination':
      return addressHolds(condition.prefix, condition.negated, packet[condition.kind]);
    case 'input':
    case 'output': {
      const name = packet[condition.kind];
      const same = condition.any ? name.startsWith(condition.name) : name === condition.name;
      return same !== condition.negated;
    }
    case 'state':
      return condition.states.has(packet.state) !== condition.negated;
    case 'protocol':
      return packet.protocol !== undefined && condition.protocols.includes(packet.protocol) !== condition.negated;
    case 'port': {
      const { port } = packet;
      if (port === undefined) return false;
      return condition.ports.some(([from, to]) => from <= port && port <= to) !== condition.negated;
    }
    case 'some state':
    case 'special':
      return false;
  }
}

/** Chains by name, read when they are needed. An unknown chain lets everything through. */
export type Chains = (name: string) => readonly WalkRule[];

/** The deepest chain of jumps: NFT_JUMP_STACK_SIZE of include/net/netfilter/nf_tables.h. */
const deepest = 16;

/** The packet's fate in the rules; 'through' if it passes the last one, or returns. */
function walk(
  rules: readonly WalkRule[],
  packet: SamplePacket,
  chains: Chains,
  depth: number,
): 'accept' | 'drop' | 'through' {
  for (const { conditions, verdict } of rules) {
    if (verdict.kind === 'none' || !conditions.every((condition) => holds(condition, packet))) continue;
    if (!('chain' in verdict)) return verdict.kind === 'return' ? 'through' : verdict.kind;
    if (depth >= deepest) continue;
    const fate = walk(chains(verdict.chain), packet, chains, depth + 1);
    if (fate !== 'through') return fate;
    if (verdict.kind === 'goto') return 'through';
  }
  return 'through';
}

/** The place where a base chain drops some of the packets. */
export interface Hindrance {
  /** Index of the first rule that drops; the number of rules if the chain's policy drops. */
  readonly at: number;
}

/** Undefined if all of the packets get through or are accepted. */
export function findHindrance(
  rules: readonly WalkRule[],
  policy: 'accept' | 'drop',
  packets: readonly SamplePacket[],
  chains: Chains,
): Hindrance | undefined {
  const places = packets.flatMap((packet) => droppedAt(rules, policy, packet, chains) ?? []);
  return places.length > 0 ? { at: Math.min(...places) } : undefined;
}

function droppedAt(
  rules: readonly WalkRule[],
  policy: 'accept' | 'drop',
  packet: SamplePacket,
  chains: Chains,
): number | undefined {
  for (const [i, each] of rules.entries()) {
    const fate = walk([each], packet, chains, 0);
    if (fate === 'drop') return i;
    if (fate === 'accept') return undefined;
    // The policy decides.
    if (ends(each.verdict) && each.conditions.every((condition) => holds(condition, packet))) break;
  }
  return policy === 'drop' ? rules.length : undefined;
}

/** Whether such a rule ends the walk through its chain. */
const ends = ({ kind }: Verdict): boolean => kind === 'return' || kind === 'goto';

/** The interfaces of the cluster's packets on this host. */
export interface Roads {
  /** Interfaces that lead to peers: tunnels, and the external one. */
  readonly peers: readonly string[];
  readonly external: string;
  /** Interfaces that lead to containers. */
  readonly containers: readonly string[];
}

/** A name that no interface has, for a missing interface: no rule matches it. */
const nameless = ' ';

/**
 * Packets of containers to each other and to the outside, and the answers.
 * @param cluster the network, and of it (or of one before it) this host's subnet
 */
export function samplePackets(cluster: Prefix, subnet: Prefix, roads: Roads): SamplePacket[] {
  const { family } = cluster.address;
  const containers = roads.containers.length > 0 ? roads.containers : [nameless];
  return containers.flatMap((container) => [
    ...roads.peers.flatMap((peer): SamplePacket[] => [
      { family, source: cluster, destination: subnet, input: peer, output: container, state: 'new' },
      { family, source: subnet, destination: cluster, input: container, output: peer, state: 'new' },
    ]),
    {
      family,
      source: subnet,
      destination: undefined,
      input: container,
      output: roads.external,
      state: 'new',
    },
    {
      family,
      source: undefined,
      destination: subnet,
      input: roads.external,
      output: container,
      state: 'established',
    },
  ]);
}
