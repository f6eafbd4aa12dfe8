import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { subnetUse } from '../../../../daemon/host/former-subnets.ts';
import type { InterfaceAddress } from '../../../../linux/netlink/address.ts';
import type { Link } from '../../../../linux/netlink/link.ts';
import type { Attachment } from '../../../../reservations/attachments.ts';
import { address, mac, prefix } from '../overlay/cluster-of.ts';

const test = suite('daemon/host/former-subnets');

const link = (index: number, name: string, more: Partial<Link> = {}): Link =>
  ({ index, name, kind: 'bridge', up: true, flags: 0, mtuBytes: 1500, ...more }) as Link;
const port = (index: number, master: number, more: Partial<Link> = {}): Link =>
  link(index, `veth${index}`, { kind: 'veth', master, alias: `weft weft c${index} eth0`, ...more });
const on = (index: number, text: string): InterfaceAddress => ({ index, prefix: prefix(text), scope: 0, flags: 0 });
const attachment = (addresses: string[], host: number | 'missing'): Attachment => ({
  network: 'weft',
  containerId: `c${host}`,
  ifname: 'eth0',
  addresses: addresses.map(address),
  host: host === 'missing' ? host : { index: host, name: `veth${host}`, mac: mac(1), up: true, alias: '' },
});

const former = [prefix('10.1.8.0/24'), prefix('fd00:8::/64')];
const cni0 = link(5, 'cni0');
const gateways = [on(5, '10.1.8.1/24'), on(5, 'fd00:8::1/64')];
const use = (links: Link[], addresses: InterfaceAddress[], attachments: Attachment[] = []): string => {
  const found = subnetUse({ links, addresses }, attachments, former);
  if (found.by === 'containers') return `containers ${found.count}`;
  return found.by === 'interface' ? `interface ${found.held.device}` : `nobody ${found.gateways.length}`;
};

test('a reserved address keeps the subnet; without one, the bridge’s gateways of both families are left over', () => {
  assert.is(use([cni0], gateways), 'nobody 2');
  assert.is(use([cni0], []), 'nobody 0');
  assert.is(use([cni0], gateways, [attachment(['10.1.8.7'], 'missing')]), 'containers 1');
  assert.is(use([cni0], gateways, [attachment(['fd00:8::7'], 7)]), 'containers 1');
});

test('containers of other subnets on the same bridge do not keep it', () => {
  const [current, mine] = [on(5, '10.2.1.1/24'), attachment(['10.2.1.9'], 7)];
  assert.is(use([cni0, port(7, 5)], [...gateways, current], [mine]), 'nobody 2');
  // flannel's plugins name the ports by chance.
  const flannels = port(8, 5, { alias: '' });
  assert.is(use([cni0, flannels], gateways, [attachment(['10.2.1.10'], 'missing')]), 'nobody 2');
});

test('a port whose addresses nobody knows keeps it', () => {
  assert.is(use([cni0, port(7, 5)], gateways), 'interface cni0', 'reserved in another folder');
  assert.is(use([cni0, port(7, 5)], gateways, [attachment([], 7)]), 'interface cni0', 'by another IPAM plugin');
  const flannels = [port(8, 5, { alias: '' }), port(9, 5, { alias: '' })];
  assert.is(use([cni0, ...flannels], gateways, [attachment(['10.2.1.10'], 'missing')]), 'interface cni0');
  assert.is(
    use([cni0, port(7, 5, { kind: 'vlan', alias: '' })], gateways, [attachment(['10.2.1.1'], 'missing')]),
    'interface cni0',
  );
});

test('an address that the plugins have not made keeps it', () => {
  assert.is(use([cni0], [on(5, '10.1.8.2/24')]), 'interface cni0', 'another address than the gateway');
  assert.is(use([cni0], [on(5, '10.1.8.1/16')]), 'interface cni0');
  for (const name of ['docker0', 'br-0123456789ab']) assert.is(use([link(5, name)], gateways), `interface ${name}`);
  assert.is(use([link(5, 'eth1', { kind: 'dummy' })], gateways), 'interface eth1');
  assert.is(use([link(5, 'flannel.1', { kind: 'vxlan' })], [on(5, '10.1.8.0/32')]), 'nobody 0', 'the tunnel’s own');
});

test.run();
