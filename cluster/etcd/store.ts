/** The cluster's shared state in etcd, v3 API. Tested against a real etcd 3.4. */

import type { BackendFormats } from '../backend-format.ts';
import type { Clock, Random } from '../clock.ts';
import type { Lease, LeaseValue, OwnLease } from '../lease.ts';
import type {
  Acquired,
  Closable,
  ClusterStore,
  Known,
  LeaseList,
  LeaseMemoryFormat,
  LeaseRequest,
  Liveness,
  StoreHealth,
  Stores,
  Updated,
} from '../store.ts';
import type { StoreError } from '../store-errors.ts';
import type { StoreObserver } from '../store-observer.ts';
import { EtcdCalls } from './calls.ts';
import { Claim, type ClaimOptions } from './claim.ts';
import { EtcdConfigSource } from './config-source.ts';
import { EtcdConnection } from './connection.ts';
import { handleOf } from './handle.ts';
import { defaultPrefix, keysBelow, rightsBelow } from './keys.ts';
import { formatLeaseMemory, parseLeaseMemory } from './lease-memory.ts';
import { LeaseReader } from './lease-reader.ts';
import { LeaseWriter } from './lease-writer.ts';
import { EtcdLiveness } from './liveness.ts';
import { EtcdMark } from './mark.ts';
import type { EtcdEndpoints } from './options.ts';
import { EtcdReader, markOf } from './reader.ts';

export interface EtcdStoreOptions {
  readonly etcd: EtcdEndpoints;
  /** The backends whose data in leases is read and written. */
  readonly backends: BackendFormats;
  readonly clock: Clock;
  readonly random: Random;
  /** Life of a subnet lease; flannel's 24 h. */
  readonly leaseTtlSeconds?: number | undefined;
  /** Life of a node's record. */
  readonly nodeTtlSeconds?: number | undefined;
  /** The deadline of each call. */
  readonly timeoutMs?: number | undefined;
  /** How often a watch checks that its endpoint answers. */
  readonly heartbeatMs?: number | undefined;
  /** How often a watch compares its memory with etcd. */
  readonly verifyMs?: number | undefined;
  readonly maxBackoffMs?: number | undefined;
  readonly observer?: StoreObserver | undefined;
}

/** Nothing is contacted before the first call. */
export function openEtcdStore(options: EtcdStoreOptions): Stores {
  const { etcd, backends, clock, random, observer } = options;
  const { leaseTtlSeconds = 86_400, nodeTtlSeconds = 30, timeoutMs = 5000 } = options;
  const { heartbeatMs = 5000, verifyMs = 60_000, maxBackoffMs = 5000 } = options;
  const keys = keysBelow(etcd.prefix);
  const rights = rightsBelow(keys);
  const endpoint = etcd.endpoints.join(', ');
  const connection = new EtcdConnection({ etcd, clock, random, timeoutMs, observer });
  const calls = new EtcdCalls(connection);
  const watch = { clock, random, heartbeatMs, verifyMs, timeoutMs, maxBackoffMs, observer };
  const reader = new EtcdReader({ connection, keys, watch });
  const parser = new LeaseReader(keys, backends);
  const right = rights.writeLeases;
  const liveness = new EtcdLiveness({ connection, calls, keys, rights, nodeTtlSeconds });
  const writer = new LeaseWriter({
    calls,
    reader,
    parser,
    liveness,
    right,
    backends,
    clock,
    leaseTtlSeconds,
    endpoint,
  });
  return {
    config: new EtcdConfigSource(calls, reader, rights),
    leases: new EtcdStore(
      { calls, reader, parser, writer, liveness, keys, backends, clock, random, leaseTtlSeconds, endpoint },
      connection,
      {
        memory: {
          format: (memory) => formatLeaseMemory(memory, keys.prefix, backends),
          parse: (text) => parseLeaseMemory(text, keys, backends),
        },
        liveness,
      },
    ),
  };
}

class EtcdStore implements ClusterStore {
  readonly kind = 'etcd';
  readonly memory: LeaseMemoryFormat;
  readonly liveness: Liveness;
  readonly #parts: ClaimOptions;
  readonly #connection: EtcdConnection;

  constructor(
    parts: ClaimOptions,
    connection: EtcdConnection,
    { memory, liveness }: Required<Pick<ClusterStore, 'memory' | 'liveness'>>,
  ) {
    this.#parts = parts;
    this.#connection = connection;
    this.memory = memory;
    this.liveness = liveness;
  }

  get place(): string {
    return this.#parts.keys.prefix;
  }

  get scope(): string | undefined {
    return this.place === defaultPrefix ? undefined : this.place;
  }

  async list({ mark, promised }: Known = {}): Promise<LeaseList> {
    const { reader, parser } = this.#parts;
    const snapshot = await reader.snapshot();
    const now = markOf(snapshot);
    const isSame = !(mark instanceof EtcdMark) || mark.leadsTo(now);
    // A promised lease can be missing because somebody has deleted it, and perhaps all others with it: nothing is lost then.
    const isFollowed = mark instanceof EtcdMark && mark.isFollowedTo(now);
    const isThere = isFollowed || promised === undefined || snapshot.leases.has(promised);
    return { ...parser.read(snapshot), continuity: isSame && isThere ? 'same' : 'lost', mark: now };
  }

  watch(onWake: () => void, onProblem?: (error: StoreError) => void): Closable {
    return this.#parts.reader.follow({ of: 'leases', onWake, ...(onProblem ? { onProblem } : {}) });
  }

  acquire(request: LeaseRequest): Promise<Acquired> {
    return new Claim(this.#parts, request).run();
  }

  holds(own: OwnLease, listed: Lease): boolean {
    return own.ownerId === listed.ownerId && handleOf(own).etcdLease === handleOf(listed).etcdLease;
  }

  update(own: OwnLease, value: LeaseValue, insists = false): Promise<Updated> {
    return this.#parts.writer.update(own, value, insists);
  }

  /** Every write of a lease gives it another life. */
  keepAlive(own: OwnLease, value: LeaseValue, insists = false): Promise<Updated> {
    return this.update(own, value, insists);
  }

  release(lease: Lease): Promise<boolean> {
    return this.#parts.writer.release(lease);
  }

  health(): StoreHealth {
    return this.#connection.health();
  }

  reconnect(): void {
    this.#connection.reconnect();
  }

  close(): void {
    this.#parts.reader.close();
    this.#connection.close();
  }
}
