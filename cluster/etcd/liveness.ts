/** The nodes' records, `<prefix>/nodes/<node>`, each on a short etcd lease: it is there while its weftd lives. */

import { LeaseFormatError, samePublicAddress, tooLong } from '../lease.ts';
import type { Liveness, MalformedEntry, NodeList, NodeRecord } from '../store.ts';
import type { EtcdCalls } from './calls.ts';
import type { EtcdConnection } from './connection.ts';
import { type Keys, nodeKey, type rightsBelow } from './keys.ts';
import { formatNodeRecord, parseNodeRecord } from './node-record.ts';
import { entryOf, get, hasValue, isAbsent, isHeldBy, isUnchanged, put, remove } from './requests.ts';
import { rangeOf, toEntry } from './snapshot.ts';

export interface LivenessOptions {
  readonly connection: EtcdConnection;
  readonly calls: EtcdCalls;
  readonly keys: Keys;
  readonly rights: Pick<ReturnType<typeof rightsBelow>, 'readNodes' | 'writeNodes'>;
  readonly nodeTtlSeconds: number;
}

/** In so many of its calls, `publish` looks at its record; in the others it keeps it alive. */
const recordChecksEvery = 6;

function readable(text: string): NodeRecord | undefined {
  try {
    return parseNodeRecord(text);
  } catch (error) {
    if (error instanceof LeaseFormatError) return undefined;
    throw error;
  }
}

export class EtcdLiveness implements Liveness {
  readonly #options: LivenessOptions;
  /** The etcd lease that holds this node's record. */
  #etcdLease: string | undefined;
  /** Its text, and how many calls ago etcd confirmed it; 0 where that is not known. */
  #text = '';
  #published = 0;

  constructor(options: LivenessOptions) {
    this.#options = options;
  }

  async publish(record: NodeRecord): Promise<{ readonly conflict?: NodeRecord }> {
    const op = "publish the node's record";
    const { calls, keys, rights, nodeTtlSeconds } = this.#options;
    const key = nodeKey(keys, record.node);
    const text = formatNodeRecord(record);
    if (this.#etcdLease !== undefined && (await calls.keepAlive(op, key, this.#etcdLease)) <= 0) {
      this.#etcdLease = undefined;
    }
    if (this.#etcdLease === undefined || this.#text !== text) this.#published = 0;
    if (this.#published > 0 && this.#published++ < recordChecksEvery) return {};
    this.#published = 0;
    this.#etcdLease ??= await calls.grant(op, key, nodeTtlSeconds);
    const etcdLease = this.#etcdLease;
    // Written only if it differs: a thousand nodes with the same records every ten seconds add no history.
    const current = await calls.transact({
      op,
      subject: key,
      right: rights.readNodes,
      compare: [isHeldBy(key, etcdLease), hasValue(key, text)],
      success: [],
      failure: [get(key)],
    });
    const published = (): Record<string, never> => {
      [this.#text, this.#published] = [text, 1];
      return {};
    };
    if (current.succeeded) return published();
    const found = entryOf(current);
    if (found && found.etcdLease !== etcdLease) {
      const holder = readable(found.value);
      // The same host's record before its restart, or a record without a lease, is overwritten.
      if (holder && found.etcdLease !== '0' && !samePublicAddress(holder, record)) return { conflict: holder };
    }
    const guard = found ? isUnchanged(key, found.modRevision) : isAbsent(key);
    const success = [put(key, text, etcdLease)];
    const written = await calls.transact({ op, subject: key, right: rights.writeNodes, compare: [guard], success });
    return written.succeeded ? published() : {};
  }

  async withdraw(node: string): Promise<void> {
    const { calls, keys, rights } = this.#options;
    const etcdLease = this.#etcdLease;
    if (etcdLease === undefined) return;
    this.#etcdLease = undefined;
    const key = nodeKey(keys, node);
    await calls.transact({
      op: "withdraw the node's record",
      subject: key,
      right: rights.writeNodes,
      compare: [isHeldBy(key, etcdLease)],
      success: [remove(key)],
    });
    await calls.revoke(etcdLease);
  }

  async count(): Promise<number> {
    const { connection, keys, rights } = this.#options;
    const response = await connection.call(
      'count the nodes',
      keys.nodes,
      ({ client, deadline }) => client.kv.range({ ...rangeOf(keys.nodes), count_only: true }, deadline),
      rights.readNodes,
    );
    return Number(response.count);
  }

  async list(): Promise<NodeList> {
    const { connection, keys, rights } = this.#options;
    const response = await connection.call(
      'list the nodes',
      keys.nodes,
      ({ client, deadline }) => client.kv.range(rangeOf(keys.nodes), deadline),
      rights.readNodes,
    );
    const nodes: NodeRecord[] = [];
    const malformed: MalformedEntry[] = [];
    for (const { key, value, tooLongBytes } of response.kvs.map(toEntry)) {
      try {
        if (tooLongBytes !== undefined) throw new LeaseFormatError(tooLong(tooLongBytes));
        nodes.push(parseNodeRecord(value));
      } catch (error) {
        if (!(error instanceof LeaseFormatError)) throw error;
        malformed.push({ ownerId: key, reason: error.message });
      }
    }
    return { nodes, malformed };
  }
}
