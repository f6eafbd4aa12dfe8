/**
 * One connection to nf_tables, and what is known of the packet filter by it.
 *
 * The kernel numbers the states of the packet filter: its generation grows by one with every transaction of anybody. So
 * a thing that was seen at one generation still holds as long as the generation is the same, without a look. A
 * transaction of our own moves what we know to the next generation, provided that nobody else's came in between.
 */

import { type NftConnection, openNft } from '../../linux/nft/connection.ts';
import type { Sys } from '../../linux/sys.ts';

/** No state of the packet filter has this generation: they begin with 1. */
export const unknownGeneration = 0;

const nextGeneration = (generation: number): number => (generation + 1) >>> 0 || 1;

/** Something that is known of the packet filter, and the generation that it was seen at. */
export class Knowledge<T> {
  #value: T | undefined;
  #generation = unknownGeneration;

  get value(): T | undefined {
    return this.#value;
  }

  /** `unknownGeneration`: it can be worked with, but the next look has to check it. */
  set(value: T, generation: number): void {
    this.#value = value;
    this.#generation = generation;
  }

  /** More is known of the same state. */
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

  /** What was known at the one generation is so at the other. */
  move(from: number, to: number): void {
    if (this.isOf(from)) this.#generation = to;
  }
}

export class FilterSession {
  readonly #sys: Sys;
  readonly #known: Knowledge<unknown>[] = [];
  #connection: NftConnection | undefined;

  constructor(sys: Sys) {
    this.#sys = sys;
  }

  /** A thing to be known, forgotten with the connection. */
  knowledge<T>(): Knowledge<T> {
    const made = new Knowledge<T>();
    this.#known.push(made as Knowledge<unknown>);
    return made;
  }

  /**
   * Runs `body` with the connection, which is opened where there is none. After any error it is closed, and all that is
   * known is forgotten: the connection may hold answers that nobody waits for, and what the kernel did is not known.
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

  /** By what number the packet filter's events name us as their cause. */
  get port(): number | undefined {
    return this.#connection?.port;
  }

  generation(nft: NftConnection): number {
    return nft.generation() ?? unknownGeneration;
  }

  /**
   * To be called after a transaction of our own.
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
    for (const known of this.#known) known.forget();
  }
}
