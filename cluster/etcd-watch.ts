/**
 * Follows config and leases: one snapshot, then the changes after it, kept in memory; and tells when something may have
 * changed. After any loss it starts over with a new snapshot, so compaction while it was away cannot matter.
 *
 * The memory is what keeps a thousand nodes from asking etcd for a thousand leases each whenever one of them changes.
 */

import type { IKeyValue, IRangeRequest, ITxnResponse, IWatchResponse } from 'etcd3';
import type { Clock, Random, Timer } from './clock.ts';
import { type EtcdConnection, reconnectOp, type Session, untilDropped } from './etcd-connection.ts';
import { isDenied, toEtcdError } from './etcd-errors.ts';
import type { EtcdObserver } from './etcd-observer.ts';
import { type Keys, type Right, rightsBelow } from './keys.ts';
import type { Lease } from './lease.ts';
import { type Closable, EtcdError, type MalformedEntry } from './store.ts';

/** A key with its value, as text. */
export interface Entry {
  readonly key: string;
  readonly value: string;
  readonly modRevision: string;
  readonly createRevision: string;
  /** Id of the etcd lease; '0' for none. */
  readonly etcdLease: string;
  /** What it says, once somebody has read it. */
  parsed?: Lease | MalformedEntry;
}

/** What config and leases were at a revision. */
export interface Snapshot {
  readonly config: Entry | undefined;
  /** Below `subnets/`, by key. */
  readonly leases: ReadonlyMap<string, Entry>;
  readonly revision: string;
  /** etcd's number for itself; a restored or a new one has another. */
  readonly clusterId: string;
  /** What has changed in `leases` since they were read, or since this was emptied: each before and after. */
  readonly changes?: (readonly [was: Entry | undefined, is: Entry | undefined])[];
}

export const toEntry = (kv: IKeyValue): Entry => ({
  key: kv.key.toString('utf8'),
  value: kv.value.toString('utf8'),
  modRevision: kv.mod_revision,
  createRevision: kv.create_revision,
  etcdLease: kv.lease,
});

/** The range of all keys that begin with the text, as etcd's `range_end` wants it. */
export function rangeOf(prefix: string): { key: Buffer; range_end: Buffer } {
  const end = Buffer.from(prefix);
  // The prefixes here end in a slash, so the last byte never overflows.
  end[end.length - 1]! += 1;
  return { key: Buffer.from(prefix), range_end: end };
}

export interface WatchOptions {
  readonly connection: EtcdConnection;
  readonly keys: Keys;
  readonly clock: Clock;
  readonly random: Random;
  /** How often the endpoint is asked whether it still answers and has a leader. */
  readonly heartbeatMs: number;
  readonly timeoutMs: number;
  /** Longest pause between two attempts. */
  readonly maxBackoffMs: number;
  readonly onWake: () => void;
  readonly onProblem: (error: EtcdError) => void;
  readonly observer?: EtcdObserver | undefined;
}

const firstBackoffMs = 100;
/** A watch that lived this long was sound: the next loss begins with a short pause again. */
const soundAfterMs = 5000;

/** Config and all leases, of one revision. */
export async function readSnapshot(connection: EtcdConnection, keys: Keys): Promise<Snapshot> {
  const ranges = [{ key: Buffer.from(keys.config) }, rangeOf(keys.subnets)] as const;
  const success = ranges.map((range) => ({ request_range: range }));
  let response: ITxnResponse;
  try {
    response = await connection.call('list the leases', keys.subnets, ({ client, deadline }) =>
      client.kv.txn({ success }, deadline),
    );
  } catch (error) {
    if (!isDenied(error)) throw error;
    // etcd does not say which of the two it refuses: asked for one by one, it does.
    const { readConfig, readLeases } = rightsBelow(keys);
    const ask = (op: string, right: Right, range: IRangeRequest): Promise<unknown> =>
      connection.call(op, right.key, ({ client, deadline }) => client.kv.range(range, deadline), right);
    await ask('read the network config', readConfig, { ...ranges[0], count_only: true });
    await ask('list the leases', readLeases, { ...ranges[1], count_only: true });
    throw error;
  }
  const [config, leases] = response.responses.map((part) => part.response_range.kvs.map(toEntry));
  return {
    config: config?.[0],
    leases: new Map((leases ?? []).map((entry) => [entry.key, entry])),
    revision: response.header.revision,
    clusterId: response.header.cluster_id,
  };
}

interface FollowedSnapshot extends Snapshot {
  config: Entry | undefined;
  readonly leases: Map<string, Entry>;
  readonly changes: (readonly [was: Entry | undefined, is: Entry | undefined])[];
  revision: string;
}

export class EtcdWatch implements Closable {
  readonly #options: WatchOptions;
  #closed = false;
  #snapshot: FollowedSnapshot | undefined;
  #endCurrent: (() => void) | undefined;
  #pause: { timer: Timer; end: () => void } | undefined;

  constructor(options: WatchOptions) {
    this.#options = options;
    void this.#run();
  }

  /** What the watch knows, while it is in contact; undefined otherwise. */
  current(): Snapshot | undefined {
    return this.#snapshot;
  }

  close(): void {
    this.#closed = true;
    this.#endCurrent?.();
    this.#pause?.timer.cancel();
    this.#pause?.end();
  }

  async #run(): Promise<void> {
    const { clock, random, maxBackoffMs, onProblem, observer } = this.#options;
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
        if (this.#closed) return;
        const isWanted = error instanceof EtcdError && error.op === reconnectOp;
        if (!reported && !isWanted && error instanceof EtcdError) onProblem(error);
        reported ||= !isWanted;
      }
      this.#snapshot = undefined;
      if (this.#closed) return;
      if (startedMs !== Number.POSITIVE_INFINITY) observer?.watchResync();
      if (clock.nowMs() - startedMs >= soundAfterMs) failures = 0;
      // Jitter over half the pause: the nodes of a cluster lose etcd at the same instant, and must not return at one.
      const pauseMs = Math.min(firstBackoffMs * 2 ** failures++, maxBackoffMs) * (0.5 + random() / 2);
      await new Promise<void>((resolve) => {
        this.#pause = { timer: clock.setTimer(resolve, pauseMs), end: resolve };
      });
      this.#pause = undefined;
    }
  }

  /** One watch, from its snapshot to its end. Returns by throwing. `onLive` is called once it stands. */
  async #follow(onLive: () => void): Promise<never> {
    const { connection, keys, clock, heartbeatMs, timeoutMs, onWake } = this.#options;
    const read = await readSnapshot(connection, keys);
    const session = await connection.session();
    const snapshot = { ...read, leases: new Map(read.leases), changes: [] };
    const about = { op: 'watch', key: keys.subnets, endpoint: session.endpoint };
    try {
      // No deadline: the stream is meant to last. Its being alive is the heartbeat's to find out.
      const stream = await untilDropped(session, () => session.client.watchClient.watch());
      return await new Promise<never>((_resolve, reject) => {
        let confirmed = 0;
        let timer: Timer | undefined;
        const end = (error: unknown): void => {
          if (!timer) return;
          timer.cancel();
          timer = undefined;
          this.#endCurrent = undefined;
          session.onDrop.delete(dropped);
          // Ended first: etcd3 takes the error that follows a cancellation for the connection's otherwise. The handler
          // below stays, so that this error is not an uncaught one.
          stream.end();
          stream.cancel();
          reject(error);
        };
        const dropped = (error: EtcdError): void => end(error);
        const beat = (): void => {
          connection
            .call('read', keys.config, ({ client, deadline }) =>
              client.kv.range({ key: Buffer.from(keys.config), count_only: true }, deadline),
            )
            .then(
              () => {
                if (timer) timer = clock.setTimer(beat, heartbeatMs);
              },
              (error) => end(error),
            );
        };
        timer = clock.setTimer(() => end(new Error('Deadline exceeded')), timeoutMs);
        this.#endCurrent = () => end(new Error('closed'));
        session.onDrop.add(dropped);
        stream.on('error', (error: unknown) => end(error));
        stream.on('end', () => end(new Error('etcd ended the watch')));
        stream.on('data', (response: IWatchResponse) => {
          if (!timer) return;
          if (response.canceled || response.compact_revision !== '0') {
            end(new Error(response.cancel_reason || 'etcd cancelled the watch'));
          } else if (response.created) {
            confirmed++;
            if (confirmed < 2) return;
            timer.cancel();
            timer = clock.setTimer(beat, heartbeatMs);
            this.#snapshot = snapshot;
            onLive();
            onWake();
          } else if (this.#apply(snapshot, response) && confirmed === 2) {
            onWake();
          }
        });
        // Both ranges on one stream, so that a revision is complete when its response is here.
        const start_revision = String(BigInt(snapshot.revision) + 1n);
        stream.write({ create_request: { key: Buffer.from(keys.config), start_revision } });
        stream.write({ create_request: { ...rangeOf(keys.subnets), start_revision } });
      });
    } catch (error) {
      const failure = toEtcdError(about, error);
      this.#dropIfBroken(session, failure);
      throw failure;
    }
  }

  /** A new watch gets a new client: a token that has expired, or a restarted etcd, needs one. */
  #dropIfBroken(session: Session, failure: EtcdError): void {
    if (!this.#closed) this.#options.connection.drop(session, failure);
  }

  #apply(snapshot: FollowedSnapshot, response: IWatchResponse): boolean {
    const { keys } = this.#options;
    for (const event of response.events) {
      const entry = toEntry(event.kv);
      const value = event.type === 'Delete' ? undefined : entry;
      if (entry.key === keys.config) {
        snapshot.config = value;
        continue;
      }
      snapshot.changes.push([snapshot.leases.get(entry.key), value]);
      if (value) snapshot.leases.set(entry.key, value);
      else snapshot.leases.delete(entry.key);
    }
    if (response.events.length > 0) this.#options.observer?.watchEvent(response.events.length);
    if (BigInt(response.header.revision) > BigInt(snapshot.revision)) snapshot.revision = response.header.revision;
    return response.events.length > 0;
  }
}
