/**
 * Asks for the podCIDRs of Nodes that a watch of metadata cannot show: once for a Node, again after a growing pause while
 * it has none. A node can make itself look interesting as often as it likes; it is asked about no more often than that.
 */

import type { Clock, Random, Timer } from '../clock.ts';
import { StoreError, StoreRefusedError } from '../store-errors.ts';
import { isMissing } from './errors.ts';
import type { NodeMeta, PodCidrs, WholeNode } from './node-object.ts';

export interface FinderOptions {
  /** @throws StoreError */
  readonly readNode: (name: string) => Promise<WholeNode | undefined>;
  readonly clock: Clock;
  readonly random: Random;
  readonly onFound: (node: NodeMeta, cidrs: PodCidrs) => void;
  /** The API server says no: a person has to mend that. */
  readonly onRefused: (node: NodeMeta, error: StoreRefusedError) => void;
  /** Whether the Node is still there, and its podCIDRs are still wanted. */
  readonly isWanted: (node: NodeMeta) => boolean;
}

const pauses = { firstMs: 1000, lastMs: 60_000 };
/** Requests that run at one time. */
const atOnce = 8;

interface Search {
  node: NodeMeta;
  pauseMs: number;
  timer: Timer | undefined;
}

export class PodCidrFinder {
  readonly #options: FinderOptions;
  /** By uid: those that are asked for, or wait for their time. */
  readonly #searches = new Map<string, Search>();
  readonly #queue: Search[] = [];
  #running = 0;
  #isClosed = false;

  constructor(options: FinderOptions) {
    this.#options = options;
  }

  /** Asks at once, unless it was asked a short while ago. */
  find(node: NodeMeta): void {
    if (this.#isClosed || this.#searches.has(node.uid)) return;
    const search: Search = { node, pauseMs: pauses.firstMs, timer: undefined };
    this.#searches.set(node.uid, search);
    this.#queue.push(search);
    this.#next();
  }

  close(): void {
    this.#isClosed = true;
    for (const { timer } of this.#searches.values()) timer?.cancel();
    this.#searches.clear();
    this.#queue.length = 0;
  }

  #next(): void {
    while (this.#running < atOnce && this.#queue.length > 0 && !this.#isClosed) {
      const search = this.#queue.shift()!;
      this.#running++;
      void this.#ask(search).finally(() => {
        this.#running--;
        this.#next();
      });
    }
  }

  async #ask(search: Search): Promise<void> {
    const { readNode, clock, random, onFound, onRefused, isWanted } = this.#options;
    const { node } = search;
    let found: WholeNode | undefined;
    try {
      found = await readNode(node.name);
    } catch (error) {
      if (!(error instanceof StoreError)) throw error;
      if (error instanceof StoreRefusedError && !isMissing(error) && !this.#isClosed) onRefused(node, error);
    }
    if (this.#isClosed) return;
    if (found?.uid === node.uid && found.podCidrs) {
      this.#searches.delete(node.uid);
      onFound(node, found.podCidrs);
      return;
    }
    search.timer = clock.setTimer(
      () => {
        search.timer = undefined;
        if (!isWanted(node)) {
          this.#searches.delete(node.uid);
          return;
        }
        this.#queue.push(search);
        this.#next();
      },
      search.pauseMs * (0.5 + random() / 2),
    );
    search.pauseMs = Math.min(2 * search.pauseMs, pauses.lastMs);
  }
}
