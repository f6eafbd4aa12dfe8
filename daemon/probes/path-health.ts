/**
 * Asks each peer about once a minute by an echo request through the network, and knows which do not answer. A firewall that
 * drops the tunnel's packets is seen in no other way: its node counts as up, and its routes are there.
 *
 * A round asks all peers, some dozens in a second, and ends; the next begins a minute after it. Nothing is kept of a peer
 * that answers. A peer counts as silent after it has missed two rounds.
 */

import type { PerFamily } from '../../cluster/network-config.ts';
import type { PathsStatus } from '../../cluster/status.ts';
import { type Address, addressKey, type Family, formatAddress } from '../../net/address.ts';
import type { Prefix } from '../../net/prefix.ts';
import { type Task, taskDeadlineMs } from '../pace/task.ts';
import type { Logger } from '../report/log.ts';
import { familyOf, type ProbedBackend, type ProbedPeer, sourceOf, subnetText, targetOf } from './targets.ts';
import { collect, type EchoPort, Volley } from './volley.ts';

/** The part of the node's state that the requests need; undefined before there is any. */
export interface ProbedNetwork {
  readonly own: PerFamily<Prefix>;
  readonly backend: ProbedBackend;
  readonly peers: readonly ProbedPeer[];
}

export interface PathHealthOptions {
  readonly network: () => ProbedNetwork | undefined;
  /** @throws SyscallError */
  readonly open: (family: Family, source: Address | undefined) => EchoPort;
  readonly randomBytes: (count: number) => Uint8Array;
  readonly logger: Pick<Logger, 'info' | 'warn'>;
  /** Milliseconds on a clock that does not go back. */
  readonly now: () => number;
  /** Milliseconds since the epoch. */
  readonly time: () => number;
  readonly roundMs?: number | undefined;
}

const defaultRoundMs = 60_000;
/** Replies later than this are missed. */
const waitMs = 1000;
/** Peers that are asked at once. */
const volleySize = 50;
/** Time between two volleys. With thousands of peers a round may take longer than a minute: each wake-up costs more. */
const pauseOf = (peers: number): number => (peers <= 500 ? waitMs : 5 * waitMs);
/** Missed rounds that make a peer silent. */
const missesAtLeast = 2;
/** Peers whose misses are kept; of others only the number. */
const keptAtMost = 1000;
const shownAtMost = 20;

interface Missing {
  readonly peer: ProbedPeer;
  readonly address: Address;
  readonly family: Family;
  readonly sinceMs: number;
  misses: number;
  /** The last round that asked it. */
  round: number;
}

/** Requests of one family that wait for their replies, with the peers that they are for. */
interface Waiting {
  readonly volley: Volley;
  readonly socket: EchoPort;
  readonly peers: ProbedPeer[];
  readonly targets: Address[];
}

interface Round {
  readonly startMs: number;
  readonly network: ProbedNetwork;
  readonly sockets: Map<Family, EchoPort | undefined>;
  next: number;
  asked: number;
  /** Peers that missed and are not kept. */
  beyond: number;
  failure: string | undefined;
}

export class PathHealth implements Task {
  readonly name = 'asking the peers';
  readonly everyMs: number;
  readonly jitter = 0;
  readonly deadlineMs = taskDeadlineMs;
  readonly firstMs: number;
  readonly #options: PathHealthOptions;
  readonly #missing = new Map<number | string, Missing>();
  #round: Round | undefined;
  #rounds = 0;
  #waiting: Waiting[] = [];
  #sequence = 0;
  #last: { readonly asked: number; readonly beyond: number; readonly failure: string | undefined } | undefined;
  #toldSilent = 0;

  constructor(options: PathHealthOptions) {
    this.#options = options;
    this.everyMs = options.roundMs ?? defaultRoundMs;
    // Peers of a cluster that starts need some seconds themselves.
    this.firstMs = Math.min(this.everyMs, 10_000);
  }

  /** One volley's work. */
  run(): number {
    const { now, network } = this.#options;
    this.#collect();
    if (!this.#round) {
      const known = network();
      if (!known || known.peers.length === 0) {
        this.#forgetAll();
        return this.everyMs;
      }
      this.#rounds++;
      this.#round = {
        startMs: now(),
        network: known,
        sockets: new Map(),
        ...{ next: 0, asked: 0, beyond: 0, failure: undefined },
      };
    }
    const round = this.#round;
    if (round.next < round.network.peers.length) {
      this.#askSome(round);
      return round.next < round.network.peers.length ? pauseOf(round.network.peers.length) : waitMs;
    }
    this.#end(round);
    return Math.max(pauseOf(round.network.peers.length), round.startMs + this.everyMs - now());
  }

  /** Asks some peers: a volley. */
  #askSome(round: Round): void {
    const { peers, backend } = round.network;
    const byFamily = new Map<Family, Waiting>();
    for (let left = volleySize; left > 0 && round.next < peers.length; round.next++) {
      const peer = peers[round.next]!;
      const family = familyOf(peer);
      const target = family && targetOf(peer, backend, family);
      if (family === undefined || !target) continue;
      const waiting = byFamily.get(family) ?? this.#openVolley(round, family);
      if (!waiting) continue;
      byFamily.set(family, waiting);
      waiting.volley.ask(target);
      waiting.peers.push(peer);
      waiting.targets.push(target);
      round.asked++;
      left--;
    }
    this.#waiting = [...byFamily.values()];
    for (const { volley } of this.#waiting) this.#sequence = (this.#sequence + volley.size) & 0xffff;
  }

  #openVolley(round: Round, family: Family): Waiting | undefined {
    const { open, randomBytes } = this.#options;
    if (!round.sockets.has(family)) {
      let socket: EchoPort | undefined;
      try {
        socket = open(family, sourceOf(round.network.own, round.network.backend, family));
      } catch (error) {
        round.failure = (error as Error).message;
      }
      round.sockets.set(family, socket);
    }
    const socket = round.sockets.get(family);
    if (!socket) return undefined;
    return { volley: new Volley(socket, this.#sequence, randomBytes(16)), socket, peers: [], targets: [] };
  }

  /** Takes the replies to the last requests, and notes who did not answer. */
  #collect(): void {
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const { volley, socket, peers, targets } of waiting) {
      collect(socket, [volley]);
      for (const [i, peer] of peers.entries()) this.#note(peer, targets[i]!, volley.isAnswered(i));
    }
  }

  #note(peer: ProbedPeer, address: Address, isAnswered: boolean): void {
    const key = addressKey(address);
    if (isAnswered) {
      this.#missing.delete(key);
      return;
    }
    const known = this.#missing.get(key);
    if (known) {
      known.misses++;
      known.round = this.#rounds;
    } else if (this.#missing.size < keptAtMost) {
      const sinceMs = this.#options.now();
      this.#missing.set(key, { peer, address, family: address.family, sinceMs, misses: 1, round: this.#rounds });
    } else if (this.#round) this.#round.beyond++;
  }

  #end({ sockets, asked, beyond, failure }: Round): void {
    for (const socket of sockets.values()) socket?.close();
    this.#round = undefined;
    this.#last = { asked, beyond, failure };
    // Peers that have left, and those that nobody could ask.
    for (const [key, { round }] of this.#missing) if (round !== this.#rounds) this.#missing.delete(key);
    const silent = this.#silent();
    if (silent.length === this.#toldSilent) return;
    const names = silent.slice(0, 3).map(({ peer, address }) => peer.lease.node ?? formatAddress(address));
    const fields = { silent: silent.length, asked, ...(names.length > 0 ? { such: names.join(' ') } : {}) };
    if (silent.length > this.#toldSilent) {
      this.#options.logger.warn(
        'peers do not answer through the network; "weftctl doctor" looks for the reason',
        fields,
      );
    } else this.#options.logger.info('peers answer again through the network', fields);
    this.#toldSilent = silent.length;
  }

  #forgetAll(): void {
    this.#missing.clear();
    this.#last = undefined;
    this.#toldSilent = 0;
  }

  #silent(): Missing[] {
    return [...this.#missing.values()].filter(({ misses }) => misses >= missesAtLeast);
  }

  /** The number of silent peers; undefined before the first round, and where this host cannot ask. */
  get silentCount(): number | undefined {
    return this.#last && this.#last.asked > 0 ? this.#silent().length + this.#last.beyond : undefined;
  }

  /** Peers that missed a request, those that missed most first. */
  get suspects(): readonly ProbedPeer[] {
    return [...this.#missing.values()].sort((a, b) => b.misses - a.misses).map(({ peer }) => peer);
  }

  get status(): PathsStatus {
    const { now, time } = this.#options;
    const { asked = 0, failure } = this.#last ?? {};
    const list = this.#silent().slice(0, shownAtMost);
    return {
      asked,
      silent: this.silentCount ?? 0,
      list: list.map(({ peer, address, family, sinceMs }) => ({
        ...(peer.lease.node === undefined ? {} : { node: peer.lease.node }),
        subnet: subnetText(peer, family),
        address: formatAddress(address),
        since: new Date(time() - now() + sinceMs).toISOString(),
      })),
      ...(failure === undefined ? {} : { unavailable: failure }),
    };
  }

  close(): void {
    for (const socket of this.#round?.sockets.values() ?? []) socket?.close();
    this.#round = undefined;
    this.#waiting = [];
  }
}
