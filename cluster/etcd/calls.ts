/** The calls of etcd that the store is made of. */

import type { ICompare, IRequestOp, ITxnResponse } from 'etcd3';
import { StoreError } from '../store-errors.ts';
import type { EtcdConnection } from './connection.ts';
import type { Right } from './keys.ts';
import { type Entry, toWholeEntry } from './snapshot.ts';

export interface Transaction {
  readonly op: string;
  /** For error messages: the subject of the change. */
  readonly subject: string;
  readonly right: Right;
  readonly compare: ICompare[];
  readonly success: IRequestOp[];
  readonly failure?: IRequestOp[];
}

/** Whether the transaction changed something. */
export const hasWritten = ({ success }: Transaction, { succeeded }: ITxnResponse): boolean =>
  succeeded && success.some((part) => part.request_put || part.request_delete_range);

export class EtcdCalls {
  readonly #connection: EtcdConnection;

  constructor(connection: EtcdConnection) {
    this.#connection = connection;
  }

  async get(op: string, right: Right): Promise<Entry | undefined> {
    const { key } = right;
    const response = await this.#connection.call(
      op,
      key,
      ({ client, deadline }) => client.kv.range({ key: Buffer.from(key) }, deadline),
      right,
    );
    return response.kvs[0] && toWholeEntry(response.kvs[0]);
  }

  transact({ op, subject, right, compare, success, failure = [] }: Transaction): Promise<ITxnResponse> {
    return this.#connection.call(
      op,
      subject,
      ({ client, deadline }) => client.kv.txn({ compare, success, failure }, deadline),
      right,
    );
  }

  /** @returns the id of a new etcd lease */
  async grant(op: string, subject: string, ttlSeconds: number): Promise<string> {
    const response = await this.#connection.call(op, subject, ({ client, deadline }) =>
      client.leaseClient.leaseGrant({ TTL: ttlSeconds }, deadline),
    );
    return response.ID;
  }

  /** Revokes an empty etcd lease. A failure is harmless: the lease expires by itself. */
  async revoke(etcdLease: string): Promise<void> {
    try {
      await this.#connection.call('revoke the lease', etcdLease, ({ client, deadline }) =>
        client.leaseClient.leaseRevoke({ ID: etcdLease }, deadline),
      );
    } catch (error) {
      if (!(error instanceof StoreError)) throw error;
    }
  }

  /** One keep-alive of an etcd lease. @returns its remaining seconds; 0 or less if it no longer exists */
  keepAlive(op: string, subject: string, etcdLease: string): Promise<number> {
    return this.#connection.call(op, subject, async ({ client, deadline }) => {
      const stream = await client.leaseClient.leaseKeepAlive(deadline);
      return await new Promise<number>((resolve, reject) => {
        stream.on('data', (response: { TTL: string }) => {
          resolve(Number(response.TTL));
          // Not cancelled: etcd3 would take the resulting error for the connection's, and close it.
          stream.end();
        });
        stream.on('error', reject);
        stream.on('end', () => reject(new Error('etcd ended the keep-alive')));
        stream.write({ ID: etcdLease });
      });
    });
  }
}
