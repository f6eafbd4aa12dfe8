/**
 * The public addresses of the peers, counted: whether an address is still somebody's, without a look at thousands of peers for
 * each that leaves. It follows the peers by what has changed.
 */

import type { Lease } from '../../cluster/lease.ts';
import { LeaseSet } from '../../cluster/lease-set.ts';
import { valuesOf } from '../../cluster/network-config.ts';
import type { Address } from '../../net/address.ts';
import { keyOf } from './elements.ts';

export class UsedAddresses {
  /** The peers that are counted. */
  #peers = LeaseSet.of([]);
  /** By the key of elements: an IPv4 address is a number, an IPv6 address a text. */
  readonly #counts = new Map<ReturnType<typeof keyOf>, number>();

  /** Whether one of these peers has the address. */
  has({ bytes }: Address, peers: LeaseSet): boolean {
    if (peers !== this.#peers) {
      const { removed, added } = peers.differenceTo(this.#peers);
      for (const lease of removed) this.#count(lease, -1);
      for (const lease of added) this.#count(lease, 1);
      this.#peers = peers;
    }
    return this.#counts.has(keyOf(bytes));
  }

  #count({ publicAddresses }: Lease, step: 1 | -1): void {
    for (const { bytes } of valuesOf(publicAddresses)) {
      const key = keyOf(bytes);
      const count = (this.#counts.get(key) ?? 0) + step;
      if (count === 0) this.#counts.delete(key);
      else this.#counts.set(key, count);
    }
  }
}
