/**
 * Every format that Weft shares with flannel, against what flanneld v0.28.9 wrote: for each configuration in
 * test/fixtures/flannel/records.json its etcd key, the value, and subnet.env, byte for byte, read and written.
 */

import { readFileSync } from 'node:fs';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { defaultPrefix, keysBelow } from '../../../cluster/etcd/keys.ts';
import { formatLeaseKey, parseLeaseKey } from '../../../cluster/etcd/lease-key.ts';
import { formatLeaseValue, parseLeaseValue } from '../../../cluster/lease.ts';
import { backendName, families, isCompatible, parseNetworkConfig, valuesOf } from '../../../cluster/network-config.ts';
import { chooseSubnet } from '../../../cluster/subnet-choice.ts';
import { backends } from '../../../daemon/backends/map.ts';
import type { VxlanConfig, VxlanLeaseData } from '../../../daemon/backends/vxlan.ts';
import { formatAddress } from '../../../net/address.ts';
import { formatSubnetEnv, parseSubnetEnv } from '../../../net/node-file.ts';
import { formatPrefix } from '../../../net/prefix.ts';

interface FlannelRecord {
  readonly name: string;
  /** What stood at `<prefix>/config`. */
  readonly config: string;
  /** Further arguments of flanneld's. */
  readonly arguments: readonly string[];
  /** What it wrote to etcd, and to subnet.env. */
  readonly key: string;
  readonly value: string;
  readonly subnetEnv: string;
  /** Its devices, each with its address. */
  readonly devices: Readonly<Record<string, string>>;
}

const { records } = JSON.parse(
  readFileSync(new URL('../../fixtures/flannel/records.json', import.meta.url), 'utf8'),
) as { records: readonly FlannelRecord[] };

const test = suite('flannel’s formats');
const keys = keysBelow(defaultPrefix);

for (const record of records) {
  test(`${record.name}: key, value and subnet.env are read, and written, to the byte`, () => {
    const subnets = parseLeaseKey(keys, record.key);
    assert.is(formatLeaseKey(keys, subnets), record.key);
    const { extra, ...value } = parseLeaseValue(record.value, backends);
    assert.equal(extra, {});
    assert.is(value.node, undefined);
    assert.is(formatLeaseValue(value, backends, extra), record.value);
    const network = parseSubnetEnv(record.subnetEnv);
    assert.equal(network.subnets.map(formatPrefix), valuesOf(subnets).map(formatPrefix));
    assert.is(network.ipMasq, record.arguments.includes('--ip-masq'));
    assert.is(formatSubnetEnv(network), record.subnetEnv);
  });

  test(`${record.name}: the config means here what it meant to flanneld`, () => {
    const config = parseNetworkConfig(record.config, backends);
    const subnets = parseLeaseKey(keys, record.key);
    const value = parseLeaseValue(record.value, backends);
    assert.is(backendName(config.backend), value.backendType);
    assert.ok(isCompatible(config, subnets), 'the subnet that it took may be taken');
    assert.equal(
      valuesOf(config.networks).map(({ network }) => formatPrefix(network)),
      parseSubnetEnv(record.subnetEnv).networks.map(formatPrefix),
    );
    for (const family of families) {
      assert.is(config.networks[family] !== undefined, value.publicAddresses[family] !== undefined);
      const isVxlan = config.backend.type === 'vxlan' && config.networks[family] !== undefined;
      const data = value.backendData[family] as VxlanLeaseData | undefined;
      assert.is(data?.vni, isVxlan ? (config.backend as VxlanConfig).vni : undefined);
    }
    // A Weft of the same host keeps the lease.
    const place = { ownerId: record.key, subnets, reservation: false, ofFlannel: true };
    const lease = { ...value, ...place, seniority: '1', handle: undefined };
    const choice = chooseSubnet({ config, value: { ...value, node: 'h' } }, [lease], [subnets], () => 0);
    assert.is(choice.how, 'kept');
  });

  test(`${record.name}: the address of a tunnel's device is its subnet's first`, () => {
    const subnets = valuesOf(parseLeaseKey(keys, record.key));
    const firsts = subnets.map(({ address }) => `${formatAddress(address)}/${address.family === 4 ? 32 : 128}`);
    for (const address of Object.values(record.devices)) assert.ok(firsts.includes(address), address);
  });
}

test('every mode is there', () => {
  const modes = records.map(({ value, devices }) => {
    const { publicAddresses, backendType } = parseLeaseValue(value, backends);
    return [backendType, ...Object.keys(publicAddresses), ...Object.keys(devices)].join(' ');
  });
  for (const mode of [
    'vxlan 4 flannel.1',
    'vxlan 4 6 flannel.1 flannel-v6.1',
    'vxlan 6 flannel-v6.1',
    'vxlan 4 flannel.7',
    'host-gw 4',
    'host-gw 4 6',
  ]) {
    assert.ok(modes.includes(mode), mode);
  }
});

test('Weft’s own value is flannel’s with one key more, which flannel ignores', () => {
  const [record] = records;
  const value = { ...parseLeaseValue(record!.value, backends), node: 'host1', version: '0.1.0' };
  assert.is(
    formatLeaseValue(value, backends),
    `${record!.value.slice(0, -1)},"Weft":{"node":"host1","version":"0.1.0"}}`,
  );
});

test.run();
