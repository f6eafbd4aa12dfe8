import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import type { HostState } from '../../../../daemon/host/host-state.ts';
import { hostsOf, type Lifeline, resolverLifelines, surroundingsOf } from '../../../../daemon/host/surroundings.ts';
import { addressKey, formatAddress } from '../../../../net/address.ts';
import { formatPrefix } from '../../../../net/prefix.ts';
import { address, prefix } from '../overlay/cluster-of.ts';

const test = suite('daemon/host/surroundings');

const texts = (lifelines: readonly Lifeline[]) =>
  lifelines.map(({ address: each, what }) => `${formatAddress(each)} ${what}`);

test('the interfaces’ networks, the default gateways and the addresses, without tunnel devices', () => {
  const links = ['lo', 'eth0', 'docker0', 'flannel.1'].map((name, i) => ({ index: i + 1, name }));
  const route = (destination: string, oif: number, more = {}) => ({
    family: 4,
    destination: prefix(destination),
    oif,
    type: 1,
    protocol: 2,
    ...more,
  });
  const host = {
    links,
    addresses: [
      { index: 2, prefix: prefix('192.0.2.1/24') },
      { index: 4, local: address('10.1.1.0'), prefix: prefix('10.1.9.9/32') },
    ],
    routes: [
      route('0.0.0.0/0', 2, { gateway: address('192.0.2.254'), protocol: 3 }),
      route('192.0.2.0/24', 2),
      route('172.17.0.0/16', 3),
      route('198.51.100.0/24', 3, { protocol: 16 }),
      route('203.0.113.0/24', 3, { protocol: 16, gateway: address('192.0.2.9') }),
      route('10.1.7.0/24', 4),
      route('10.1.8.0/24', 2, { protocol: 3 }),
      route('10.1.9.0/24', 2, { type: 6 }),
    ],
  } as unknown as HostState;
  const { ownAddresses, networks, lifelines } = surroundingsOf(host, resolverLifelines('nameserver 10.1.0.53\n'));
  assert.equal([...ownAddresses], [address('192.0.2.1'), address('10.1.1.0')].map(addressKey));
  assert.equal(
    networks.map((each) => `${formatPrefix(each.prefix)} ${each.device}`),
    ['192.0.2.0/24 eth0', '172.17.0.0/16 docker0', '198.51.100.0/24 docker0'],
  );
  assert.equal(texts(lifelines), ['192.0.2.254 the default gateway', '10.1.0.53 a name server']);
});

test('the hosts of endpoints, and name servers', () => {
  const endpoints = ['http://10.0.0.1:2379', 'https://[fd00::1]:2379/', 'https://etcd.example:2379', '10.0.0.2', ''];
  const { addresses, names } = hostsOf([...endpoints, 'http://etcd.example:2380']);
  assert.equal(addresses.map(formatAddress), ['10.0.0.1', 'fd00::1', '10.0.0.2']);
  assert.equal(names, ['etcd.example']);
  const text =
    '# nameserver 10.0.0.9\n nameserver\t10.0.0.1 \nnameserver fe80::1%eth0\nsearch a b\nnameserver fd00::53';
  assert.equal(texts(resolverLifelines(text)), ['10.0.0.1 a name server', 'fd00::53 a name server']);
});

test.run();
