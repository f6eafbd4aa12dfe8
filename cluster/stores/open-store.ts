/** Opens the store that a cluster has. Its library is loaded here, and only then. */

import type { BackendFormats } from '../backend-format.ts';
import type { Clock, Random } from '../clock.ts';
import type { EtcdEndpoints } from '../etcd/options.ts';
import type { Stores } from '../store.ts';
import type { StoreObserver } from '../store-observer.ts';

export interface StoreOptions {
  /** Where the store is; etcd is the only kind so far. */
  readonly etcd: EtcdEndpoints;
  /** The backends whose data in leases is read and written. */
  readonly backends: BackendFormats;
  readonly clock: Clock;
  readonly random: Random;
  readonly observer?: StoreObserver;
  /** Absent: as long as flannel's. */
  readonly leaseTtlSeconds?: number | undefined;
  /** The deadline of each call. */
  readonly timeoutMs?: number | undefined;
  /** How often a watch checks that it is alive. */
  readonly heartbeatMs?: number | undefined;
}

/** Nothing is contacted before the first call. */
export async function openStore(options: StoreOptions): Promise<Stores> {
  const { openEtcdStore } = await import('../etcd/store.ts');
  return openEtcdStore(options);
}
