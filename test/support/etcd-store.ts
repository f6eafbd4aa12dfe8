/** A store on a test's etcd, with times short enough for a test. */

import { type EtcdStoreOptions, openEtcdStore } from '../../cluster/etcd/store.ts';
import type { LeaseValue } from '../../cluster/lease.ts';
import { type NetworkConfig, parseNetworkConfig } from '../../cluster/network-config.ts';
import type { ClusterStore, SubnetClaim } from '../../cluster/store.ts';
import { parseAddress } from '../../net/address.ts';
import { parseMac } from '../../net/mac.ts';
import { systemClock } from '../lab/clock.ts';

export const testStore = (
  endpoints: string | readonly string[],
  options: Partial<EtcdStoreOptions> & { readonly etcdOptions?: object } = {},
): ClusterStore => {
  const { etcdOptions, ...others } = options;
  return openEtcdStore({
    etcd: {
      endpoints: typeof endpoints === 'string' ? [endpoints] : endpoints,
      prefix: '/coreos.com/network',
      ...etcdOptions,
    },
    clock: systemClock,
    random: Math.random,
    timeoutMs: 1000,
    heartbeatMs: 300,
    maxBackoffMs: 500,
    ...others,
  });
};

/** Node number `n`: its public address is 192.0.2.n, its MAC ends in n. */
export const nodeValue = (n: number): LeaseValue & { readonly node: string } => ({
  publicAddresses: { 4: parseAddress(`192.0.2.${n}`)! },
  backendType: 'vxlan',
  backendData: { 4: { vni: 1, vtepMac: parseMac(`02:00:00:00:00:${n.toString(16).padStart(2, '0')}`)! } },
  node: `node-${n}`,
  version: '0.1.0',
});

export const testConfig: NetworkConfig = parseNetworkConfig('{"Network": "10.5.0.0/16", "Backend": {"Type": "vxlan"}}');

export const claimOf = (n: number, more: Partial<SubnetClaim> = {}): SubnetClaim => ({
  config: testConfig,
  value: nodeValue(n),
  ...more,
});
