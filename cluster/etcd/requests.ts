/** Parts of etcd's transactions, and what they answer. */

import type { ICompare, IKeyValue, IRequestOp, ITxnResponse } from 'etcd3';
import { type Entry, toEntry } from './snapshot.ts';

/** The key does not exist. */
export const isAbsent = (key: string): ICompare => ({
  key: Buffer.from(key),
  target: 'Create',
  result: 'Equal',
  create_revision: '0',
});

/** The key is unchanged since. With '0': it does not exist. */
export const isUnchanged = (key: string, modRevision: string): ICompare => ({
  key: Buffer.from(key),
  target: 'Mod',
  result: 'Equal',
  mod_revision: modRevision,
});

/** The key hangs on this etcd lease. */
export const isHeldBy = (key: string, etcdLease: string): ICompare => ({
  key: Buffer.from(key),
  target: 'Lease',
  result: 'Equal',
  lease: etcdLease,
});

export const hasValue = (key: string, value: string): ICompare => ({
  key: Buffer.from(key),
  target: 'Value',
  result: 'Equal',
  value: Buffer.from(value),
});

export const put = (key: string, value: string, etcdLease: string): IRequestOp => ({
  request_put: { key: Buffer.from(key), value: Buffer.from(value), lease: etcdLease },
});

export const get = (key: string): IRequestOp => ({ request_range: { key: Buffer.from(key) } });

export const remove = (key: string): IRequestOp => ({ request_delete_range: { key: Buffer.from(key) } });

/** The answer to the `get` of a transaction's branch. @param read `toWholeEntry` for the config */
export function entryOf(response: ITxnResponse, read = toEntry): Entry | undefined {
  const kv: IKeyValue | undefined = response.responses[0]?.response_range?.kvs[0];
  return kv && read(kv);
}
