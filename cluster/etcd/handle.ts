/** The etcd store's notes on a lease, which nobody else reads. */

import type { ExtraKeys, Lease } from '../lease.ts';

export class EtcdHandle {
  /** etcd's mod_revision of the key: changes with every write of it. */
  readonly modRevision: string;
  /** Id of the etcd lease attached; '0' for a reservation. */
  readonly etcdLease: string;
  readonly extra: ExtraKeys;

  constructor(modRevision: string, etcdLease: string, extra: ExtraKeys) {
    this.modRevision = modRevision;
    this.etcdLease = etcdLease;
    this.extra = extra;
  }
}

/** @throws TypeError if the lease belongs to another store */
export function handleOf({ ownerId, handle }: Pick<Lease, 'ownerId' | 'handle'>): EtcdHandle {
  if (handle instanceof EtcdHandle) return handle;
  throw new TypeError(`Lease "${ownerId}" does not belong to this store`);
}
