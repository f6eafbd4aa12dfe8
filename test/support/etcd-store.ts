/** A store on a test's etcd, with times short enough for a test. */

import { type EtcdStoreOptions, openEtcdStore } from '../../cluster/etcd/store.ts';
import type { LeaseValue } from '../../cluster/lease.ts';
import { type NetworkConfig, parseNetworkConfig } from '../../cluster/network-config.ts';
import type { Acquired, Closable, ClusterStore, ConfigSource, LeaseRequest, Liveness } from '../../cluster/store.ts';
import type { StoreError } from '../../cluster/store-errors.ts';
import { backends } from '../../daemon/backends/map.ts';
import { parseAddress } from '../../net/address.ts';
import { parseMac } from '../../net/mac.ts';
import { systemClock } from '../lab/clock.ts';

type EtcdLeases = Required<ClusterStore>;
type Have = Extract<Acquired, { state: 'have' }>;

/** Both ports of an etcd, which have all that is optional. */
export interface TestStore {
  readonly config: Required<ConfigSource>;
  readonly leases: EtcdLeases;
  readonly liveness: Liveness;
  /** Acquires a lease. @throws Error where there is none to be had */
  claim(request: LeaseRequest): Promise<Have>;
  /** Watches config and leases, as weftd does: changes of both at one instant are one wake. */
  watch(onWake: () => void, onProblem: (error: StoreError) => void): Closable;
  close(): void;
}

export const testStore = (
  endpoints: string | readonly string[],
  options: Partial<EtcdStoreOptions> & { readonly etcdOptions?: object } = {},
): TestStore => {
  const { etcdOptions, ...others } = options;
  const stores = openEtcdStore({
    etcd: {
      endpoints: typeof endpoints === 'string' ? [endpoints] : endpoints,
      prefix: '/coreos.com/network',
      ...etcdOptions,
    },
    backends,
    clock: systemClock,
    random: Math.random,
    timeoutMs: 1000,
    heartbeatMs: 300,
    maxBackoffMs: 500,
    ...others,
  });
  const config = stores.config as Required<ConfigSource>;
  const leases = stores.leases as EtcdLeases;
  return {
    config,
    leases,
    liveness: leases.liveness,
    async claim(request) {
      const acquired = await leases.acquire(request);
      if (acquired.state !== 'have') throw new Error(acquired.why);
      return acquired;
    },
    watch(onWake, onProblem) {
      let isWoken = false;
      const wake = (): void => {
        if (isWoken) return;
        isWoken = true;
        queueMicrotask(() => {
          isWoken = false;
          onWake();
        });
      };
      const watches = [leases.watch(wake, onProblem), config.watch(wake)];
      return {
        close() {
          for (const watch of watches) watch.close();
        },
      };
    },
    close: () => leases.close(),
  };
};

/** Node number `n`: its public address is 192.0.2.n, its MAC ends in n. */
export const nodeValue = (n: number): LeaseValue & { readonly node: string } => ({
  publicAddresses: { 4: parseAddress(`192.0.2.${n}`)! },
  backendType: 'vxlan',
  backendData: { 4: { vni: 1, vtepMac: parseMac(`02:00:00:00:00:${n.toString(16).padStart(2, '0')}`)! } },
  node: `node-${n}`,
  version: '0.1.0',
});

export const testConfig: NetworkConfig = parseNetworkConfig(
  '{"Network": "10.5.0.0/16", "Backend": {"Type": "vxlan"}}',
  backends,
);

export const claimOf = (n: number, more: Partial<LeaseRequest> = {}): LeaseRequest => ({
  config: testConfig,
  value: nodeValue(n),
  ...more,
});
