/**
 * Leases out of etcd's entries. A lease that nobody has written since is the same object as before.
 *
 * A lease whose key is gone and comes back for the same node is as old as before. Where two leases contend, the older one
 * wins; somebody who deletes a node's key must not make the node the younger one by that.
 */

import { formatAddress } from '../../net/address.ts';
import type { Prefix } from '../../net/prefix.ts';
import type { BackendFormats } from '../backend-format.ts';
import { excerpt } from '../excerpt.ts';
import {
  compareSeniority,
  type Lease,
  LeaseFormatError,
  parseLeaseValue,
  samePublicAddress,
  tooLong,
} from '../lease.ts';
import { type LeaseChange, LeaseSet } from '../lease-set.ts';
import { type PerFamily, valuesOf } from '../network-config.ts';
import type { MalformedEntry } from '../store.ts';
import { EtcdHandle } from './handle.ts';
import type { Keys } from './keys.ts';
import { parseLeaseKey } from './lease-key.ts';
import { type Entry, forgetValue, type Snapshot } from './snapshot.ts';

export interface ParsedLeases {
  readonly leases: LeaseSet;
  /** The same array until one of them changes. */
  readonly malformed: readonly MalformedEntry[];
}

/** A longer value is not kept beside what was read of it: anybody may pad any number of leases. */
const keptBytes = 1024;

/** Enough for a cluster whose leases are all deleted at once. */
const goneAtMost = 10_000;

/** A key and the node in it, by name and address: another node that writes itself into the key is younger. */
const holderOf = ({ ownerId, node = '', publicAddresses }: Lease): string =>
  [ownerId, node, ...valuesOf(publicAddresses).map(formatAddress)].join(' ');

export class LeaseReader {
  readonly #keys: Keys;
  readonly #backends: BackendFormats;
  /** The leases read last from a watch's snapshot, and the version of the snapshot. */
  #last: { readonly of: Snapshot['changes']; readonly version: number; readonly parsed: ParsedLeases } | undefined;
  /** The age of leases whose keys are gone, by holder; the one that went first is forgotten first. */
  readonly #gone = new Map<string, string>();

  constructor(keys: Keys, backends: BackendFormats) {
    this.#keys = keys;
    this.#backends = backends;
  }

  /** Of a watch's snapshot only what has changed is looked at. */
  read(snapshot: Snapshot): ParsedLeases {
    const { changes } = snapshot;
    const parsed = this.#follow(snapshot) ?? this.#readAgain(snapshot);
    if (changes) this.#last = { of: changes, version: changes.version, parsed };
    return parsed;
  }

  /** All of it, after a loss of contact. */
  #readAgain(snapshot: Snapshot): ParsedLeases {
    for (const lease of this.#last?.parsed.leases ?? []) {
      if (snapshot.leases.get(lease.ownerId)?.createRevision !== lease.seniority) this.#noteGone(lease);
    }
    return this.#readAll(snapshot);
  }

  #readAll({ leases: entries }: Snapshot): ParsedLeases {
    const leases: Lease[] = [];
    const malformed: MalformedEntry[] = [];
    for (const entry of entries.values()) {
      const parsed = this.#parsed(entry);
      if ('reason' in parsed) malformed.push(parsed);
      else leases.push(parsed);
    }
    return { leases: LeaseSet.of(leases), malformed };
  }

  #follow({ changes }: Snapshot): ParsedLeases | undefined {
    const last = this.#last;
    if (!changes || !last || last.of !== changes) return undefined;
    const made = changes.between(last.version, changes.version);
    if (!made) return undefined;
    const parsed: LeaseChange[] = [];
    let { malformed } = last.parsed;
    for (const change of made) {
      const [before, after] = change;
      const was = before && this.#parsed(before);
      if (was && !('reason' in was) && !this.#stays(was, before, after)) this.#noteGone(was);
      const is = after && this.#parsed(after);
      if (was && 'reason' in was) malformed = malformed.filter((each) => each !== was);
      if (is && 'reason' in is) malformed = [...malformed, is];
      const [lease, next] = [was, is].map((each) => (each && 'reason' in each ? undefined : each));
      if (lease ?? next) parsed.push([lease, next]);
    }
    const leases = last.parsed.leases.with(parsed);
    return leases && { leases, malformed };
  }

  #parsed(entry: Entry): Lease | MalformedEntry {
    if (!entry.parsed) {
      const parsed = this.parse(entry);
      if ('reason' in parsed || entry.value.length > keptBytes) forgetValue(entry);
      entry.parsed = 'reason' in parsed ? parsed : this.aged(parsed);
    }
    return entry.parsed;
  }

  /** Whether the key still has the node: nobody has deleted it, put another node into it, or made it unreadable. */
  #stays(was: Lease, before: Entry, after: Entry | undefined): boolean {
    if (!after || after.createRevision !== before.createRevision) return false;
    const is = this.#parsed(after);
    return !('reason' in is) && is.node === was.node && samePublicAddress(is, was);
  }

  #noteGone(lease: Lease): void {
    const holder = holderOf(lease);
    this.#gone.delete(holder);
    const oldest = this.#gone.size < goneAtMost ? undefined : this.#gone.keys().next().value;
    if (oldest !== undefined) this.#gone.delete(oldest);
    this.#gone.set(holder, lease.seniority);
  }

  /** The lease as old as the one that its holder had in the key before. */
  aged<L extends Lease>(lease: L): L {
    if (this.#gone.size === 0) return lease;
    const seniority = this.#gone.get(holderOf(lease));
    const { ownerId } = lease;
    return seniority !== undefined && compareSeniority({ ownerId, seniority }, lease) < 0
      ? { ...lease, seniority }
      : lease;
  }

  /** Never throws: an entry that cannot be read must not keep the others from being read. */
  parse(entry: Entry): Lease | MalformedEntry {
    let subnets: PerFamily<Prefix> | undefined;
    try {
      subnets = parseLeaseKey(this.#keys, entry.key);
      if (entry.tooLongBytes !== undefined) throw new LeaseFormatError(tooLong(entry.tooLongBytes));
      const value = parseLeaseValue(entry.value, this.#backends);
      const { node, version } = value;
      // Written out: there are thousands of leases, and a copy by spreading takes nine times as long.
      const lease: { -readonly [K in keyof Lease]: Lease[K] } = {
        publicAddresses: value.publicAddresses,
        backendType: value.backendType,
        backendData: value.backendData,
        ownerId: entry.key,
        subnets,
        reservation: entry.etcdLease === '0',
        ofFlannel: node === undefined,
        seniority: entry.createRevision,
        handle: new EtcdHandle(entry.modRevision, entry.etcdLease, value.extra),
      };
      if (node !== undefined) lease.node = node;
      if (version !== undefined) lease.version = version;
      return lease;
    } catch (error) {
      const reason =
        error instanceof LeaseFormatError
          ? error.message
          : `weftd cannot read it: ${excerpt((error as Error).message)}`;
      return { ownerId: entry.key, reason, ...(subnets ? { subnets } : {}) };
    }
  }

  /** undefined where the entry cannot be read. */
  readable(entry: Entry): Lease | undefined {
    const parsed = this.parse(entry);
    return 'reason' in parsed ? undefined : parsed;
  }
}
