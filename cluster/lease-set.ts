/** Leases at one time, with what has changed since an earlier time. */

import { type Change, ChangeLog } from './change-log.ts';
import type { Lease } from './lease.ts';

export type LeaseChange = Change<Lease>;

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

/** A change made to a list, so that it can be undone. */
interface Step {
  readonly at: number;
  readonly was: Lease | undefined;
  readonly is: Lease | undefined;
}

function undo(list: Lease[], steps: readonly Step[]): void {
  for (const { at, was, is } of steps.toReversed()) {
    if (was && is) list[at] = was;
    else if (was) list.splice(at, 0, was);
    else list.splice(at, 1);
  }
}

/** Makes the changes in the list itself. @returns undefined where they belong to another list, which stays as it was */
function patchInPlace(list: Lease[], changes: readonly LeaseChange[]): readonly Step[] | undefined {
  const steps: Step[] = [];
  for (const [was, is] of changes) {
    if (!was && !is) continue;
    const at = was ? list.indexOf(was) : list.length;
    if (at < 0) {
      undo(list, steps);
      return undefined;
    }
    if (!is) list.splice(at, 1);
    else list[at] = is;
    steps.push({ at, was, is });
  }
  return steps;
}

/** After so many changes in one list the next set gets a copy, so that an old set does not keep all changes since. */
const stepsAtMost = 256;

/**
 * A value: it never changes. Sets that came about one from the other share a log, and one list: the newest set has it, and an
 * older one makes its own from that when it is asked. With thousands of leases a copy for each change would be garbage of
 * some megabytes a second.
 */
export class LeaseSet implements Iterable<Lease> {
  readonly size: number;
  readonly #log: ChangeLog<Lease>;
  readonly #version: number;
  /** Undefined where a later set has taken it over. */
  #list: Lease[] | undefined;
  /** The set that has taken it over, and how it has changed it. */
  #later: { readonly set: LeaseSet; readonly steps: readonly Step[] } | undefined;
  /** Somebody may have kept the list: it must not change any more. */
  #isKept = false;
  /** How many sets have changed the list since it was made. */
  readonly #age: number;
  /** The lease that was found last, in this set or in the one that it came from: a node asks for its own at each change. */
  #found: Lease | undefined;

  private constructor(list: Lease[], log: ChangeLog<Lease>, age = 0, found?: Lease) {
    this.size = list.length;
    this.#list = list;
    this.#log = log;
    this.#version = log.version;
    this.#age = age;
    this.#found = found;
  }

  /** With no past. */
  static of(leases: readonly Lease[]): LeaseSet {
    const made = new LeaseSet(leases as Lease[], new ChangeLog());
    // It is the caller's list.
    made.#isKept = true;
    return made;
  }

  get all(): readonly Lease[] {
    this.#isKept = true;
    return this.#ownList();
  }

  #ownList(): Lease[] {
    if (this.#list) return this.#list;
    const changes: (readonly Step[])[] = [];
    let set: LeaseSet = this;
    for (let later = set.#later; !set.#list && later; later = set.#later) {
      changes.push(later.steps);
      set = later.set;
    }
    const list = set.#list!.slice();
    for (const steps of changes.toReversed()) undo(list, steps);
    this.#list = list;
    this.#later = undefined;
    return list;
  }

  /** The set must not be continued by `with` meanwhile. */
  [Symbol.iterator](): Iterator<Lease> {
    return this.#ownList()[Symbol.iterator]();
  }

  /** Whether it has this very lease. */
  has(lease: Lease): boolean {
    return this.#ownList().includes(lease);
  }

  byOwner(ownerId: string): Lease | undefined {
    if (this.#found?.ownerId !== ownerId || !this.has(this.#found)) {
      this.#found = this.#ownList().find((lease) => lease.ownerId === ownerId);
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
    // Somebody else has gone on from here already.
    const isOld = this.#log.version !== this.#version;
    const mustCopy = isOld || this.#isKept || this.#age >= stepsAtMost;
    const list = mustCopy ? this.#ownList().slice() : this.#ownList();
    const steps = patchInPlace(list, changes);
    if (!steps) return undefined;
    if (isOld) return LeaseSet.of(list);
    for (const change of changes) this.#log.add(change);
    const next = new LeaseSet(list, this.#log, mustCopy ? 0 : this.#age + 1, this.#found);
    if (!mustCopy) {
      this.#list = undefined;
      this.#later = { set: next, steps };
    }
    return next;
  }
}
