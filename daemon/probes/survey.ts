/**
 * Asks the peers at once, and more closely, for `weftctl doctor`: small packets, and packets as large as containers send,
 * which may not be cut into fragments. Where only small ones arrive, it finds the largest that does. Where none arrives, it
 * asks the peer's public address: the host is down, or something drops the tunnel's packets.
 *
 * One survey at a time, of some hundred peers at most, for less than four seconds.
 */

import { families } from '../../cluster/network-config.ts';
import type { PathSurvey, SurveyedPeer } from '../../cluster/status.ts';
import { echoHeaderBytes, ipHeaderBytes } from '../../linux/icmp.ts';
import { type Address, type Family, formatAddress } from '../../net/address.ts';
import type { ProbedNetwork } from './path-health.ts';
import { type ProbedPeer, sourceOf, subnetText, targetOf } from './targets.ts';
import { collect, type EchoPort, Volley } from './volley.ts';

export interface SurveyPorts {
  readonly network: () => (ProbedNetwork & { readonly mtuBytes: number }) | undefined;
  /** Peers that missed a request lately: they are asked first. */
  readonly suspects: () => readonly ProbedPeer[];
  /** The tunnel's device, or the external interface. */
  readonly device: (family: Family) => string | undefined;
  /** @throws SyscallError */
  readonly open: (
    family: Family,
    options: {
      readonly source?: Address | undefined;
      readonly device?: string | undefined;
      readonly dontFragment?: boolean;
    },
  ) => EchoPort;
  /** A socket that hears what comes in by the device alone, if this host may have one. */
  readonly witness: (family: Family, device: string, identifierOf: EchoPort) => EchoPort | undefined;
  readonly randomBytes: (count: number) => Uint8Array;
  readonly pause: (ms: number) => Promise<void>;
}

const peersAtMost = 100;
/** Peers whose largest packet is searched for. */
const narrowedAtMost = 20;
/** Sizes in a step, and steps: 9 to the fourth is more than any MTU of Ethernet. */
const sizes = 8;
const steps = 4;
const smallBytes = 16;
/** Requests between pauses, so that no queue overflows. */
const burst = 50;
const burstPauseMs = 50;
const firstWaitMs = 400;
const againWaitMs = 500;
const stepWaitMs = 150;
/** Between two looks at the replies. */
const lookMs = 25;

interface Asked {
  readonly peer: ProbedPeer;
  readonly family: Family;
  readonly target: Address;
  small: boolean;
  large: boolean;
  largest: number | undefined;
  host: boolean | undefined;
  elsewhere: boolean;
}

export class Survey {
  readonly #ports: SurveyPorts;
  #sequence = 0;

  constructor(ports: SurveyPorts) {
    this.#ports = ports;
  }

  async run(): Promise<PathSurvey> {
    const network = this.#ports.network();
    if (!network) return { peers: [], mtuBytes: 0, left: 0, unavailable: 'weftd does not know the peers yet' };
    const { peers, backend, mtuBytes } = network;
    // Suspects may have left meanwhile.
    const suspects = this.#ports.suspects().filter((peer) => peers.includes(peer));
    const chosen = [...new Set([...suspects, ...this.#some(peers)])].slice(0, peersAtMost);
    const asked = chosen.flatMap((peer) =>
      families.flatMap((family): Asked[] => {
        const target = targetOf(peer, backend, family);
        const unknown = { small: false, large: false, largest: undefined, host: undefined, elsewhere: false };
        return target ? [{ peer, family, target, ...unknown }] : [];
      }),
    );
    const failures: string[] = [];
    await Promise.all(
      families.map(async (family) => {
        const own = asked.filter((each) => each.family === family);
        try {
          if (own.length > 0) await this.#askFamily(family, own, network);
        } catch (error) {
          failures.push((error as Error).message);
        }
      }),
    );
    const through = backend.tunnelAddress ? 'tunnel' : 'network';
    return {
      peers: failures.length > 0 ? [] : asked.map((each) => format(each, through)),
      mtuBytes,
      left: peers.length - chosen.length,
      ...(failures.length > 0 ? { unavailable: failures[0]! } : {}),
    };
  }

  /** As many as are asked, others each time where there are more. */
  #some(peers: readonly ProbedPeer[]): ProbedPeer[] {
    if (peers.length <= peersAtMost) return [...peers];
    const start = new DataView(this.#ports.randomBytes(4).slice().buffer).getUint32(0) % peers.length;
    return Array.from({ length: peersAtMost }, (_, i) => peers[(start + i) % peers.length]!);
  }

  async #askFamily(
    family: Family,
    asked: readonly Asked[],
    { own, backend, mtuBytes }: ProbedNetwork & { readonly mtuBytes: number },
  ): Promise<void> {
    const { open, device, witness: openWitness } = this.#ports;
    const source = sourceOf(own, backend, family);
    const socket = open(family, { source, dontFragment: true });
    const name = device(family);
    const witness = name === undefined || !source ? undefined : openWitness(family, name, socket);
    try {
      const headers = ipHeaderBytes[family] + echoHeaderBytes;
      const large = mtuBytes - headers;
      await this.#round(socket, asked, smallBytes, firstWaitMs, (each, heard) => (each.small = heard), witness);
      await this.#round(socket, asked, large, firstWaitMs, (each, heard) => (each.large = heard));
      // One packet may be lost by chance.
      const again = asked.filter((each) => !each.small || !each.large);
      if (again.length > 0) {
        await this.#round(socket, again, smallBytes, againWaitMs, (each, heard) => (each.small ||= heard), witness);
        await this.#round(socket, again, large, againWaitMs, (each, heard) => (each.large ||= heard));
      }
      const narrow = asked.filter((each) => each.small && !each.large).slice(0, narrowedAtMost);
      await this.#narrow(socket, narrow, headers, mtuBytes);
      const lost = asked.filter(({ small }) => !small);
      if (backend.tunnelAddress && lost.length > 0) await this.#askHosts(family, lost);
    } finally {
      socket.close();
      witness?.close();
    }
  }

  /** Finds each one's largest packet: in each step by several sizes at once. */
  async #narrow(socket: EchoPort, asked: readonly Asked[], headers: number, mtuBytes: number): Promise<void> {
    const bounds = new Map(asked.map((each) => [each, { low: headers + smallBytes, high: mtuBytes }]));
    for (let step = 0; step < steps && asked.length > 0; step++) {
      const volleys = asked.flatMap((each) => {
        const { low, high } = bounds.get(each)!;
        const between = Array.from(
          { length: sizes },
          (_, i) => low + Math.floor(((high - low) * (i + 1)) / (sizes + 1)),
        );
        return [...new Set(between)]
          .filter((bytes) => bytes > low)
          .map((bytes) => {
            const volley = this.#volley(socket, bytes - headers, 1);
            volley.ask(each.target);
            return { each, bytes, volley };
          });
      });
      await this.#ports.pause(stepWaitMs);
      collect(
        socket,
        volleys.map(({ volley }) => volley),
      );
      for (const { each, bytes, volley } of volleys) {
        const known = bounds.get(each)!;
        if (volley.isAnswered(0)) known.low = Math.max(known.low, bytes);
        else known.high = Math.min(known.high, bytes);
      }
    }
    for (const each of asked) each.largest = bounds.get(each)!.low;
  }

  async #askHosts(family: Family, asked: readonly Asked[]): Promise<void> {
    const known = asked.filter(({ peer }) => peer.lease.publicAddresses[family]);
    const socket = this.#ports.open(family, {});
    try {
      const volley = this.#volley(socket, smallBytes);
      for (const { peer } of known) volley.ask(peer.lease.publicAddresses[family]!);
      await this.#wait(socket, volley, firstWaitMs);
      for (const [i, each] of known.entries()) each.host = volley.isAnswered(i);
    } finally {
      socket.close();
    }
  }

  #volley(socket: EchoPort, payloadBytes: number, places = peersAtMost): Volley {
    const volley = new Volley(socket, this.#sequence, this.#ports.randomBytes(16), payloadBytes);
    // Volleys of one socket are told apart by their numbers.
    this.#sequence = (this.#sequence + places) & 0xffff;
    return volley;
  }

  /** Until all have answered, or the time is over. */
  async #wait(socket: EchoPort, volley: Volley, waitMs: number): Promise<void> {
    for (let leftMs = waitMs; leftMs > 0 && !volley.isComplete; leftMs -= lookMs) {
      await this.#ports.pause(lookMs);
      collect(socket, [volley]);
    }
  }

  async #round(
    socket: EchoPort,
    asked: readonly Asked[],
    payloadBytes: number,
    waitMs: number,
    note: (each: Asked, isAnswered: boolean) => void,
    witness?: EchoPort,
  ): Promise<void> {
    const volley = this.#volley(socket, payloadBytes);
    for (const [i, { target }] of asked.entries()) {
      if (i > 0 && i % burst === 0) {
        await this.#ports.pause(burstPauseMs);
        collect(socket, [volley]);
      }
      volley.ask(target);
    }
    await this.#wait(socket, volley, waitMs);
    const seen = witness && heardBy(witness, asked.length);
    asked.forEach((each, i) => {
      const isAnswered = volley.isAnswered(i);
      note(each, isAnswered);
      if (isAnswered && seen) each.elsewhere = !seen.has(formatAddress(each.target));
    });
  }
}

/** The senders of the replies that came in by the witness's device. */
function heardBy(witness: EchoPort, expected: number): ReadonlySet<string> {
  const seen = new Set<string>();
  for (let left = expected * 2 + 64; left > 0; left--) {
    const reply = witness.receive();
    if (reply === undefined) break;
    if (reply !== 'other') seen.add(formatAddress(reply.source));
  }
  return seen;
}

function format(asked: Asked, through: SurveyedPeer['through']): SurveyedPeer {
  const { peer, family, target, small, large, largest, host, elsewhere } = asked;
  const { lease, path } = peer;
  const publicAddress = lease.publicAddresses[family];
  return {
    ...(lease.node === undefined ? {} : { node: lease.node }),
    subnet: subnetText(peer, family),
    address: formatAddress(target),
    ...(publicAddress ? { publicAddress: formatAddress(publicAddress) } : {}),
    through: path === 'direct' ? 'network' : through,
    answers: small,
    answersLarge: large,
    ...(largest === undefined ? {} : { largestBytes: largest }),
    ...(host === undefined ? {} : { hostAnswers: host }),
    ...(elsewhere && path !== 'direct' ? { returnsElsewhere: true } : {}),
  };
}
