/** What the kernel tells of changes of the packet filter: which of them matter, and who has made them. */

import type { NetlinkMessage } from '../../linux/netlink/wire.ts';
import { decodeChain, decodeGeneration, decodeTable, nftMessage } from '../../linux/nft/table.ts';

/** A change of one of the tables in question, or of a chain that sees forwarded packets. */
function matters({ type, body }: NetlinkMessage, concerns: (family: string, table: string) => boolean): boolean {
  // Each of them begins with the family, and has the table's name as its first attribute.
  const table = decodeTable(body);
  if (!table || concerns(table.family, table.name)) return table !== undefined;
  return type === nftMessage.NFT_MSG_NEWCHAIN && decodeChain(body)?.chain.base?.hook === 'forward';
}

export class FilterEvents {
  private readonly concerns: (family: string, table: string) => boolean;
  /** Whether a change that matters was told of, and not yet whose it was. */
  private isOpen = false;
  private last: string | undefined;
  /** Reads what there is to be read. */
  poll: (() => void) | undefined;

  /** @param concerns family by nft(8)'s name, and the table's */
  constructor(concerns: (family: string, table: string) => boolean) {
    this.concerns = concerns;
  }

  /** To be asked for every message that is about others' doings, in their order. */
  isRelevant(message: NetlinkMessage): boolean {
    if (message.type === nftMessage.NFT_MSG_NEWGEN) {
      // It comes behind the changes of a transaction.
      if (this.isOpen) this.last = decodeGeneration(message.body).program ?? this.last;
      this.isOpen = false;
      return false;
    }
    const relevant = matters(message, this.concerns);
    this.isOpen ||= relevant;
    return relevant;
  }

  /** Who has made the last change that matters, since this was last asked: a program's name. */
  takeChanger(): string | undefined {
    // Whose a change is may be told only when it is mended already.
    this.poll?.();
    const { last } = this;
    this.last = undefined;
    return last;
  }
}
