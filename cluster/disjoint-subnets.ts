/**
 * Subnets of one family with their owners, such as peers. It finds one that a prefix overlaps without a look
 * at each: there are thousands of peers, and one change must take a millisecond.
 */

import { networkKey, networkOf, type Prefix } from '../net/prefix.ts';

type Key = number | string;

/** A subnet that has an owner. */
export interface Taken {
  readonly prefix: Prefix;
  readonly owner: string;
}

/** The key of the prefix of that length that contains this one. */
const keyAt = (prefix: Prefix, length: number): Key =>
  networkKey(length === prefix.length ? prefix : networkOf({ address: prefix.address, length }));

export class DisjointSubnets {
  /** By length, then by key. */
  readonly #taken = new Map<number, Map<Key, Taken>>();
  /**
   * For each length that was asked about: longer subnets, by the key of the prefix of that length that contains them. It is
   * empty where all subnets have one length, as usual.
   */
  readonly #longer = new Map<number, Map<Key, Set<Taken>>>();

  /** A subnet that overlaps the prefix; undefined if there is none. No prefix here may have host bits. */
  find(prefix: Prefix): Taken | undefined {
    let hasLonger = false;
    for (const [length, taken] of this.#taken) {
      hasLonger ||= length > prefix.length;
      const found = length <= prefix.length ? taken.get(keyAt(prefix, length)) : undefined;
      if (found) return found;
    }
    if (!hasLonger) return undefined;
    const [inside] = this.#longerThan(prefix.length).get(networkKey(prefix)) ?? [];
    return inside;
  }

  /** The caller has checked for overlaps. The same prefix again gets another owner. */
  add(prefix: Prefix, owner: string): void {
    const taken: Taken = { prefix, owner };
    const key = networkKey(prefix);
    const same = this.#taken.get(prefix.length);
    if (same) same.set(key, taken);
    else this.#taken.set(prefix.length, new Map([[key, taken]]));
    for (const [length, longer] of this.#longer) if (length < prefix.length) include(longer, length, taken);
  }

  remove(prefix: Prefix): void {
    const same = this.#taken.get(prefix.length);
    const key = networkKey(prefix);
    const taken = same?.get(key);
    if (!same || !taken) return;
    same.delete(key);
    if (same.size === 0) this.#taken.delete(prefix.length);
    for (const [length, longer] of this.#longer) {
      if (length < prefix.length) longer.get(keyAt(prefix, length))?.delete(taken);
    }
  }

  #longerThan(length: number): Map<Key, Set<Taken>> {
    const known = this.#longer.get(length);
    if (known) return known;
    const made = new Map<Key, Set<Taken>>();
    for (const [other, taken] of this.#taken) {
      if (other > length) for (const each of taken.values()) include(made, length, each);
    }
    this.#longer.set(length, made);
    return made;
  }
}

function include(longer: Map<Key, Set<Taken>>, length: number, taken: Taken): void {
  const key = keyAt(taken.prefix, length);
  const known = longer.get(key);
  if (known) known.add(taken);
  else longer.set(key, new Set([taken]));
}
