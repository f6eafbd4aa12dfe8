/**
 * Follows config and leases: one snapshot, then the changes after it, kept in memory. It reports when something may have
 * changed.
 *
 * Without the memory, five thousand nodes would each read five thousand leases whenever one changes, or when etcd comes
 * back. After a loss the watch continues where it was. It starts over with a new snapshot only if it cannot continue: the
 * changes in between were compacted away, etcd is another one, or it was restored from a backup. From time to time the
 * watch compares memory and etcd: the number of leases, and the newest one.
 *
 * Work that every node does by itself is spread randomly, over a time that grows with the number of nodes. Node records
 * are listed only when someone asks for them: at 5,000 nodes that alone cost etcd seven cores.
 */

import type { IRangeRequest, IWatchResponse } from 'etcd3';
import { ChangeLog } from '../change-log.ts';
import type { Clock, Random, Timer } from '../clock.ts';
import { defer } from '../deferred.ts';
import type { Closable } from '../store.ts';
import { StoreError, StoreRefusedError } from '../store-errors.ts';
import type { StoreObserver } from '../store-observer.ts';
import { type EtcdConnection, ReconnectError, type Session, untilDropped } from './connection.ts';
import { isCompacted, isTooLarge, toStoreError } from './errors.ts';
import type { Keys } from './keys.ts';
import { perLeaseMs } from './pace.ts';
import {
  type Digest,
  digestOf,
  type Entry,
  isBefore,
  isContinued,
  rangeOf,
  readDigest,
  readSnapshot,
  type Snapshot,
  sameDigest,
  toEntry,
  toWholeEntry,
} from './snapshot.ts';

/** Which of the two may have changed. */
export interface Wake {
  readonly config: boolean;
  readonly leases: boolean;
}

export interface WatchOptions {
  readonly connection: EtcdConnection;
  readonly keys: Keys;
  readonly clock: Clock;
  readonly random: Random;
  /** How often to check that the endpoint answers and has a leader, in a small cluster. */
  readonly heartbeatMs: number;
  /** How often to compare memory and etcd, in a small cluster. */
  readonly verifyMs: number;
  readonly timeoutMs: number;
  /** Longest pause between two attempts. */
  readonly maxBackoffMs: number;
  readonly onWake: (what: Wake) => void;
  readonly onProblem: (error: StoreError) => void;
  readonly observer?: StoreObserver | undefined;
}

const firstBackoffMs = 100;
/** A watch that lived this long was sound: after its loss the pauses start short again. */
const soundAfterMs = 5000;

interface FollowedSnapshot extends Snapshot {
  config: Entry | undefined;
  readonly leases: Map<string, Entry>;
  readonly changes: ChangeLog<Entry>;
  revision: string;
  configRevision: string;
}

/** Memory and etcd do not belong together: the memory only serves for comparison. */
class HistoryError extends Error {
  override readonly name = 'HistoryError';
}

export class EtcdWatch implements Closable {
  readonly #options: WatchOptions;
  #closed = false;
  /** The last known state. It is kept up to date while `#isLive`. */
  #memory: FollowedSnapshot | undefined;
  #isLive = false;
  /** The memory is unusable. */
  #mustList = true;
  /** The memory's digest from when the watch went on from it, as long as it is not compared with etcd. */
  #unproved: Digest | undefined;
  /** How often another etcd was found under the same id. */
  #histories = 0;
  /** The outcome of the current attempt, or of the next one. */
  #attempt = defer<Snapshot>();
  /** Called after each change of the memory, and at the end of the watch. */
  readonly #listeners = new Set<() => void>();
  #endCurrent: (() => void) | undefined;
  #pause: { readonly end: () => void; readonly isFirm: boolean } | undefined;
  /** Why the last attempt failed, or the watch ended. */
  #failure: unknown;

  constructor(options: WatchOptions) {
    this.#options = options;
    void this.#run();
  }

  /** The memory, while the watch is in contact; undefined otherwise. */
  current(): Snapshot | undefined {
    return this.#isLive ? this.#memory : undefined;
  }

  /**
   * The same, but without a connection it connects at once and waits, unless all nodes would then list all leases.
   * @throws StoreError: the attempt failed, or the last one did
   */
  fresh(): Promise<Snapshot> {
    if (this.#isLive && this.#memory) return Promise.resolve(this.#memory);
    if (this.#pause?.isFirm) return Promise.reject(this.#failure);
    this.#pause?.end();
    return this.#attempt.promise;
  }

  /** Waits until the memory satisfies `isThere`, for at most `timeoutMs` and only while connected. */
  async until(isThere: (snapshot: Snapshot) => boolean, timeoutMs: number): Promise<Snapshot | undefined> {
    const { clock } = this.#options;
    const known = (): Snapshot | undefined => {
      const snapshot = this.current();
      return snapshot && isThere(snapshot) ? snapshot : undefined;
    };
    const { promise, resolve } = defer<void>();
    const check = (): void => {
      if (!this.#isLive || known()) resolve();
    };
    this.#listeners.add(check);
    const timer = clock.setTimer(resolve, timeoutMs);
    check();
    await promise;
    timer.cancel();
    this.#listeners.delete(check);
    return known();
  }

  close(): void {
    this.#closed = true;
    this.#endCurrent?.();
    this.#pause?.end();
    this.#attempt.reject(
      new StoreRefusedError({
        code: 'refused',
        op: 'watch',
        subject: '',
        message: 'Cannot follow etcd: the watch is closed',
      }),
    );
  }

  #notify(): void {
    for (const listener of [...this.#listeners]) listener();
  }

  /** A time from half of `ms` to all of it, longer in a large cluster: `eachMs` for each lease. */
  #spread(ms: number, eachMs: number): number {
    const { random } = this.#options;
    return Math.max(ms, (this.#memory?.leases.size ?? 0) * eachMs) * (0.5 + random() / 2);
  }

  async #run(): Promise<void> {
    const { connection, clock, maxBackoffMs, onProblem, observer } = this.#options;
    let failures = 0;
    let reported = false;
    while (!this.#closed) {
      let startedMs = Number.POSITIVE_INFINITY;
      try {
        await this.#follow(() => {
          startedMs = clock.nowMs();
          reported = false;
          observer?.watchStarted();
        });
      } catch (error) {
        this.#failure = error;
        if (this.#closed) return;
        // With several endpoints the loss of one is no problem yet: the next attempt shows whether others answer.
        const isFirst = startedMs !== Number.POSITIVE_INFINITY && connection.endpointCount > 1;
        const isWanted = isFirst || error instanceof ReconnectError;
        if (!reported && !isWanted && error instanceof StoreError) onProblem(error);
        reported ||= !isWanted;
      }
      this.#isLive = false;
      this.#notify();
      if (this.#closed) return;
      if (startedMs !== Number.POSITIVE_INFINITY) observer?.watchLost();
      else {
        // Callers that wait hear of the failure. Later callers wait for the next attempt.
        const attempt = this.#attempt;
        this.#attempt = defer();
        attempt.reject(this.#failure);
      }
      if (clock.nowMs() - startedMs >= soundAfterMs) failures = 0;
      // All nodes of a cluster lose etcd at the same instant, but must not return at the same instant.
      const pauseMs = Math.min(firstBackoffMs * 2 ** failures++, this.#spread(maxBackoffMs, perLeaseMs.beat));
      // A list of all leases for each node is much at once: no request shortens this pause.
      const listMs = this.#mustList ? perLeaseMs.list : 0;
      const spreadMs = this.#spread(pauseMs, listMs);
      await this.#wait(spreadMs, spreadMs > maxBackoffMs);
    }
  }

  async #wait(pauseMs: number, isFirm: boolean): Promise<void> {
    const { promise, resolve } = defer<void>();
    const timer = this.#options.clock.setTimer(resolve, pauseMs);
    this.#pause = { end: resolve, isFirm };
    await promise;
    timer.cancel();
    this.#pause = undefined;
  }

  /** The memory from which the watch continues: the current one, or a new snapshot. */
  async #startingPoint(): Promise<FollowedSnapshot> {
    const { connection, keys } = this.#options;
    const before = this.#memory;
    if (before && !this.#mustList) {
      try {
        await this.#beat(before, 'follow the leases');
        this.#unproved ??= digestOf(before);
        return before;
      } catch (error) {
        if (!(error instanceof HistoryError)) throw error;
      }
    }
    const read = await readSnapshot(connection, keys);
    if (before) this.#options.observer?.watchResync();
    if (before && before.clusterId === read.clusterId && !isContinued(before, read)) this.#histories++;
    this.#memory = { ...read, history: this.#histories, leases: new Map(read.leases), changes: new ChangeLog() };
    this.#mustList = false;
    this.#unproved = undefined;
    return this.#memory;
  }

  /** One watch, from its start to its end. It ends by throwing. It calls `onLive` once etcd has confirmed it. */
  async #follow(onLive: () => void): Promise<never> {
    const { connection, keys, clock, heartbeatMs, verifyMs, timeoutMs, onWake } = this.#options;
    const memory = await this.#startingPoint();
    const session = await connection.session();
    const about = { op: 'watch', key: keys.subnets, endpoint: session.endpoint };
    try {
      // No deadline: the stream should last. The heartbeat checks that it is alive.
      const stream = await untilDropped(session, () => session.client.watchClient.watch());
      return await new Promise<never>((_resolve, reject) => {
        let confirmed = 0;
        let isOver = false;
        let timers: Timer[] = [];
        const end = (error: unknown): void => {
          if (isOver) return;
          isOver = true;
          for (const timer of timers) timer.cancel();
          this.#endCurrent = undefined;
          session.onDrop.delete(dropped);
          // Ended first: otherwise etcd3 takes the error after a cancellation for the connection's. The handler
          // below stays, so that this error is not an uncaught one.
          stream.end();
          stream.cancel();
          reject(error);
        };
        const dropped = (error: StoreError): void => end(error);
        /** Repeats the work, with a pause before each run. */
        const repeat = (work: () => Promise<void>, firstMs: number, pauseMs: () => number): void => {
          const schedule = (delayMs: number): void => {
            const timer = clock.setTimer(() => {
              timers = timers.filter((other) => other !== timer);
              work().then(() => {
                if (!isOver) schedule(pauseMs());
              }, end);
            }, delayMs);
            timers.push(timer);
          };
          schedule(firstMs);
        };
        const live = (): void => {
          for (const timer of timers.splice(0)) timer.cancel();
          const beatMs = (): number => this.#spread(heartbeatMs, perLeaseMs.beat);
          repeat(() => this.#beatLive(memory), beatMs(), beatMs);
          const verifyPauseMs = (): number => this.#spread(verifyMs, perLeaseMs.verify);
          // Soon after an outage: etcd may have been restored from a backup meanwhile.
          const firstMs = this.#unproved ? this.#spread(0, perLeaseMs.proof) : verifyPauseMs();
          repeat(() => this.#verify(memory), firstMs, verifyPauseMs);
          this.#isLive = true;
          this.#attempt.resolve(memory);
          this.#attempt = defer();
          this.#notify();
          onLive();
          onWake({ config: true, leases: true });
        };
        timers.push(clock.setTimer(() => end(new Error('Deadline exceeded')), timeoutMs));
        this.#endCurrent = () => end(new Error('closed'));
        session.onDrop.add(dropped);
        stream.on('error', (error: unknown) => end(error));
        stream.on('end', () => end(new Error('etcd ended the watch')));
        stream.on('data', (response: IWatchResponse) => {
          if (isOver) return;
          if (response.canceled || response.compact_revision !== '0') {
            this.#mustList ||= response.compact_revision !== '0';
            end(new Error(response.cancel_reason || 'etcd cancelled the watch'));
          } else if (response.created) {
            const { revision, cluster_id } = response.header;
            if (this.#isStrange(memory, cluster_id, revision)) end(this.#strange());
            else if (++confirmed === 2) live();
          } else if (response.events.length > 0) {
            const wake = this.#apply(memory, response);
            this.#notify();
            if (confirmed === 2) onWake(wake);
          }
        });
        // Both ranges on one stream. Each continues at the revision up to which it is complete.
        const from = (revision: string): string => String(BigInt(revision) + 1n);
        const { revision, configRevision } = memory;
        stream.write({ create_request: { key: Buffer.from(keys.config), start_revision: from(configRevision) } });
        stream.write({ create_request: { ...rangeOf(keys.subnets), start_revision: from(revision) } });
      });
    } catch (error) {
      const failure = toStoreError(about, error);
      // All changes since the memory's revision come in few messages. A list can be read in pages.
      this.#mustList ||= isTooLarge(failure);
      this.#dropIfBroken(session, failure);
      throw failure;
    }
  }

  /** Whether an etcd with this id and revision cannot be the memory's. */
  #isStrange({ clusterId, ...known }: Snapshot, answering: string, revision: string): boolean {
    return answering !== clusterId || isBefore(revision, known.revision) || isBefore(revision, known.configRevision);
  }

  #strange(): HistoryError {
    this.#mustList = true;
    return new HistoryError('it is not what it was: restored from a backup, or another etcd');
  }

  /**
   * Reads the config's revision: checks that etcd answers, and that it is the known one.
   * @throws StoreError; HistoryError if another etcd answers
   */
  async #beat(memory: Snapshot, op: string): Promise<{ readonly revision: string; readonly configAt: string }> {
    const { connection, keys } = this.#options;
    const range: IRangeRequest = { key: Buffer.from(keys.config), keys_only: true };
    const { header, kvs } = await connection.call(op, op === 'read' ? keys.config : keys.subnets, (rpc) =>
      rpc.client.kv.range(range, rpc.deadline),
    );
    if (this.#isStrange(memory, header.cluster_id, header.revision)) throw this.#strange();
    return { revision: header.revision, configAt: kvs[0]?.mod_revision ?? '0' };
  }

  async #beatLive(memory: FollowedSnapshot): Promise<void> {
    const { revision, configAt } = await this.#beat(memory, 'read');
    const isEqual = (): boolean => (memory.config?.modRevision ?? '0') === configAt;
    const isBeyond = (): boolean => isBefore(revision, memory.configRevision);
    await this.until(() => isEqual() || isBeyond(), this.#options.timeoutMs);
    if (!this.#isLive || isBeyond()) return;
    if (!isEqual()) throw this.#strange();
    memory.configRevision = revision;
  }

  /** Compares memory and etcd. @throws HistoryError if they differ, StoreError */
  async #verify(memory: FollowedSnapshot): Promise<void> {
    const { connection, keys } = this.#options;
    const before = this.#unproved;
    if (before) {
      // At that revision: later changes may belong to another history, and hide the difference.
      const then = await readDigest(connection, keys, before.revision).catch((error: unknown) => {
        // The revision that the watch went on from may be compacted away meanwhile: then nothing is left to prove it by.
        if (isCompacted(error)) return undefined;
        throw error;
      });
      if (!then || !sameDigest(before, then)) throw this.#strange();
      this.#unproved = undefined;
      return;
    }
    const now = await readDigest(connection, keys);
    const isBeyond = (): boolean => isBefore(now.revision, memory.revision);
    const isEqual = (): boolean => sameDigest(digestOf(memory), now);
    // etcd's answer may be ahead of the watch for a moment.
    await this.until(() => isBeyond() || isEqual(), this.#options.timeoutMs);
    if (!this.#isLive || isBeyond()) return;
    if (!isEqual()) throw this.#strange();
    // Complete up to this revision: earlier changes are not needed again, compacted or not.
    memory.revision = now.revision;
  }

  /** A new watch gets a new client: a token that has expired, or a restarted etcd, needs one. */
  #dropIfBroken(session: Session, failure: StoreError): void {
    if (!this.#closed) this.#options.connection.drop(session, failure);
  }

  #apply(memory: FollowedSnapshot, response: IWatchResponse): Wake {
    const { keys } = this.#options;
    const wake = { config: false, leases: false };
    for (const event of response.events) {
      const entry = toEntry(event.kv);
      const value = event.type === 'Delete' ? undefined : entry;
      if (entry.key === keys.config) {
        wake.config = true;
        memory.config = value && toWholeEntry(event.kv);
        memory.configRevision = entry.modRevision;
        continue;
      }
      wake.leases = true;
      memory.changes.add([memory.leases.get(entry.key), value]);
      if (value) memory.leases.set(entry.key, value);
      else memory.leases.delete(entry.key);
      // Not the header's: with a large backlog it is ahead of the events received.
      memory.revision = entry.modRevision;
    }
    this.#options.observer?.watchEvent(response.events.length);
    return wake;
  }
}
