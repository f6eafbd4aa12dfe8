/** Opens the store that a cluster has. Its library is loaded here, and only then. */

import type { BackendFormats } from '../backend-format.ts';
import type { Clock, Random } from '../clock.ts';
import type { EtcdEndpoints } from '../etcd/options.ts';
import type { KubernetesOptions } from '../kubernetes/options.ts';
import type { Stores } from '../store.ts';
import type { StoreObserver } from '../store-observer.ts';

/** Where the store is. */
export type StorePlace =
  | { readonly etcd: EtcdEndpoints; readonly kubernetes?: undefined }
  | {
      readonly kubernetes: KubernetesOptions;
      /** The name of this host's Node. */
      readonly node: string;
      /** Of the process: a pod finds the API server in it. */
      readonly environment: Readonly<Record<string, string | undefined>>;
    };

export type StoreOptions = StorePlace & {
  /** The backends whose data in leases is read and written. */
  readonly backends: BackendFormats;
  readonly clock: Clock;
  readonly random: Random;
  readonly observer?: StoreObserver;
  /** Absent: as long as flannel's. */
  readonly leaseTtlSeconds?: number | undefined;
  /** The deadline of each call. */
  readonly timeoutMs?: number | undefined;
  /** How often a watch of etcd checks that it is alive. */
  readonly heartbeatMs?: number | undefined;
  /** How long a watch of Kubernetes may be silent. */
  readonly silenceMs?: number | undefined;
};

/** The name that this host has in the store, if the store can tell; undefined if not. @throws StoreError */
export async function findNodeName(
  options: Pick<StoreOptions, 'clock' | 'timeoutMs'> & {
    readonly kubernetes: KubernetesOptions | undefined;
    readonly environment: Readonly<Record<string, string | undefined>>;
  },
): Promise<string | undefined> {
  const { kubernetes } = options;
  if (!kubernetes) return undefined;
  const { findNodeOfPod } = await import('../kubernetes/own-pod.ts');
  return await findNodeOfPod({ ...options, kubernetes });
}

/** Nothing is contacted before the first call. */
export async function openStore(options: StoreOptions): Promise<Stores> {
  if (options.kubernetes) {
    const { openKubernetesStore } = await import('../kubernetes/store.ts');
    return openKubernetesStore(options);
  }
  const { openEtcdStore } = await import('../etcd/store.ts');
  return openEtcdStore(options);
}
