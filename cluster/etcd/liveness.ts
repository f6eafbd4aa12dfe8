/** The nodes' records, `<prefix>/nodes/<node>`, each on a short etcd lease: it is there while its weftd lives. */

import { LeaseFormatError, samePublicAddress, tooLong } from '../lease.ts';
import type { Liveness, MalformedEntry, NodeList, NodeRecord, Published } from '../store.ts';
import { StoreRefusedError } from '../store-errors.ts';
import type { EtcdCalls } from './calls.ts';
import type { EtcdConnection } from './connection.ts';
import { isTooLarge } from './errors.ts';
import { type Keys, nodeKey, type rightsBelow } from './keys.ts';
import { formatNodeRecord, parseNodeRecord } from './node-record.ts';
import { entryOf, get, hasValue, isAbsent, isHeldBy, isUnchanged, put, remove } from './requests.ts';
import { type Entry, rangeOf, readPages, toEntry } from './snapshot.ts';

export interface LivenessOptions {
  readonly connection: EtcdConnection;
  readonly calls: EtcdCalls;
  readonly keys: Keys;
  readonly rights: Pick<ReturnType<typeof rightsBelow>, 'readNodes' | 'writeNodes'>;
  readonly nodeTtlSeconds: number;
}

/** Written back so often without a pause; the pauses after that, in calls of `publish`. */
const writtenBackAtOnce = 3;
const firstPause = 6;
const longestPause = 96;
/** For so many calls a twin is remembered: it writes within that time, too, if it is still there. */
const twinCalls = longestPause + firstPause;

/** `living` asks about so many nodes at most: anybody with a node's rights can write leases in any name. */
const mostAsked = 32;

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
  /** Its text, where etcd has confirmed it. */
  #text: string | undefined;
  /** Its revision, once it has been written on the current etcd lease: somebody else has made any other one. */
  #revision: string | undefined;
  /** How often it was written back, and for how many calls it is not. */
  #writtenBack = 0;
  #pause = 0;
  /** Another living host with this node's name and address: whoever of the two writes last finds nothing of the other. */
  #twin: { readonly record: NodeRecord; readonly calls: number } | undefined;

  constructor(options: LivenessOptions) {
    this.#options = options;
  }

  async publish(record: NodeRecord): Promise<Published> {
    const op = "publish the node's record";
    const { calls, keys, rights, nodeTtlSeconds } = this.#options;
    const key = nodeKey(keys, record.node);
    const text = formatNodeRecord(record);
    if (this.#etcdLease !== undefined && (await calls.keepAlive(op, key, this.#etcdLease)) <= 0) {
      this.#etcdLease = undefined;
      this.#revision = undefined;
    }
    if (this.#text === text && this.#revision !== undefined && (await this.#isUntouched(key)))
      return this.#undisturbed();
    this.#text = undefined;
    this.#etcdLease ??= await calls.grant(op, key, nodeTtlSeconds);
    const etcdLease = this.#etcdLease;
    // Written only if it differs: a thousand nodes with the same records every ten seconds add no history.
    const current = await calls.transact({
      op,
      subject: key,
      right: rights.readNodes,
      compare: [isHeldBy(key, etcdLease), hasValue(key, text)],
      success: [get(key)],
      failure: [get(key)],
    });
    const found = entryOf(current);
    if (current.succeeded && found) {
      [this.#text, this.#revision] = [text, found.modRevision];
      return this.#undisturbed();
    }
    const wasOurs = this.#revision !== undefined;
    const isForeign =
      found !== undefined && (wasOurs ? found.modRevision !== this.#revision : found.etcdLease !== etcdLease);
    const holder = isForeign ? readable(found.value) : undefined;
    const isLiving = holder !== undefined && found!.etcdLease !== '0' && found!.etcdLease !== etcdLease;
    const isSame = holder !== undefined && samePublicAddress(holder, record);
    // The same host's record before its restart, or a record without a lease, is overwritten. A host with another address that
    // comes later would have left us the record, so that its record is forged.
    if (isLiving && !wasOurs && !isSame) return { conflict: holder };
    const isForged = isForeign && wasOurs;
    if (isForged && isLiving && isSame) this.#twin = { record: holder, calls: 0 };
    const isTold = holder !== undefined && (!isSame || isLiving);
    const outcome: Published = isForged ? (isTold ? { conflict: holder } : { isForged }) : {};
    if (isForged && this.#pause-- > 0) return outcome;
    const guard = found ? isUnchanged(key, found.modRevision) : isAbsent(key);
    const success = [put(key, text, etcdLease)];
    const written = await calls.transact({ op, subject: key, right: rights.writeNodes, compare: [guard], success });
    if (!written.succeeded) return outcome;
    [this.#text, this.#revision] = [text, written.header.revision];
    if (isForged) {
      const further = ++this.#writtenBack - writtenBackAtOnce;
      this.#pause = further < 0 ? 0 : Math.min(firstPause * 2 ** further, longestPause);
    }
    return outcome;
  }

  /** The record is ours now. */
  #undisturbed(): Published {
    const twin = this.#twin;
    this.#twin = twin && twin.calls < twinCalls ? { ...twin, calls: twin.calls + 1 } : undefined;
    return twin ? { conflict: twin.record } : {};
  }

  /**
   * Whether nobody has written the record since we did. Any member of etcd answers that from its memory, without the value: all
   * nodes ask it every ten seconds.
   */
  async #isUntouched(key: string): Promise<boolean> {
    const { connection, rights } = this.#options;
    const op = "publish the node's record";
    const range = { key: Buffer.from(key), keys_only: true, serializable: true };
    const { kvs } = await connection.call(
      op,
      key,
      ({ client, deadline }) => client.kv.range(range, deadline),
      rights.readNodes,
    );
    if (kvs[0]?.mod_revision !== this.#revision) return false;
    // Long undisturbed, everything starts again.
    this.#pause--;
    if (this.#pause < -longestPause) this.#writtenBack = 0;
    return true;
  }

  async withdraw(node: string): Promise<void> {
    const { calls, keys, rights } = this.#options;
    const etcdLease = this.#etcdLease;
    if (etcdLease === undefined) return;
    this.#etcdLease = undefined;
    this.#revision = undefined;
    this.#twin = undefined;
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

  async living(nodes: readonly string[]): Promise<ReadonlySet<string>> {
    const { calls, keys, rights } = this.#options;
    const all = [...new Set(nodes)];
    const asked = all.slice(0, mostAsked);
    if (asked.length === 0) return new Set();
    const request = {
      op: 'look for the nodes',
      subject: keys.nodes,
      right: rights.readNodes,
      compare: [],
      success: asked.map((node) => get(nodeKey(keys, node))),
    };
    try {
      const { responses } = await calls.transact(request);
      const found = responses.flatMap(({ response_range }) => response_range?.kvs.map(toEntry) ?? []);
      // A record on no etcd lease is no sign of life: it stays for ever.
      const live = found.filter(({ etcdLease }) => etcdLease !== '0');
      return new Set([...live.flatMap(({ value }) => readable(value)?.node ?? []), ...all.slice(mostAsked)]);
    } catch (error) {
      if (error instanceof StoreRefusedError) return new Set();
      throw error;
    }
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
    const op = 'list the nodes';
    let entries: readonly Entry[];
    try {
      const { kvs } = await connection.call(
        op,
        keys.nodes,
        ({ client, deadline }) => client.kv.range(rangeOf(keys.nodes), deadline),
        rights.readNodes,
      );
      entries = kvs.map(toEntry);
    } catch (error) {
      if (!isTooLarge(error)) throw error;
      ({ entries } = await readPages(connection, op, keys.nodes, rights.readNodes));
    }
    const nodes: NodeRecord[] = [];
    const malformed: MalformedEntry[] = [];
    for (const { key, value, tooLongBytes } of entries) {
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
