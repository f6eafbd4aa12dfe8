/** Config and leases in etcd at one time: reads such a snapshot, and compares two of them. */

import { createHash } from 'node:crypto';
import type { IKeyValue, IRangeRequest, IRangeResponse, ITxnResponse } from 'etcd3';
import type { ChangeLog } from '../change-log.ts';
import { type Lease, longestLeaseBytes } from '../lease.ts';
import type { MalformedEntry } from '../store.ts';
import type { EtcdConnection, Rpc } from './connection.ts';
import { isDenied, isTooLarge } from './errors.ts';
import { type Keys, type Right, rightsBelow } from './keys.ts';

/** A key with its value, as text. */
export interface Entry {
  /** As `keyText` gives it. */
  readonly key: string;
  /** Empty once nobody needs it any more: `forgetValue`. */
  value: string;
  readonly modRevision: string;
  readonly createRevision: string;
  /** Id of the etcd lease; '0' for none. */
  readonly etcdLease: string;
  /** The length of a value that was too long to be kept; `value` is empty then. */
  readonly tooLongBytes?: number;
  isForgotten?: true;
  /** The parsed value, once somebody has read it. */
  parsed?: Lease | MalformedEntry;
}

/** Frees the memory of a value that was parsed. */
export function forgetValue(entry: Entry): void {
  entry.value = '';
  entry.isForgotten = true;
}

/** Config and leases at a revision. */
export interface Snapshot {
  readonly config: Entry | undefined;
  /** The entries below `subnets/`, by key. */
  readonly leases: ReadonlyMap<string, Entry>;
  /** The revision up to which the leases are known. */
  readonly revision: string;
  /** The revision up to which the config is known. */
  readonly configRevision: string;
  /** etcd's cluster id. A new etcd has another one; one restored from a backup may have the same. */
  readonly clusterId: string;
  /** How often another etcd was found under the same id. */
  readonly history: number;
  /** Of `leases`, where they are followed. */
  readonly changes?: ChangeLog<Entry>;
}

/** Our keys have some hundred bytes. */
const longestKeyBytes = 1024;

/**
 * A key as text, different for each key. etcd's keys are bytes, of any number. One that is not UTF-8 would be read as another
 * one's text, and a watch that mixes two keys up lists everything at each comparison. Such a key is told apart by its digest.
 */
export function keyText(key: Buffer): string {
  if (key.length <= longestKeyBytes) {
    const text = key.toString('utf8');
    if (!text.includes('\ufffd') || Buffer.from(text).equals(key)) return text;
  }
  const digest = createHash('sha256').update(key).digest('hex');
  return `${key.subarray(0, 100).toString('latin1')}… (${key.length} bytes, SHA-256 ${digest})`;
}

/**
 * An entry of a node's: a lease or a record. Values that are too long are dropped at once, because any node may write any
 * number of them. The revision still tells two of them apart.
 */
export function toEntry(kv: IKeyValue): Entry {
  const { length } = kv.value;
  if (length <= longestLeaseBytes) return toWholeEntry(kv);
  return { ...toWholeEntry({ ...kv, value: Buffer.alloc(0) }), tooLongBytes: length };
}

/** An entry of any length: the config, which administrators alone write. */
export const toWholeEntry = (kv: IKeyValue): Entry => ({
  key: keyText(kv.key),
  value: kv.value.toString('utf8'),
  modRevision: kv.mod_revision,
  // One text for both where nobody has written the key again.
  createRevision: kv.create_revision === kv.mod_revision ? kv.mod_revision : kv.create_revision,
  etcdLease: kv.lease,
});

/** The range of all keys with the prefix, as etcd's `range_end`. */
export function rangeOf(prefix: string): { key: Buffer; range_end: Buffer } {
  const end = Buffer.from(prefix);
  // The prefixes here end in a slash, so the last byte never overflows.
  end[end.length - 1]! += 1;
  return { key: Buffer.from(prefix), range_end: end };
}

/** Even the largest entries that etcd accepts, of 1.5 MB, fit into one message then. */
const entriesPerPage = 32;

/** All entries of the nodes' below a prefix, at one revision, in pages: for prefixes that somebody has filled. */
export async function readPages(
  connection: Pick<EtcdConnection, 'call'>,
  op: string,
  prefix: string,
  right?: Right,
): Promise<{ readonly entries: Entry[]; readonly revision: string; readonly clusterId: string }> {
  const { range_end } = rangeOf(prefix);
  const entries: Entry[] = [];
  let key: Buffer = Buffer.from(prefix);
  let revision: string | undefined;
  for (;;) {
    const range: IRangeRequest = { key, range_end, limit: entriesPerPage, revision: revision ?? '0' };
    const ask = ({ client, deadline }: Rpc): Promise<IRangeResponse> => client.kv.range(range, deadline);
    const { header, kvs, more } = await connection.call(op, prefix, ask, right);
    revision ??= header.revision;
    entries.push(...kvs.map(toEntry));
    const last = kvs.at(-1);
    if (!more || !last) return { entries, revision, clusterId: header.cluster_id };
    key = Buffer.concat([last.key, Buffer.of(0)]);
  }
}

/** The same as one transaction would give, where that is too large for one message. */
async function readLargeSnapshot(connection: Pick<EtcdConnection, 'call'>, keys: Keys): Promise<Snapshot> {
  const { header, kvs } = await connection.call('read the network config', keys.config, ({ client, deadline }) =>
    client.kv.range({ key: Buffer.from(keys.config) }, deadline),
  );
  const { entries, revision, clusterId } = await readPages(connection, 'list the leases', keys.subnets);
  return {
    config: kvs[0] && toWholeEntry(kvs[0]),
    leases: new Map(entries.map((entry) => [entry.key, entry])),
    revision,
    configRevision: header.revision,
    clusterId,
    history: 0,
  };
}

/** Config and all leases at one revision. */
export async function readSnapshot(connection: Pick<EtcdConnection, 'call'>, keys: Keys): Promise<Snapshot> {
  const ranges = [{ key: Buffer.from(keys.config) }, rangeOf(keys.subnets)] as const;
  const success = ranges.map((range) => ({ request_range: range }));
  let response: ITxnResponse;
  try {
    response = await connection.call('list the leases', keys.subnets, ({ client, deadline }) =>
      client.kv.txn({ success }, deadline),
    );
  } catch (error) {
    if (isTooLarge(error)) return await readLargeSnapshot(connection, keys);
    if (!isDenied(error)) throw error;
    // etcd does not say which of the two it refuses: single requests show it.
    const { readConfig, readLeases } = rightsBelow(keys);
    const ask = (op: string, right: Right, range: IRangeRequest): Promise<unknown> =>
      connection.call(op, right.key, ({ client, deadline }) => client.kv.range(range, deadline), right);
    await ask('read the network config', readConfig, { ...ranges[0], count_only: true });
    await ask('list the leases', readLeases, { ...ranges[1], count_only: true });
    throw error;
  }
  const [configs, leases] = response.responses.map((part) => part.response_range.kvs);
  const config = configs?.[0];
  return {
    config: config && toWholeEntry(config),
    leases: new Map((leases ?? []).map(toEntry).map((entry) => [entry.key, entry])),
    revision: response.header.revision,
    configRevision: response.header.revision,
    clusterId: response.header.cluster_id,
    history: 0,
  };
}

/** A digest of all leases at a revision, for comparing: their number, and the newest of them. */
export interface Digest {
  readonly revision: string;
  readonly count: number;
  /** All of the newest revision, since a transaction can write several; etcd's answer has one of them. */
  readonly newest: readonly Entry[];
}

const sameEntry = (a: Entry, b: Entry): boolean =>
  a.key === b.key &&
  a.modRevision === b.modRevision &&
  a.createRevision === b.createRevision &&
  (a.value === b.value || a.isForgotten === true || b.isForgotten === true);

export const isBefore = (a: string, b: string): boolean => BigInt(a) < BigInt(b);

export function digestOf({ revision, leases }: Snapshot): Digest {
  let newest: Entry[] = [];
  for (const entry of leases.values()) {
    const [first] = newest;
    if (first?.modRevision === entry.modRevision) newest.push(entry);
    else if (!first || isBefore(first.modRevision, entry.modRevision)) newest = [entry];
  }
  return { revision, count: leases.size, newest };
}

export const sameDigest = (a: Digest, b: Digest): boolean =>
  a.count === b.count && (a.count === 0 || a.newest.some((one) => b.newest.some((other) => sameEntry(one, other))));

/** Whether writes alone can lead from `earlier` to `later`. If not, the etcd of `earlier` is lost. */
export function isContinued(earlier: Snapshot, later: Snapshot): boolean {
  if (isBefore(later.revision, earlier.revision)) return false;
  for (const entry of later.leases.values()) {
    const before = earlier.leases.get(entry.key);
    const isSound = before
      ? sameEntry(before, entry) || isBefore(earlier.revision, entry.modRevision)
      : isBefore(earlier.revision, entry.createRevision);
    if (!isSound) return false;
  }
  return true;
}

/** @param revision of the past; absent: now */
export async function readDigest(connection: EtcdConnection, keys: Keys, revision = '0'): Promise<Digest> {
  const range: IRangeRequest = { ...rangeOf(keys.subnets), limit: 1, sort_order: 'Descend', sort_target: 'Mod' };
  const { header, count, kvs } = await connection.call('read', keys.subnets, ({ client, deadline }) =>
    client.kv.range({ ...range, revision }, deadline),
  );
  return {
    revision: revision === '0' ? header.revision : revision,
    count: Number(count),
    newest: kvs.slice(0, 1).map(toEntry),
  };
}
