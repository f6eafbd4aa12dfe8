/**
 * The cluster's Nodes as they are known, and the leases in them. A Node is a lease if flannel or Weft looks after it and its
 * podCIDRs are known. A lease that nobody has changed stays the same object.
 */

import type { BackendFormats } from '../backend-format.ts';
import { excerpt } from '../excerpt.ts';
import { type Lease, LeaseFormatError } from '../lease.ts';
import { type LeaseChange, LeaseSet } from '../lease-set.ts';
import type { MalformedEntry } from '../store.ts';
import { healthOf, isManaged, parseAnnotations } from './annotations.ts';
import { isOlder, type NodeMeta, type PodCidrs, sameAnnotations } from './node-object.ts';

/** The store's own notes on a lease. */
export class NodeHandle {
  readonly name: string;
  readonly uid: string;

  constructor({ name, uid }: Pick<NodeMeta, 'name' | 'uid'>) {
    this.name = name;
    this.uid = uid;
  }
}

export const handleOf = ({ handle }: Pick<Lease, 'handle'>): NodeHandle => {
  if (!(handle instanceof NodeHandle)) throw new TypeError('The lease is not from Kubernetes');
  return handle;
};

/** People know a Node by its name; the uid tells it from an earlier one of that name. */
export const ownerIdOf = ({ name, uid }: Pick<NodeMeta, 'name' | 'uid'>): string => `${name}/${uid}`;

/** More changes than this at once are a new set. */
const followedAtMost = 64;

interface Entry {
  readonly meta: NodeMeta;
  /** undefined: it is none. */
  readonly read: Lease | MalformedEntry | undefined;
}

const leaseIn = (entry: Entry | undefined): Lease | undefined =>
  entry?.read && !('reason' in entry.read) ? entry.read : undefined;

const malformedIn = (entry: Entry | undefined): MalformedEntry | undefined =>
  entry?.read && 'reason' in entry.read ? entry.read : undefined;

export class NodeTable {
  readonly #backends: BackendFormats;
  /** By name. */
  #entries = new Map<string, Entry>();
  /** By uid. They outlive the Node for as long as the process, which is little. */
  readonly #cidrs = new Map<string, PodCidrs>();
  #leases = LeaseSet.of([]);
  #malformed: readonly MalformedEntry[] = [];

  constructor(backends: BackendFormats) {
    this.#backends = backends;
  }

  get leases(): LeaseSet {
    return this.#leases;
  }

  /** The same array until one of them changes. */
  get malformed(): readonly MalformedEntry[] {
    return this.#malformed;
  }

  get size(): number {
    return this.#entries.size;
  }

  node(name: string): NodeMeta | undefined {
    return this.#entries.get(name)?.meta;
  }

  cidrsOf(uid: string): PodCidrs | undefined {
    return this.#cidrs.get(uid);
  }

  /** Whether the Node would be a lease if its podCIDRs were known. */
  isLacking(meta: NodeMeta): boolean {
    return isManaged(meta) && !this.#cidrs.has(meta.uid);
  }

  lacking(): NodeMeta[] {
    return [...this.#entries.values()].flatMap(({ meta }) => (this.isLacking(meta) ? [meta] : []));
  }

  /** Remembers a Node's podCIDRs. @returns whether the leases have changed */
  learn({ uid, name }: Pick<NodeMeta, 'uid' | 'name'>, cidrs: PodCidrs): boolean {
    if (this.#cidrs.has(uid)) return false;
    this.#cidrs.set(uid, cidrs);
    const entry = this.#entries.get(name);
    return entry?.meta.uid === uid && this.#put([[entry, this.#read(entry.meta)]]);
  }

  /** The podCIDRs of a Node cannot be asked for. @returns whether that is new */
  refuse({ uid, name }: Pick<NodeMeta, 'uid' | 'name'>, reason: string): boolean {
    const entry = this.#entries.get(name);
    if (entry?.meta.uid !== uid || !this.isLacking(entry.meta) || malformedIn(entry)?.reason === reason) return false;
    return this.#put([[entry, { meta: entry.meta, read: { ownerId: ownerIdOf(entry.meta), reason } }]]);
  }

  /** These Nodes and no others. @returns whether the leases have changed */
  replace(nodes: readonly NodeMeta[]): boolean {
    const before = this.#entries;
    this.#entries = new Map();
    const changes = nodes.map((meta): [Entry | undefined, Entry] => {
      const was = before.get(meta.name);
      before.delete(meta.name);
      return [was, this.#next(was, meta)];
    });
    for (const [, entry] of changes) this.#entries.set(entry.meta.name, entry);
    const changed = this.#put([...changes, ...[...before.values()].map((was): [Entry, undefined] => [was, undefined])]);
    this.#forget(nodes);
    return changed;
  }

  /** A Node as it is now; an older state than the known one is ignored. @returns whether the leases have changed */
  apply(meta: NodeMeta): boolean {
    const was = this.#entries.get(meta.name);
    if (was?.meta.uid === meta.uid && isOlder(meta.resourceVersion, was.meta.resourceVersion)) return false;
    return this.#put([[was, this.#next(was, meta)]]);
  }

  /** @returns whether the leases have changed */
  remove({ name, uid }: Pick<NodeMeta, 'name' | 'uid'>): boolean {
    const was = this.#entries.get(name);
    return was?.meta.uid === uid && this.#put([[was, undefined]]);
  }

  #next(was: Entry | undefined, meta: NodeMeta): Entry {
    const isSame = was?.meta.uid === meta.uid && sameAnnotations(was.meta.annotations, meta.annotations);
    // The new state is kept even if it says the same, for its version.
    return isSame ? { meta: { ...meta, annotations: was.meta.annotations }, read: was.read } : this.#read(meta);
  }

  /** Never throws: a Node that cannot be read must not keep the others from being read. */
  #read(meta: NodeMeta): Entry {
    const subnets = this.#cidrs.get(meta.uid);
    if (!subnets || !isManaged(meta)) return { meta, read: undefined };
    const ownerId = ownerIdOf(meta);
    try {
      const value = parseAnnotations(meta, this.#backends);
      const health = value.version === undefined ? undefined : healthOf(meta);
      const lease: Lease = {
        ...value,
        ...(health === undefined ? {} : { health }),
        ownerId,
        subnets,
        reservation: false,
        ofFlannel: value.version === undefined,
        seniority: String(meta.createdMs),
        handle: new NodeHandle(meta),
      };
      return { meta, read: lease };
    } catch (error) {
      const reason =
        error instanceof LeaseFormatError
          ? error.message
          : `weftd cannot read it: ${excerpt((error as Error).message)}`;
      return { meta, read: { ownerId, reason, subnets } };
    }
  }

  #put(changes: readonly (readonly [was: Entry | undefined, is: Entry | undefined])[]): boolean {
    const leases: LeaseChange[] = [];
    let isMalformed = false;
    for (const [was, is] of changes) {
      if (is) this.#entries.set(is.meta.name, is);
      else if (was) this.#entries.delete(was.meta.name);
      const [before, now] = [leaseIn(was), leaseIn(is)];
      if (before !== now) leases.push([before, now]);
      isMalformed ||= malformedIn(was) !== malformedIn(is);
    }
    if (leases.length > 0) {
      const followed = leases.length <= followedAtMost ? this.#leases.with(leases) : undefined;
      this.#leases = followed ?? LeaseSet.of([...this.#entries.values()].flatMap((entry) => leaseIn(entry) ?? []));
    }
    if (isMalformed) this.#malformed = [...this.#entries.values()].flatMap((entry) => malformedIn(entry) ?? []);
    return leases.length > 0 || isMalformed;
  }

  /** Nodes that are gone will not come back under their uids. */
  #forget(nodes: readonly NodeMeta[]): void {
    if (this.#cidrs.size <= 2 * nodes.length + followedAtMost) return;
    const there = new Set(nodes.map(({ uid }) => uid));
    for (const uid of this.#cidrs.keys()) if (!there.has(uid)) this.#cidrs.delete(uid);
  }
}
