/** The cluster's shared state in etcd, v3 API. Tested against a real etcd 3.4. */

import type { ICompare, IKeyValue, IRequestOp, ITxnResponse } from 'etcd3';
import type { Prefix } from '../../net/prefix.ts';
import { prefixesOverlap } from '../../net/prefix.ts';
import type { Clock, Random } from '../clock.ts';
import {
  formatLeaseValue,
  type Lease,
  LeaseFormatError,
  type LeaseValue,
  type OwnLease,
  parseLeaseValue,
  sameLeaseValue,
  samePublicAddress,
} from '../lease.ts';
import { families, isCompatible, type PerFamily } from '../network-config.ts';
import {
  type ClaimResult,
  type Closable,
  type ClusterStore,
  type Known,
  type LeaseChange,
  type LeaseList,
  type MalformedEntry,
  type NodeList,
  type NodeRecord,
  patchList,
  type RenewResult,
  type StoredConfig,
  type StoreHealth,
  type SubnetClaim,
} from '../store.ts';
import { StoreError } from '../store-errors.ts';
import type { StoreObserver } from '../store-observer.ts';
import { chooseSubnet, ownLeases } from '../subnet-choice.ts';
import { EtcdConnection } from './connection.ts';
import { toStoreError } from './errors.ts';
import { EtcdHandle, handleOf } from './handle.ts';
import { type Keys, keysBelow, nodeKey, type Right, rightsBelow } from './keys.ts';
import { formatLeaseKey, parseLeaseKey } from './lease-key.ts';
import { formatLeaseMemory, parseLeaseMemory } from './lease-memory.ts';
import { EtcdMark } from './mark.ts';
import { formatNodeRecord, parseNodeRecord } from './node-record.ts';
import type { EtcdEndpoints } from './options.ts';
import { type Entry, EtcdWatch, rangeOf, readSnapshot, type Snapshot, toEntry } from './watch.ts';

export interface EtcdStoreOptions {
  readonly etcd: EtcdEndpoints;
  readonly clock: Clock;
  readonly random: Random;
  /** Life of a subnet lease; flannel's 24 h. */
  readonly leaseTtlSeconds?: number;
  /** Life of a node's record. */
  readonly nodeTtlSeconds?: number;
  /** By when each call has ended. */
  readonly timeoutMs?: number;
  /** How often a watch checks that its endpoint answers. */
  readonly heartbeatMs?: number;
  /** How often a watch compares what it knows with etcd. */
  readonly verifyMs?: number;
  readonly maxBackoffMs?: number;
  readonly observer?: StoreObserver | undefined;
}

const defaults = {
  leaseTtlSeconds: 86_400,
  nodeTtlSeconds: 30,
  timeoutMs: 5000,
  heartbeatMs: 5000,
  verifyMs: 60_000,
  maxBackoffMs: 5000,
} as const;

/** How long claiming goes on after lost races, and the pauses between the attempts. */
const claimTimeoutMs = 60_000;
const racePauseMs = 5;
const longestRacePauseMs = 1000;

/** How long a watch is given to tell of what etcd has confirmed to us already. */
const heardOfMs = 1000;

/** In so many of its calls, `publishNode` looks at its record; in the others it keeps it alive. */
const recordChecksEvery = 6;

/** Nothing is contacted before the first call. */
export const openEtcdStore = (options: EtcdStoreOptions): ClusterStore => new EtcdStore(options);

/** The key does not exist. */
const isAbsent = (key: string): ICompare => ({
  key: Buffer.from(key),
  target: 'Create',
  result: 'Equal',
  create_revision: '0',
});

/** Nobody has written the key since. With '0': it does not exist. */
const isUnchanged = (key: string, modRevision: string): ICompare => ({
  key: Buffer.from(key),
  target: 'Mod',
  result: 'Equal',
  mod_revision: modRevision,
});

const put = (key: string, value: string, etcdLease: string): IRequestOp => ({
  request_put: { key: Buffer.from(key), value: Buffer.from(value), lease: etcdLease },
});

const get = (key: string): IRequestOp => ({ request_range: { key: Buffer.from(key) } });

/** What the `get` at place `i` of a transaction's branch gave. */
function entryOf(response: ITxnResponse, i = 0): Entry | undefined {
  const kv: IKeyValue | undefined = response.responses[i]?.response_range?.kvs[0];
  return kv && toEntry(kv);
}

const overlap = (a: PerFamily<Prefix>, b: PerFamily<Prefix>): boolean =>
  families.some((family) => {
    const x = a[family];
    const y = b[family];
    return x !== undefined && y !== undefined && prefixesOverlap(x, y);
  });

const markOf = ({ clusterId, history, revision }: Snapshot): EtcdMark => new EtcdMark(clusterId, history, revision);

type Origin = Pick<EtcdMark, 'clusterId' | 'history'>;

const sameOrigin = (a: Origin, b: Origin): boolean => a.clusterId === b.clusterId && a.history === b.history;

class EtcdStore implements ClusterStore {
  readonly #keys: Keys;
  readonly #rights: ReturnType<typeof rightsBelow>;
  readonly #options: Required<Omit<EtcdStoreOptions, 'observer'>> & Pick<EtcdStoreOptions, 'observer'>;
  readonly #connection: EtcdConnection;
  readonly #watches = new Set<EtcdWatch>();
  /** The newest revisions of leases and of the config that we made or heard of: what has not come that far is not read from. */
  #newest = { leases: 0n, config: 0n };
  /** The etcd that they are revisions of, and what the watch calls it. */
  #clusterId: string | undefined;
  #followed: EtcdMark | undefined;
  /** What was made last of a watch's snapshot. */
  #listed: { readonly of: ReadonlyMap<string, Entry>; readonly list: LeaseList } | undefined;
  /** The etcd lease that holds this node's record. */
  #nodeLease: string | undefined;
  /** What it says, and how many calls ago etcd said so; 0 where that is not known. */
  #nodeText = '';
  #nodePublished = 0;

  constructor(options: EtcdStoreOptions) {
    this.#options = { ...defaults, ...options };
    this.#keys = keysBelow(options.etcd.prefix);
    this.#rights = rightsBelow(this.#keys);
    const { etcd, clock, random, timeoutMs, observer } = this.#options;
    this.#connection = new EtcdConnection({ etcd, clock, random, timeoutMs, observer });
  }

  get prefix(): string {
    return this.#keys.prefix;
  }

  health(): StoreHealth {
    return this.#connection.health();
  }

  reconnect(): void {
    this.#connection.reconnect();
  }

  close(): void {
    for (const watch of this.#watches) watch.close();
    this.#watches.clear();
    this.#connection.close();
  }

  // Reading

  /**
   * What a watch knows; it is given a moment to hear of what we have written. Without one, or where it does not hear of
   * it, etcd is asked.
   * @throws StoreError
   */
  async #snapshot(): Promise<Snapshot> {
    const [watch] = this.#watches;
    if (watch) {
      const origin = await watch.fresh();
      // An etcd restored from a backup counts from where the backup was made.
      if (!this.#followed || !sameOrigin(origin, this.#followed)) this.#newest = { leases: 0n, config: 0n };
      this.#followed = markOf(origin);
      const isThere = ({ revision, configRevision }: Snapshot): boolean =>
        BigInt(revision) >= this.#newest.leases && BigInt(configRevision) >= this.#newest.config;
      const known = await watch.until(isThere, heardOfMs);
      if (known) return known;
    }
    const snapshot = await readSnapshot(this.#connection, this.#keys);
    this.#noteRevision('leases', snapshot.revision, snapshot.clusterId);
    return snapshot;
  }

  async readConfig(): Promise<StoredConfig | undefined> {
    const config =
      this.#watches.size > 0
        ? (await this.#snapshot()).config
        : await this.#get('read the network config', this.#rights.readConfig);
    return config && { text: config.value, modRevision: config.modRevision };
  }

  async listLeases({ mark, promised }: Known = {}): Promise<LeaseList> {
    const snapshot = await this.#snapshot();
    const list = this.#parseLeases(snapshot);
    const isSame = !(mark instanceof EtcdMark) || mark.leadsTo(markOf(snapshot));
    const isThere = promised === undefined || snapshot.leases.has(promised);
    return isSame && isThere ? list : { ...list, continuity: 'lost' };
  }

  holds(own: OwnLease, listed: Lease): boolean {
    return own.ownerId === listed.ownerId && handleOf(own).etcdLease === handleOf(listed).etcdLease;
  }

  readonly memory: ClusterStore['memory'] = {
    format: (memory) => formatLeaseMemory(memory, this.prefix),
    parse: (text) => parseLeaseMemory(text, this.#keys),
  };

  #noteRevision(of: 'leases' | 'config', revision: string, clusterId: string): void {
    if (clusterId !== this.#clusterId) this.#newest = { leases: 0n, config: 0n };
    this.#clusterId = clusterId;
    if (BigInt(revision) > this.#newest[of]) this.#newest[of] = BigInt(revision);
  }

  /**
   * A lease that nobody has written since is the same object as before. Of a watch's snapshot only what has changed is
   * looked at.
   */
  #parseLeases(snapshot: Snapshot): LeaseList {
    const changes = snapshot.changes?.splice(0) ?? [];
    const followed = this.#listed?.of === snapshot.leases ? this.#followList(this.#listed.list, changes) : undefined;
    const list: LeaseList = {
      ...(followed ?? this.#parseAll(snapshot)),
      continuity: 'same',
      mark: markOf(snapshot),
    };
    if (snapshot.changes) this.#listed = { of: snapshot.leases, list };
    return list;
  }

  #parseAll(snapshot: Snapshot): Pick<LeaseList, 'leases' | 'malformed'> {
    const leases: Lease[] = [];
    const malformed: MalformedEntry[] = [];
    for (const entry of snapshot.leases.values()) {
      const parsed = this.#parsedOf(entry);
      if ('reason' in parsed) malformed.push(parsed);
      else leases.push(parsed);
    }
    return { leases, malformed };
  }

  #followList(
    before: LeaseList,
    changes: readonly (readonly [was: Entry | undefined, is: Entry | undefined])[],
  ): Pick<LeaseList, 'leases' | 'malformed' | 'since'> | undefined {
    const { leases, malformed } = before;
    if (malformed.length > 0) return undefined;
    const parsed: LeaseChange[] = [];
    for (const [was, is] of changes) {
      const pair = [was && this.#parsedOf(was), is && this.#parsedOf(is)] as const;
      if (pair.some((each) => each && 'reason' in each)) return undefined;
      parsed.push(pair as LeaseChange);
    }
    const next = parsed.length > 0 ? patchList(leases, parsed) : leases;
    return next && { leases: next, malformed, since: { leases, changes: parsed } };
  }

  #parsedOf(entry: Entry): Lease | MalformedEntry {
    entry.parsed ??= this.#parse(entry);
    return entry.parsed;
  }

  #parse(entry: Entry): Lease | MalformedEntry {
    let subnets: PerFamily<Prefix> | undefined;
    try {
      subnets = parseLeaseKey(this.#keys, entry.key);
      return this.#lease(entry, subnets);
    } catch (error) {
      if (!(error instanceof LeaseFormatError)) throw error;
      return { ownerId: entry.key, reason: error.message, ...(subnets ? { subnets } : {}) };
    }
  }

  /** @throws LeaseFormatError */
  #lease(entry: Entry, subnets: PerFamily<Prefix>): Lease {
    const { extra, ...value } = parseLeaseValue(entry.value);
    return {
      ...value,
      ownerId: entry.key,
      subnets,
      reservation: entry.etcdLease === '0',
      ofFlannel: value.node === undefined,
      seniority: entry.createRevision,
      handle: new EtcdHandle(entry.modRevision, entry.etcdLease, extra),
    };
  }

  async #get(op: string, right: Right): Promise<Entry | undefined> {
    const { key } = right;
    const response = await this.#connection.call(
      op,
      key,
      ({ client, deadline }) => client.kv.range({ key: Buffer.from(key) }, deadline),
      right,
    );
    return response.kvs[0] && toEntry(response.kvs[0]);
  }

  // Writing

  /** @param key for the words of an error: what is to be changed, or where */
  async #transact(
    op: string,
    key: string,
    compare: ICompare[],
    success: IRequestOp[],
    failure: IRequestOp[],
    right: Right = this.#rights.writeLeases,
  ): Promise<ITxnResponse> {
    const response = await this.#connection.call(
      op,
      key,
      ({ client, deadline }) => client.kv.txn({ compare, success, failure }, deadline),
      right,
    );
    const of =
      right === this.#rights.writeConfig ? 'config' : right === this.#rights.writeLeases ? 'leases' : undefined;
    const { revision, cluster_id } = response.header;
    if (!of) return response;
    if (response.succeeded && success.some((part) => part.request_put || part.request_delete_range)) {
      this.#noteRevision(of, revision, cluster_id);
    } else if (!response.succeeded) {
      // Somebody was faster: that is to be known before the next attempt.
      const found = entryOf(response);
      if (found) this.#noteRevision(of, found.modRevision, cluster_id);
    }
    return response;
  }

  async #grant(op: string, key: string, ttlSeconds: number): Promise<string> {
    const response = await this.#connection.call(op, key, ({ client, deadline }) =>
      client.leaseClient.leaseGrant({ TTL: ttlSeconds }, deadline),
    );
    return response.ID;
  }

  /** Lets an etcd lease go that holds nothing any more. Failing does no harm: it lapses by itself. */
  async #revoke(etcdLease: string): Promise<void> {
    try {
      await this.#connection.call('revoke the lease', etcdLease, ({ client, deadline }) =>
        client.leaseClient.leaseRevoke({ ID: etcdLease }, deadline),
      );
    } catch (error) {
      if (!(error instanceof StoreError)) throw error;
    }
  }

  /** One keep-alive of an etcd lease. The seconds it lives from now on; 0 or less if it does not exist any more. */
  #keepAlive(op: string, key: string, etcdLease: string): Promise<number> {
    return this.#connection.call(op, key, async ({ client, deadline }) => {
      const stream = await client.leaseClient.leaseKeepAlive(deadline);
      return await new Promise<number>((resolve, reject) => {
        stream.on('data', (response: { TTL: string }) => {
          resolve(Number(response.TTL));
          // Not cancelled: etcd3 takes the error that follows for the connection's, and closes it.
          stream.end();
        });
        stream.on('error', reject);
        stream.on('end', () => reject(new Error('etcd ended the keep-alive')));
        stream.write({ ID: etcdLease });
      });
    });
  }

  async writeConfig(text: string, expected?: string): Promise<boolean> {
    const key = this.#keys.config;
    const compare = expected === undefined ? [] : [isUnchanged(key, expected)];
    const response = await this.#transact(
      'write the network config',
      key,
      compare,
      [put(key, text, '0')],
      [get(key)],
      this.#rights.writeConfig,
    );
    // The first of two attempts may have been carried out without our hearing of it.
    return response.succeeded || entryOf(response)?.value === text;
  }

  // Leases

  async claimSubnet(claim: SubnetClaim): Promise<ClaimResult> {
    const op = 'claim a subnet';
    const { clock, random, leaseTtlSeconds } = this.#options;
    const endMs = clock.nowMs() + claimTimeoutMs;
    let lostRaces = 0;
    let etcdLease: string | undefined;
    try {
      while (clock.nowMs() < endMs) {
        const { leases, malformed } = this.#parseLeases(await this.#snapshot());
        const taken = [...leases, ...malformed].flatMap(({ subnets }) => (subnets ? [subnets] : []));
        const choice = chooseSubnet(claim, leases, taken, random, lostRaces);
        const superseded = claim.further
          ? []
          : ownLeases(leases, claim).filter((lease) => !isCompatible(claim.config, lease.subnets));
        if (choice.how === 'kept') {
          const refreshed = await this.#refresh(op, choice.lease, claim.value);
          if ('own' in refreshed) return { own: refreshed.own, how: 'kept', lostRaces, superseded };
          // It changed under our hands: look again.
          continue;
        }
        const key = formatLeaseKey(this.#keys, choice.subnets);
        const beforeMs = clock.nowMs();
        // The next attempt may be for another subnet; what is wrong stays the same, and is told once.
        const where = this.#keys.subnets;
        etcdLease ??= await this.#grant(op, where, leaseTtlSeconds);
        const value = formatLeaseValue(claim.value);
        const response = await this.#transact(op, where, [isAbsent(key)], [put(key, value, etcdLease)], [get(key)]);
        const found = entryOf(response);
        // Found with our own etcd lease: the first of two attempts was carried out without our hearing of it.
        const isOurs = response.succeeded || found?.etcdLease === etcdLease;
        if (isOurs && !(await this.#mustYield(key, choice.subnets))) {
          const own: OwnLease = {
            ...claim.value,
            ownerId: key,
            subnets: choice.subnets,
            reservation: false,
            ofFlannel: false,
            seniority: response.succeeded ? response.header.revision : found!.createRevision,
            handle: new EtcdHandle(response.succeeded ? response.header.revision : found!.modRevision, etcdLease, {}),
            expiresAtMs: beforeMs + leaseTtlSeconds * 1000,
          };
          etcdLease = undefined;
          return { own, how: choice.how, lostRaces, superseded };
        }
        lostRaces++;
        // Those who lost with us come again, too.
        const pauseMs = random() * Math.min(racePauseMs * 2 ** lostRaces, longestRacePauseMs);
        await new Promise<void>((resolve) => clock.setTimer(resolve, pauseMs));
      }
      throw toStoreError(
        { op, key: this.#keys.subnets, endpoint: this.#options.etcd.endpoints.join(', ') },
        new Error(`other nodes were faster ${lostRaces} times`),
      );
    } finally {
      if (etcdLease !== undefined) await this.#revoke(etcdLease);
    }
  }

  /**
   * Whether a lease that was there before ours overlaps it under another key: two dual-stack nodes may pick the same
   * IPv4 subnet with different IPv6 ones at the same time, and a config just changed may have two lengths in use. If
   * so, ours is taken back. Of two that overlap the later yields.
   */
  async #mustYield(key: string, subnets: PerFamily<Prefix>): Promise<boolean> {
    const snapshot = await this.#snapshot();
    const own = snapshot.leases.get(key);
    if (!own) return true;
    const { leases, malformed } = this.#parseLeases(snapshot);
    const rival = [...leases, ...malformed].find(
      (other) =>
        other.ownerId !== key &&
        other.subnets !== undefined &&
        overlap(other.subnets, subnets) &&
        BigInt(snapshot.leases.get(other.ownerId)!.createRevision) < BigInt(own.createRevision),
    );
    if (!rival) return false;
    const remove: IRequestOp = { request_delete_range: { key: Buffer.from(key) } };
    await this.#transact('claim a subnet', key, [isUnchanged(key, own.modRevision)], [remove], []);
    return true;
  }

  /**
   * Another whole life for a lease, and the value, if nobody has written it since; without an event for the other nodes
   * where the value is as it was. A reservation gets the value only.
   * @param overwrites the key holds something else than `lease` says, which is to go
   */
  async #refresh(
    op: string,
    lease: Lease,
    value: LeaseValue,
    overwrites = false,
  ): Promise<{ own: OwnLease } | { found: Entry | undefined }> {
    const { clock, leaseTtlSeconds } = this.#options;
    const { ownerId: key } = lease;
    const { extra, ...before } = handleOf(lease);
    const beforeMs = clock.nowMs();
    let { etcdLease } = before;
    let ttlSeconds: number | undefined;
    let granted: string | undefined;
    if (!lease.reservation) {
      ttlSeconds = await this.#keepAlive(op, key, etcdLease);
      // Made with a life that is not ours to keep up with (by hand, or before the option was changed), or just lapsed.
      if (ttlSeconds < leaseTtlSeconds / 2) {
        granted = await this.#grant(op, key, leaseTtlSeconds);
        etcdLease = granted;
        ttlSeconds = leaseTtlSeconds;
      }
    }
    const mustWrite = overwrites || granted !== undefined || !sameLeaseValue(lease, value);
    const text = formatLeaseValue(value, extra);
    // Where this throws, a lease just granted is left to lapse: it may hold the key by now.
    const response = await this.#transact(
      op,
      key,
      [isUnchanged(key, before.modRevision)],
      [mustWrite ? put(key, text, etcdLease) : get(key)],
      [get(key)],
    );
    const found = response.succeeded ? undefined : entryOf(response);
    // The first of two attempts may have been carried out without our hearing of it.
    const isWritten = response.succeeded || (mustWrite && found?.value === text && found.etcdLease === etcdLease);
    if (!isWritten) {
      if (granted !== undefined) await this.#revoke(granted);
      return { found };
    }
    const modRevision = !mustWrite
      ? before.modRevision
      : response.succeeded
        ? response.header.revision
        : found!.modRevision;
    const own: OwnLease = {
      ...value,
      ownerId: key,
      subnets: lease.subnets,
      reservation: lease.reservation,
      ofFlannel: false,
      seniority: lease.seniority,
      handle: new EtcdHandle(modRevision, etcdLease, extra),
      expiresAtMs: ttlSeconds === undefined ? undefined : beforeMs + ttlSeconds * 1000,
    };
    return { own };
  }

  async renewLease(own: OwnLease, value: LeaseValue): Promise<RenewResult> {
    let lease: Lease = own;
    let overwrites = false;
    // A lease that was written by somebody may still be ours, such as one just made a reservation. Once more, then.
    for (let attempt = 0; attempt < 3; attempt++) {
      const refreshed = await this.#refresh('renew the lease', lease, value, overwrites);
      if ('own' in refreshed) return { outcome: 'renewed', own: refreshed.own };
      const { found } = refreshed;
      if (!found) return { outcome: 'lost', reason: 'gone' };
      const holder = this.#readable(found);
      if (holder && !samePublicAddress(holder, own) && !samePublicAddress(holder, value)) {
        return { outcome: 'lost', reason: 'taken', holder };
      }
      overwrites = holder === undefined;
      const { etcdLease, extra } = handleOf(own);
      lease = holder ?? { ...own, handle: new EtcdHandle(found.modRevision, etcdLease, extra) };
    }
    throw toStoreError(
      { op: 'renew the lease', key: own.ownerId, endpoint: this.#options.etcd.endpoints.join(', ') },
      new Error('somebody else keeps writing it'),
    );
  }

  #readable(entry: Entry): Lease | undefined {
    try {
      return this.#lease(entry, parseLeaseKey(this.#keys, entry.key));
    } catch (error) {
      if (error instanceof LeaseFormatError) return undefined;
      throw error;
    }
  }

  async releaseLease(lease: Lease): Promise<boolean> {
    const op = 'release the lease';
    const { ownerId: key } = lease;
    let { modRevision, etcdLease } = handleOf(lease);
    for (let attempt = 0; attempt < 3; attempt++) {
      const remove: IRequestOp = { request_delete_range: { key: Buffer.from(key) } };
      const response = await this.#transact(op, key, [isUnchanged(key, modRevision)], [remove], [get(key)]);
      if (response.succeeded) {
        if (etcdLease !== '0') await this.#revoke(etcdLease);
        return true;
      }
      const found = entryOf(response);
      const holder = found && this.#readable(found);
      if (!holder || !samePublicAddress(holder, lease)) return false;
      ({ modRevision, etcdLease } = handleOf(holder));
    }
    return false;
  }

  // Nodes

  async publishNode(record: NodeRecord): Promise<{ readonly conflict?: NodeRecord }> {
    const op = "publish the node's record";
    const key = nodeKey(this.#keys, record.node);
    const text = formatNodeRecord(record);
    if (this.#nodeLease !== undefined && (await this.#keepAlive(op, key, this.#nodeLease)) <= 0) {
      this.#nodeLease = undefined;
    }
    if (this.#nodeLease === undefined || this.#nodeText !== text) this.#nodePublished = 0;
    if (this.#nodePublished > 0 && this.#nodePublished++ < recordChecksEvery) return {};
    this.#nodePublished = 0;
    this.#nodeLease ??= await this.#grant(op, key, this.#options.nodeTtlSeconds);
    const etcdLease = this.#nodeLease;
    const holds: ICompare = { key: Buffer.from(key), target: 'Lease', result: 'Equal', lease: etcdLease };
    const same: ICompare = { key: Buffer.from(key), target: 'Value', result: 'Equal', value: Buffer.from(text) };
    // Written only where it differs: a thousand nodes that say the same every ten seconds make no history.
    const { readNodes, writeNodes } = this.#rights;
    const current = await this.#transact(op, key, [holds, same], [], [get(key)], readNodes);
    const published = (): Record<string, never> => {
      [this.#nodeText, this.#nodePublished] = [text, 1];
      return {};
    };
    if (current.succeeded) return published();
    const found = entryOf(current);
    if (found && found.etcdLease !== etcdLease) {
      const holder = this.#readableNode(found);
      // The same host before its restart, or a record that nobody keeps alive, is written over.
      if (holder && found.etcdLease !== '0' && !samePublicNode(holder, record)) return { conflict: holder };
    }
    const guard = found ? isUnchanged(key, found.modRevision) : isAbsent(key);
    const written = await this.#transact(op, key, [guard], [put(key, text, etcdLease)], [], writeNodes);
    return written.succeeded ? published() : {};
  }

  #readableNode(entry: Entry): NodeRecord | undefined {
    try {
      return parseNodeRecord(entry.value);
    } catch (error) {
      if (error instanceof LeaseFormatError) return undefined;
      throw error;
    }
  }

  async withdrawNode(node: string): Promise<void> {
    const etcdLease = this.#nodeLease;
    if (etcdLease === undefined) return;
    this.#nodeLease = undefined;
    const key = nodeKey(this.#keys, node);
    const holds: ICompare = { key: Buffer.from(key), target: 'Lease', result: 'Equal', lease: etcdLease };
    const remove: IRequestOp = { request_delete_range: { key: Buffer.from(key) } };
    await this.#transact("withdraw the node's record", key, [holds], [remove], [], this.#rights.writeNodes);
    await this.#revoke(etcdLease);
  }

  async countNodes(): Promise<number> {
    const response = await this.#connection.call(
      'count the nodes',
      this.#keys.nodes,
      ({ client, deadline }) => client.kv.range({ ...rangeOf(this.#keys.nodes), count_only: true }, deadline),
      this.#rights.readNodes,
    );
    return Number(response.count);
  }

  async listNodes(): Promise<NodeList> {
    const response = await this.#connection.call(
      'list the nodes',
      this.#keys.nodes,
      ({ client, deadline }) => client.kv.range(rangeOf(this.#keys.nodes), deadline),
      this.#rights.readNodes,
    );
    const nodes: NodeRecord[] = [];
    const malformed: MalformedEntry[] = [];
    for (const entry of response.kvs.map(toEntry)) {
      try {
        nodes.push(parseNodeRecord(entry.value));
      } catch (error) {
        if (!(error instanceof LeaseFormatError)) throw error;
        malformed.push({ ownerId: entry.key, reason: error.message });
      }
    }
    return { nodes, malformed };
  }

  watch(onWake: () => void, onProblem: (error: StoreError) => void = () => undefined): Closable {
    const { clock, random, heartbeatMs, verifyMs, timeoutMs, maxBackoffMs, observer } = this.#options;
    const watch = new EtcdWatch({
      connection: this.#connection,
      keys: this.#keys,
      clock,
      random,
      heartbeatMs,
      verifyMs,
      timeoutMs,
      maxBackoffMs,
      onWake,
      onProblem,
      observer,
    });
    this.#watches.add(watch);
    return {
      close: () => {
        this.#watches.delete(watch);
        watch.close();
      },
    };
  }
}

const samePublicNode = (a: NodeRecord, b: NodeRecord): boolean =>
  samePublicAddress({ ...a, backendData: {} }, { ...b, backendData: {} });
