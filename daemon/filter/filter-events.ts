/** The kernel's events about the packet filter: which of them matter, and which program caused them. */

import type { NetlinkMessage } from '../../linux/netlink/wire.ts';
import { decodeChain, decodeGeneration, decodeTable, nftMessage } from '../../linux/nft/table.ts';

/** A change of a table in question, or a new base chain: it may see the cluster's packets. */
function matters({ type, body }: NetlinkMessage, concerns: (family: string, table: string) => boolean): boolean {
  // Each event begins with the family, and has the table's name as its first attribute.
  const table = decodeTable(body);
  if (!table || concerns(table.family, table.name)) return table !== undefined;
  if (type !== nftMessage.NFT_MSG_NEWCHAIN) return false;
  const base = decodeChain(body)?.chain.base;
  return base !== undefined && base.type !== 'nat';
}

export class FilterEvents {
  readonly #poll: () => void;
  /** Whether a change that matters was reported, and not yet its author. */
  #isOpen = false;
  #last: string | undefined;

  /** @param poll passes every pending message through `isRelevant` */
  constructor(poll: () => void) {
    this.#poll = poll;
  }

  /**
   * Called for every message about changes by others, in order.
   * @param concerns family by nft(8)'s name, and the table's
   */
  isRelevant(message: NetlinkMessage, concerns: (family: string, table: string) => boolean): boolean {
    if (message.type === nftMessage.NFT_MSG_NEWGEN) {
      // It follows the changes of a transaction.
      if (this.#isOpen) this.#last = decodeGeneration(message.body).program ?? this.#last;
      this.#isOpen = false;
      return false;
    }
    const relevant = matters(message, concerns);
    this.#isOpen ||= relevant;
    return relevant;
  }

  /** The program that made the last change that matters, since the last call. */
  takeChanger(): string | undefined {
    // The kernel may name the author only after the repair.
    this.#poll();
    const last = this.#last;
    this.#last = undefined;
    return last;
  }
}
