/** Writes leases, but only if nobody else has written since they were read. So two nodes never hold the same lease. */

import type { ITxnResponse } from 'etcd3';
import type { BackendFormats } from '../backend-format.ts';
import type { Clock } from '../clock.ts';
import {
  formatLeaseValue,
  type Lease,
  type LeaseValue,
  type OwnLease,
  sameLeaseValue,
  samePublicAddress,
} from '../lease.ts';
import { valuesOf } from '../network-config.ts';
import type { Liveness, Updated } from '../store.ts';
import type { EtcdCalls, Transaction } from './calls.ts';
import { toStoreError } from './errors.ts';
import { EtcdHandle, handleOf } from './handle.ts';
import type { Right } from './keys.ts';
import type { LeaseReader } from './lease-reader.ts';
import type { EtcdReader } from './reader.ts';
import { entryOf, get, isUnchanged, put, remove } from './requests.ts';
import type { Entry } from './snapshot.ts';

export interface LeaseWriterOptions {
  readonly calls: EtcdCalls;
  readonly reader: EtcdReader;
  readonly parser: LeaseReader;
  readonly liveness: Pick<Liveness, 'living'>;
  readonly right: Right;
  readonly backends: BackendFormats;
  readonly clock: Clock;
  readonly leaseTtlSeconds: number;
  /** For errors. */
  readonly endpoint: string;
}

export type Refreshed = { readonly own: OwnLease } | { readonly found: Entry | undefined };

/** Somebody may have changed a lease that is still ours, for example to a reservation. Then another attempt is made. */
const attempts = 3;

/** A lease that names no host and no node is nobody's. */
const holderIn = (lease: Lease | undefined): Lease | undefined =>
  lease && (lease.node !== undefined || valuesOf(lease.publicAddresses).length > 0) ? lease : undefined;

export class LeaseWriter {
  readonly #options: LeaseWriterOptions;

  constructor(options: LeaseWriterOptions) {
    this.#options = options;
  }

  async transact(parts: Omit<Transaction, 'right'>): Promise<ITxnResponse> {
    const { calls, reader, right } = this.#options;
    const transaction = { ...parts, right };
    const response = await calls.transact(transaction);
    reader.noteTransaction('leases', transaction, response);
    return response;
  }

  /**
   * Renews a lease for a whole TTL and writes the value, if nobody has written it since. An unchanged value causes no event
   * for other nodes. A reservation gets the value only.
   * @param overwrites the key contains something other than `lease`, to be replaced
   */
  async refresh(op: string, lease: Lease, value: LeaseValue, overwrites = false): Promise<Refreshed> {
    const { calls, clock, leaseTtlSeconds } = this.#options;
    const { ownerId: key } = lease;
    const { extra, ...before } = handleOf(lease);
    const beforeMs = clock.nowMs();
    let { etcdLease } = before;
    let ttlSeconds: number | undefined;
    let granted: string | undefined;
    if (!lease.reservation) {
      ttlSeconds = await calls.keepAlive(op, key, etcdLease);
      // It has another TTL than ours (made by hand, or before the option changed), or has just expired.
      if (ttlSeconds < leaseTtlSeconds / 2) {
        granted = await calls.grant(op, key, leaseTtlSeconds);
        etcdLease = granted;
        ttlSeconds = leaseTtlSeconds;
      }
    }
    const mustWrite = overwrites || granted !== undefined || !sameLeaseValue(lease, value);
    const text = formatLeaseValue(value, this.#options.backends, extra);
    // If this throws, a lease just granted is left to expire: it may hold the key by now.
    const response = await this.transact({
      op,
      subject: key,
      compare: [isUnchanged(key, before.modRevision)],
      success: [mustWrite ? put(key, text, etcdLease) : get(key)],
      failure: [get(key)],
    });
    const found = response.succeeded ? undefined : entryOf(response);
    // The first of two attempts may have taken effect without an answer.
    const isWritten = response.succeeded || (mustWrite && found?.value === text && found.etcdLease === etcdLease);
    if (!isWritten) {
      if (granted !== undefined) await calls.revoke(granted);
      return { found };
    }
    const written = response.succeeded ? response.header.revision : found!.modRevision;
    const own: OwnLease = {
      ...value,
      ownerId: key,
      subnets: lease.subnets,
      reservation: lease.reservation,
      ofFlannel: false,
      seniority: lease.seniority,
      handle: new EtcdHandle(mustWrite ? written : before.modRevision, etcdLease, extra),
      expiresAtMs: ttlSeconds === undefined ? undefined : beforeMs + ttlSeconds * 1000,
    };
    return { own };
  }

  /** @param insists the key is ours, whoever has written it: not even another living node is respected */
  async update(own: OwnLease, value: LeaseValue, insists: boolean): Promise<Updated> {
    const op = 'renew the lease';
    const { parser, endpoint } = this.#options;
    let lease: Lease = own;
    let overwrites = false;
    for (let attempt = 0; attempt < attempts; attempt++) {
      const refreshed = await this.refresh(op, lease, value, overwrites);
      if ('own' in refreshed) return { state: 'held', own: refreshed.own };
      const { found } = refreshed;
      if (!found) return { state: 'lost', how: 'gone' };
      const holder = holderIn(parser.readable(found));
      const isAnothers = holder !== undefined && (await this.#isAnothers(holder, own, value));
      if (isAnothers && !insists) return { state: 'lost', how: 'taken', holder };
      overwrites = holder === undefined || isAnothers;
      const { etcdLease, extra } = handleOf(own);
      // Another's etcd lease would end with the other.
      const { seniority } = own;
      // As old as before, even if somebody has deleted and made the key meanwhile.
      lease = overwrites
        ? { ...own, handle: new EtcdHandle(found.modRevision, etcdLease, extra) }
        : { ...holder!, seniority };
    }
    throw toStoreError({ op, key: own.ownerId, endpoint }, new Error('somebody else keeps writing it'));
  }

  /** Two hosts may have one public address: a lease with another node's name is that node's while it lives. */
  async #isAnothers(holder: Lease, own: Lease, value: LeaseValue): Promise<boolean> {
    if (!samePublicAddress(holder, own) && !samePublicAddress(holder, value)) return true;
    const { node } = holder;
    if (node === undefined || node === value.node) return false;
    return (await this.#options.liveness.living([node])).has(node);
  }

  async release(lease: Lease): Promise<boolean> {
    const { calls, parser } = this.#options;
    const { ownerId: key } = lease;
    let { modRevision, etcdLease } = handleOf(lease);
    for (let attempt = 0; attempt < attempts; attempt++) {
      const response = await this.transact({
        op: 'release the lease',
        subject: key,
        compare: [isUnchanged(key, modRevision)],
        success: [remove(key)],
        failure: [get(key)],
      });
      if (response.succeeded) {
        if (etcdLease !== '0') await calls.revoke(etcdLease);
        return true;
      }
      const found = entryOf(response);
      const holder = found && parser.readable(found);
      if (!holder || !samePublicAddress(holder, lease) || holder.node !== lease.node) return false;
      ({ modRevision, etcdLease } = handleOf(holder));
    }
    return false;
  }
}
