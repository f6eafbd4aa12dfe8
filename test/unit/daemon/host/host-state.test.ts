import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { containerLinks, defaultRoutesOf, type HostState, hostInterfaces } from '../../../../daemon/host/host-state.ts';
import { address, prefix } from '../overlay/cluster-of.ts';

const test = suite('daemon/host/host-state');

const hostOf = (
  links: readonly object[],
  addresses: readonly object[] = [],
  routes: readonly object[] = [],
): HostState =>
  ({
    links: links.map((link, i) => ({ index: i + 1, up: true, flags: 1, mtuBytes: 1500, ...link })),
    addresses: addresses.map((each) => ({ index: 1, flags: 0x80, scope: 0, ...each })),
    routes: routes.map((each) => ({ type: 1, table: 254, ...each })),
  }) as unknown as HostState;

test('which interfaces serve containers', () => {
  const host = hostOf([
    { name: 'eth0', kind: 'veth', master: 2 },
    { name: 'ext0', kind: 'bridge' },
    { name: 'vethabc', kind: 'veth', master: 4 },
    { name: 'br7', kind: 'bridge' },
    { name: 'docker0', kind: 'bridge' },
    { name: 'br-0123456789ab', kind: 'bridge' },
    { name: 'br8', kind: 'bridge' },
    { name: 'cali12345', kind: 'veth' },
    { name: 'vethernet', kind: undefined },
  ]);
  const serving = hostInterfaces(host).filter(({ servesContainers }) => servesContainers);
  assert.equal(
    serving.map(({ name }) => name),
    ['vethabc', 'br7', 'docker0', 'br-0123456789ab', 'cali12345'],
  );
  const inner = hostInterfaces(host).filter(({ isInnerBridge }) => isInnerBridge);
  assert.equal(
    inner.map(({ name }) => name),
    ['br7', 'docker0', 'br-0123456789ab', 'br8'],
    'a bridge with a port to the outside is none',
  );
});

test('containers’ packets come in by bridges and by veths of their own, not by the ports of bridges', () => {
  const host = hostOf(
    [
      { name: 'eth0', kind: undefined },
      { name: 'cni0', kind: 'bridge' },
      { name: 'vethabc', kind: 'veth', master: 2 },
      { name: 'flannel.1', kind: 'vxlan' },
      { name: 'vethptp', kind: 'veth' },
      { name: 'mine', kind: 'bridge' },
      { name: 'others', kind: 'bridge' },
    ],
    [
      { index: 6, prefix: prefix('10.1.1.1/24') },
      { index: 7, prefix: prefix('10.9.1.1/24') },
    ],
  );
  assert.equal(containerLinks(host, [prefix('10.1.1.0/24')]), ['cni0', 'vethptp', 'mine']);
  assert.equal(containerLinks(host, []), ['cni0', 'vethptp']);
});

test('a floating address comes after the others', () => {
  const addresses = ['203.0.113.7/32', '192.0.2.1/24', 'fd99::100/128', '2001:db8::1/64'].map((text) => ({
    prefix: prefix(text),
  }));
  const [eth0] = hostInterfaces(hostOf([{ name: 'eth0' }], addresses));
  assert.equal(eth0!.addresses, ['192.0.2.1', '2001:db8::1', '203.0.113.7', 'fd99::100'].map(address));
  assert.is(eth0!.networks!.length, 4);
});

test('the default routes, the lowest metric first', () => {
  const route = (oif: number, metric: number, gateway: string) => ({
    family: 4,
    destination: prefix('0.0.0.0/0'),
    oif,
    metric,
    gateway: address(gateway),
  });
  const host = hostOf([], [], [route(2, 100, '192.0.2.254'), route(9, 5, '169.254.0.1')]);
  assert.equal(
    defaultRoutesOf(host, 4).map(({ index, gateway }) => [index, gateway]),
    [
      [9, address('169.254.0.1')],
      [2, address('192.0.2.254')],
    ],
  );
});

test.run();
