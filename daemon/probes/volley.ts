/**
 * Some echo requests that were sent together, and the replies to them. A reply counts if it comes from the address that was
 * asked, with the request's number and its payload, of which a part is random. How many packets are read is bounded,
 * because others may send as many as they like.
 */

import type { EchoSocket } from '../../linux/echo-socket.ts';
import { type Address, sameAddress } from '../../net/address.ts';

export type EchoPort = Pick<EchoSocket, 'family' | 'send' | 'receive' | 'close'>;

const nonceBytes = 16;
/** Packets beyond the expected ones that a look may read. */
const strangersAtMost = 64;

export class Volley {
  readonly #socket: EchoPort;
  readonly #payload: Uint8Array;
  readonly #targets: Address[] = [];
  readonly #answered: boolean[] = [];
  readonly #first: number;

  /**
   * @param first the number of the first request
   * @param nonce 16 random bytes
   * @param payloadBytes their number; at least as many as the nonce has
   */
  constructor(socket: EchoPort, first: number, nonce: Uint8Array, payloadBytes = nonceBytes) {
    this.#socket = socket;
    this.#first = first;
    this.#payload = new Uint8Array(Math.max(payloadBytes, nonceBytes));
    // A pattern that shows a byte which was changed, moved or lost on the way.
    for (let i = 0; i < this.#payload.length; i++) this.#payload[i] = (i * 7) & 0xff;
    this.#payload.set(nonce.subarray(0, nonceBytes));
  }

  get size(): number {
    return this.#targets.length;
  }

  /** @returns whether this host could send it */
  ask(target: Address): boolean {
    const sequence = this.#first + this.#targets.length;
    this.#targets.push(target);
    this.#answered.push(false);
    return this.#socket.send(target, sequence, this.#payload);
  }

  get isComplete(): boolean {
    return this.#answered.every(Boolean);
  }

  /** Whether the request of that place was answered. */
  isAnswered(place: number): boolean {
    return this.#answered[place] === true;
  }

  /** Takes a reply of the socket. @returns whether it was one to this volley */
  take({ source, sequence, payload }: { source: Address; sequence: number; payload: Uint8Array }): boolean {
    const place = (sequence - this.#first) & 0xffff;
    const target = this.#targets[place];
    if (!target || !sameAddress(target, source) || payload.length !== this.#payload.length) return false;
    for (let i = 0; i < payload.length; i++) if (payload[i] !== this.#payload[i]) return false;
    this.#answered[place] = true;
    return true;
  }
}

/** Reads the replies that have come, and gives them to the volleys of the socket. */
export function collect(socket: EchoPort, volleys: readonly Volley[]): void {
  let left = strangersAtMost;
  for (const volley of volleys) left += volley.size * 2;
  for (; left > 0; left--) {
    const reply = socket.receive();
    if (reply === undefined) return;
    if (reply !== 'other') volleys.some((volley) => volley.take(reply));
  }
}
