/**
 * One connection to nf_tables, and the knowledge of the packet filter gained through it.
 *
 * The kernel numbers the states of the packet filter: every transaction raises the generation by one. So knowledge from a
 * generation stays valid without a look while the generation is the same. A transaction of our own moves our knowledge to
 * the next generation, if no other came in between.
 */

import { type NftConnection, openNft } from '../../linux/nft/connection.ts';
import type { Sys } from '../../linux/sys.ts';

/** No state of the packet filter has this generation: they begin with 1. */
export const unknownGeneration = 0;

const nextGeneration = (generation: number): number => (generation + 1) >>> 0 || 1;

/** Knowledge of the packet filter, and its generation. */
export class Knowledge<T> {
  #value: T | undefined;
  #generation = unknownGeneration;

  get value(): T | undefined {
    return this.#value;
  }

  /** `unknownGeneration`: usable, but the next look must check it. */
  set(value: T, generation: number): void {
    this.#value = value;
    this.#generation = generation;
  }

  /** Adds knowledge of the same state. */
  amend(value: T): void {
    this.#value = value;
  }

  forget(): void {
    this.#value = undefined;
    this.#generation = unknownGeneration;
  }

  isOf(generation: number): boolean {
    return this.#value !== undefined && this.#generation === generation;
  }

  /** Moves knowledge from one generation to another. */
  move(from: number, to: number): void {
    if (this.isOf(from)) this.#generation = to;
  }
}

export class FilterSession {
  readonly #sys: Sys;
  readonly #known: Knowledge<unknown>[] = [];
  #connection: NftConnection | undefined;
  #lastGeneration: number | undefined;

  constructor(sys: Sys) {
    this.#sys = sys;
  }

  /** A piece of knowledge, forgotten with the connection. */
  knowledge<T>(): Knowledge<T> {
    const made = new Knowledge<T>();
    this.#known.push(made as Knowledge<unknown>);
    return made;
  }

  /**
   * Runs `body` with the connection, which is opened on demand. After any error it is closed and all knowledge forgotten:
   * the connection may contain unread answers, and the kernel's reaction is unknown.
   */
  use<T>(body: (nft: NftConnection) => T): T {
    this.#connection ??= openNft(this.#sys);
    try {
      return body(this.#connection);
    } catch (error) {
      this.close();
      throw error;
    }
  }

  /** The port by which the packet filter's events name us as their cause. */
  get port(): number | undefined {
    return this.#connection?.port;
  }

  generation(nft: NftConnection): number {
    this.#lastGeneration = nft.generation() ?? unknownGeneration;
    return this.#lastGeneration;
  }

  /**
   * The generation of the last look: enough before a transaction. If others have changed something since, `settle` finds
   * that out afterwards.
   */
  lastGeneration(nft: NftConnection): number {
    return this.#lastGeneration ?? this.generation(nft);
  }

  /**
   * Call it after a transaction of our own.
   * @param before the generation before it
   * @returns whether nobody else has changed anything since
   */
  settle(nft: NftConnection, before: number): boolean {
    const generation = this.generation(nft);
    if (generation !== nextGeneration(before)) return false;
    for (const known of this.#known) known.move(before, generation);
    return true;
  }

  close(): void {
    this.#connection?.close();
    this.#connection = undefined;
    this.#lastGeneration = undefined;
    for (const known of this.#known) known.forget();
  }
}
