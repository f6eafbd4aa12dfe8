/** Leases at one time, with what has changed since an earlier time. */

import { type Change, ChangeLog } from './change-log.ts';
import type { Lease } from './lease.ts';

export type LeaseChange = Change<Lease>;

/** The list with the changes applied in order; undefined if the changes belong to another list. */
export function patchList(list: readonly Lease[], changes: readonly LeaseChange[]): Lease[] | undefined {
  const next = list.slice();
  for (const [was, is] of changes) {
    if (!was) {
      if (is) next.push(is);
      continue;
    }
    const at = next.indexOf(was);
    if (at < 0) return undefined;
    if (is) next[at] = is;
    else next.splice(at, 1);
  }
  return next;
}

/** The leases that one of two lists has alone. */
export interface LeaseDifference {
  readonly removed: readonly Lease[];
  readonly added: readonly Lease[];
}

/** The sum of several changes. */
export function sumOf(changes: readonly LeaseChange[]): LeaseDifference {
  const [removed, added] = [new Set<Lease>(), new Set<Lease>()];
  for (const [was, is] of changes) {
    if (was && !added.delete(was)) removed.add(was);
    if (is) added.add(is);
  }
  return { removed: [...removed], added: [...added] };
}

/** Lists that are alike at their ends are compared quickly. */
export function differenceOf(before: readonly Lease[], after: readonly Lease[]): LeaseDifference {
  let start = 0;
  while (start < before.length && start < after.length && before[start] === after[start]) start++;
  let [beforeEnd, afterEnd] = [before.length, after.length];
  while (beforeEnd > start && afterEnd > start && before[beforeEnd - 1] === after[afterEnd - 1]) {
    beforeEnd--;
    afterEnd--;
  }
  const [removed, added] = [before.slice(start, beforeEnd), after.slice(start, afterEnd)];
  if (removed.length === 0 || added.length === 0) return { removed, added };
  const [known, kept] = [new Set(removed), new Set(added)];
  return { removed: removed.filter((lease) => !kept.has(lease)), added: added.filter((lease) => !known.has(lease)) };
}

/** A value: it never changes. Sets that came about one from the other share a log. */
export class LeaseSet implements Iterable<Lease> {
  readonly all: readonly Lease[];
  readonly #log: ChangeLog<Lease>;
  readonly #version: number;
  /** The lease that was found last, in this set or in the one that it came from: a node asks for its own at each change. */
  #found: Lease | undefined;

  private constructor(leases: readonly Lease[], log: ChangeLog<Lease>, found?: Lease) {
    this.all = leases;
    this.#log = log;
    this.#version = log.version;
    this.#found = found;
  }

  /** With no past. */
  static of(leases: readonly Lease[]): LeaseSet {
    return new LeaseSet(leases, new ChangeLog());
  }

  get size(): number {
    return this.all.length;
  }

  [Symbol.iterator](): Iterator<Lease> {
    return this.all[Symbol.iterator]();
  }

  /** Whether it has this very lease. */
  has(lease: Lease): boolean {
    return this.all.includes(lease);
  }

  byOwner(ownerId: string): Lease | undefined {
    if (this.#found?.ownerId !== ownerId || !this.has(this.#found)) {
      this.#found = this.all.find((lease) => lease.ownerId === ownerId);
    }
    return this.#found;
  }

  /** The changes from the other set to this one, in their order; undefined where they are not known. */
  changesSince(earlier: LeaseSet): readonly LeaseChange[] | undefined {
    return earlier.#log === this.#log ? this.#log.between(earlier.#version, this.#version) : undefined;
  }

  /** The leases that came and went between the other set and this one. */
  differenceTo(earlier: LeaseSet): LeaseDifference {
    const changes = this.changesSince(earlier);
    return changes ? sumOf(changes) : differenceOf(earlier.all, this.all);
  }

  /** This set with the changes made; itself where there are none, undefined where they are not of this set. */
  with(changes: readonly LeaseChange[]): LeaseSet | undefined {
    if (changes.length === 0) return this;
    const leases = patchList(this.all, changes);
    if (!leases) return undefined;
    // Somebody else has gone on from here already.
    if (this.#log.version !== this.#version) return LeaseSet.of(leases);
    for (const change of changes) this.#log.add(change);
    return new LeaseSet(leases, this.#log, this.#found);
  }
}
