/**
 * rtnetlink against this machine's kernel, in namespaces of its own; `ip` and `bridge` show what came of it. As root.
 * @guest
 */

import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import type { NetlinkError } from '../../linux/errors.ts';
import { deleteAddress, dumpAddresses, newAddress } from '../../linux/netlink/address.ts';
import { openNetlink } from '../../linux/netlink/connection.ts';
import {
  changeLink,
  createBridge,
  createVeth,
  deleteLink,
  dumpLinks,
  getLink,
  getLinkIndex,
  type Link,
} from '../../linux/netlink/link.ts';
import {
  deleteFdbEntry,
  deleteNeighbour,
  dumpFdb,
  dumpNeighbours,
  newFdbEntry,
  newNeighbour,
} from '../../linux/netlink/neighbour.ts';
import { deleteRoute, dumpRoutes, lookupRoute, newRoute } from '../../linux/netlink/route.ts';
import { createTunnel, tunnelOf } from '../../linux/netlink/tunnel.ts';
import type { VxlanData } from '../../linux/netlink/vxlan.ts';
import { sys } from '../../linux/sys-bun.ts';
import { formatAddress } from '../../net/address.ts';
import { formatMac } from '../../net/mac.ts';
import { formatPrefix } from '../../net/prefix.ts';
import { fixture } from '../support/fixture.ts';
import { address, linkOf, mac, NetlinkPair, prefix, show, showOne } from './netlink-pair.ts';

const test = suite('netlink');
const hosts = fixture(
  test,
  () => new NetlinkPair('kernel'),
  (made) => made.remove(),
);
const bridge = (): Link => hosts().bridge();

test('a bridge is created with name, MAC, MTU and state', () => {
  const link = bridge();
  const shown = showOne(hosts().hostName, 'ip', 'link', 'show', 'br0');
  assert.is(shown.linkinfo.info_kind, 'bridge');
  assert.is(shown.address, '02:00:00:00:00:01');
  assert.is(shown.mtu, 1450);
  assert.ok(shown.flags.includes('UP'));
  assert.is(link.index, shown.ifindex);
  assert.is(link.kind, 'bridge');
  assert.ok(link.up);
});

test('one batch creates a veth pair across namespaces, with port, hairpin, isolated and alias', () => {
  const { host, pod, hostName, podName, podFd } = hosts();
  host.execute([
    createVeth({
      name: 'v0',
      mac: mac(2),
      mtuBytes: 1450,
      master: bridge().index,
      up: true,
      peer: { name: 'eth0', mac: mac(3), mtuBytes: 1450, namespace: podFd },
    }),
    changeLink({ name: 'v0' }, { alias: 'weft net 123 eth0', bridgePort: { hairpin: true, isolated: true } }),
  ]);
  const peer = linkOf(pod, 'eth0');
  const link = linkOf(host, 'v0');
  assert.is(link.peerIndex, peer.index);
  assert.is(peer.peerIndex, link.index);
  assert.is(link.alias, 'weft net 123 eth0');
  const shown = showOne(hostName, 'ip', 'link', 'show', 'v0');
  assert.is(shown.master, 'br0');
  assert.is(shown.ifalias, 'weft net 123 eth0');
  assert.is(shown.linkinfo.info_slave_data.hairpin, true);
  assert.is(shown.linkinfo.info_slave_data.isolated, true);
  assert.equal({ ...link.bridgePort, state: 0 }, { state: 0, hairpin: true, learning: true, isolated: true });
  const inside = showOne(podName, 'ip', 'link', 'show', 'eth0');
  assert.is(inside.address, '02:00:00:00:00:03');
  assert.is(inside.mtu, 1450);
  assert.not(peer.up);
  // The kernel gives a pair a queue for each processor otherwise, and then uses one of them.
  for (const end of [shown, inside]) assert.equal([end.num_tx_queues, end.num_rx_queues], [1, 1]);
  host.execute([changeLink({ index: link.index }, { bridgePort: { hairpin: false } })]);
  const { bridgePort } = linkOf(host, 'v0');
  assert.equal([bridgePort?.hairpin, bridgePort?.isolated], [false, true]);
});

test('a change of a link changes only the given attributes, and links are found by kind and master', () => {
  const { host, pod } = hosts();
  const { index } = linkOf(pod, 'eth0');
  pod.execute([changeLink({ index }, { name: 'net1', mtuBytes: 1400, mac: mac(9), promiscuous: true })]);
  const link = linkOf(pod, 'net1');
  assert.equal([link.mtuBytes, formatMac(link.mac!), link.up], [1400, '02:00:00:00:00:09', false]);
  assert.ok(link.flags & 0x100);
  pod.execute([changeLink({ name: 'net1' }, { up: true, promiscuous: false, mtuBytes: 1450 })]);
  pod.execute([changeLink({ name: 'net1' }, { up: false }), changeLink({ index }, { name: 'eth0', up: true })]);
  assert.ok(linkOf(pod, 'eth0').up);
  const names = (links: Link[]): string[] => links.map(({ name }) => name).sort();
  const br = bridge().index;
  assert.equal(names(host.dump(dumpLinks({ kind: 'veth' }))), ['v0']);
  assert.equal(names(host.dump(dumpLinks({ master: br }))), ['v0']);
  assert.equal(names(host.dump(dumpLinks())).slice(0, 2), ['br0', 'lo']);
  host.execute([changeLink({ name: 'v0' }, { master: 0 })]);
  assert.equal(host.dump(dumpLinks({ master: br })), []);
  assert.is(host.get(getLink({ name: 'nothing' })), undefined);
  assert.is(host.get(getLink({ index: 9999 })), undefined);
  assert.is(host.get(getLinkIndex('br0')), br);
  assert.is(host.get(getLinkIndex('nothing')), undefined);
});

test('addresses of both families are added, listed and deleted', () => {
  const { pod, podName } = hosts();
  const { index } = linkOf(pod, 'eth0');
  pod.execute([
    newAddress({ index, prefix: prefix('10.1.2.3/24'), broadcast: address('10.1.2.255') }),
    newAddress({ index, prefix: prefix('10.9.9.9/32'), scope: 253, noPrefixRoute: true }),
    newAddress({ index, prefix: prefix('fd00::3/64'), noDad: true }),
  ]);
  const listed = pod.dump(dumpAddresses({ index })).map((a) => formatPrefix(a.prefix));
  const shown = showOne(podName, 'ip', 'address', 'show', 'eth0');
  const infos = shown.addr_info;
  assert.equal(listed.sort(), infos.map((info) => `${info.local}/${info.prefixlen}`).sort());
  const info = infos.find(({ local }) => local === '10.1.2.3')!;
  assert.equal([info.broadcast, info.scope], ['10.1.2.255', 'global']);
  assert.is(infos.find(({ local }) => local === '10.9.9.9')?.scope, 'link');
  assert.is(infos.find(({ local }) => local === 'fd00::3')?.nodad, true);
  assert.ok(pod.dump(dumpAddresses({ index, family: 6 })).every((a) => a.prefix.address.family === 6));
  assert.ok(pod.dump(dumpAddresses()).some((a) => formatPrefix(a.prefix) === '127.0.0.1/8'));
  const again = pod.executeEach([
    newAddress({ index, prefix: prefix('10.1.2.3/24') }),
    deleteAddress({ index, prefix: prefix('10.9.9.9/32') }),
    deleteAddress({ index, prefix: prefix('10.9.9.9/32') }),
  ]);
  assert.equal(
    again.map((error) => error?.code),
    ['EEXIST', undefined, 'EADDRNOTAVAIL'],
  );
  assert.equal(pod.dump(dumpAddresses({ index: 9999 })), []);
});

test('routes of both families are added, listed, looked up and deleted', () => {
  const { pod, podName } = hosts();
  const oif = linkOf(pod, 'eth0').index;
  pod.execute([
    newRoute({ destination: prefix('0.0.0.0/0'), gateway: address('10.1.2.1'), oif }),
    newRoute({ destination: prefix('::/0'), gateway: address('fd00::1'), oif }),
    newRoute({ destination: prefix('10.77.0.0/16'), oif, table: 1000, metric: 5, mtuBytes: 1300, advmss: 1200 }),
    newRoute({ destination: prefix('10.78.0.0/24'), gateway: address('10.78.0.0'), oif, onlink: true, protocol: 4 }),
    newRoute({ destination: prefix('10.79.0.0/24'), oif, preferredSource: address('10.1.2.3') }),
  ]);
  const byDefault = showOne(podName, 'ip', 'route', 'show', 'default');
  assert.equal([byDefault.gateway, byDefault.dev, byDefault.protocol], ['10.1.2.1', 'eth0', 'boot']);
  const sixth = showOne(podName, 'ip', '-6', 'route', 'show', 'default');
  assert.equal([sixth.gateway, sixth.metric], ['fd00::1', 1024]);
  const other = showOne(podName, 'ip', 'route', 'show', 'table', '1000');
  assert.equal(
    [other.dst, other.metric, other.scope, other.metrics],
    ['10.77.0.0/16', 5, 'link', [{ mtu: 1300, advmss: 1200 }]],
  );
  const onlink = showOne(podName, 'ip', 'route', 'show', '10.78.0.0/24');
  assert.equal([onlink.gateway, onlink.flags, onlink.protocol], ['10.78.0.0', ['onlink'], 'static']);
  const main = pod.dump(dumpRoutes({ family: 4, oif, table: 254 })).map((r) => formatPrefix(r.destination));
  assert.equal(main.sort(), ['0.0.0.0/0', '10.1.2.0/24', '10.78.0.0/24', '10.79.0.0/24']);
  const [found] = pod.dump(dumpRoutes({ family: 4, table: 1000 }));
  assert.equal([found?.metric, found?.mtuBytes, found?.advmss, found?.oif], [5, 1300, 1200, oif]);
  assert.is(pod.dump(dumpRoutes({ family: 4 })).find((r) => r.onlink)?.protocol, 4);
  assert.is(formatAddress(pod.get(lookupRoute(address('192.0.2.1')))!.gateway!), '10.1.2.1');
  assert.is(formatAddress(pod.get(lookupRoute(address('2001:db8::1')))!.gateway!), 'fd00::1');

  pod.execute([newRoute({ destination: prefix('0.0.0.0/0'), gateway: address('10.1.2.9'), oif }, 'replace')]);
  assert.equal(
    show(podName, 'ip', 'route', 'show', 'default').map((r) => r.gateway),
    ['10.1.2.9'],
  );
  const gone = [
    deleteRoute({ destination: prefix('0.0.0.0/0') }),
    deleteRoute({ destination: prefix('::/0') }),
    deleteRoute({ destination: prefix('10.78.0.0/24'), gateway: address('10.78.0.0'), oif, onlink: true }),
    deleteRoute({ destination: prefix('10.79.0.0/24'), oif }),
    deleteRoute({ destination: prefix('10.77.0.0/16'), table: 1000 }),
  ];
  pod.execute(gone);
  assert.equal(
    pod.executeEach(gone).map((error) => error?.code),
    ['ESRCH', 'ENOENT', 'ESRCH', 'ESRCH', 'ESRCH'],
  );
  assert.is(pod.get(lookupRoute(address('192.0.2.1'))), undefined);
  assert.is(pod.get(lookupRoute(address('2001:db8::1'))), undefined);
  assert.equal(pod.dump(dumpRoutes({ family: 4, table: 4711 })), []);
  assert.equal(pod.dump(dumpRoutes({ family: 6, oif: 9999 })), []);
});

for (const [family, local, remote, outer] of [
  [4, '10.1.0.1', '10.1.0.2', '10.1.0.1/24'],
  [6, 'fd00:1::1', 'fd00:1::2', 'fd00:1::1/64'],
] as const) {
  test(`a VXLAN device over IPv${family}, with FDB entries and neighbours`, () => {
    const { host, hostName } = hosts();
    const lower = bridge().index;
    const name = `vx${family}`;
    host.execute([
      newAddress({ index: lower, prefix: prefix(outer), noDad: true }),
      createTunnel(
        'vxlan',
        { name, mac: mac(0x40 + family), mtuBytes: 1380, up: true },
        { vni: family, port: 8472, local: address(local), lower, learning: false, gbp: family === 6 },
      ),
    ]);
    const link = linkOf(host, name);
    const { unknown: _, ...vxlan } = tunnelOf(link) as VxlanData;
    assert.equal(vxlan, { vni: family, port: 8472, local: address(local), lower, learning: false, gbp: family === 6 });
    const shown = showOne(hostName, 'ip', 'link', 'show', name);
    const data = shown.linkinfo.info_data;
    assert.equal(
      [data.id, data.port, data.local ?? data.local6, data.link, data.learning, shown.mtu],
      [family, 8472, local, 'br0', false, 1380],
    );
    const { index } = link;
    const entry = { index, mac: mac(0x50), destination: address(remote) };
    const inner = address(family === 4 ? '10.2.0.0' : 'fd00:2::');
    host.execute([
      newFdbEntry({ ...entry, destination: address(family === 4 ? '10.1.0.9' : 'fd00:1::9') }),
      newFdbEntry(entry),
      newNeighbour({ index, address: inner, mac: mac(0x51) }),
      newNeighbour({ index, address: inner, mac: mac(0x50) }),
    ]);
    assert.equal(
      show(hostName, 'bridge', 'fdb', 'show', 'dev', name).map((e) => [e.mac, e.dst, e.state]),
      [['02:00:00:00:00:50', remote, 'permanent']],
    );
    const neighbour = showOne(hostName, 'ip', `-${family}`, 'neighbour', 'show', 'dev', name, 'nud', 'permanent');
    assert.equal([neighbour.dst, neighbour.lladdr], [formatAddress(inner), '02:00:00:00:00:50']);
    const fdb = host.dump(dumpFdb({ index })).filter((each) => each.mac![0] === 2);
    assert.equal(
      fdb.map((each) => [formatMac(each.mac!), formatAddress(each.address!), each.flags & 2, each.state & 0x80]),
      [['02:00:00:00:00:50', remote, 2, 0x80]],
    );
    const neighbours = host.dump(dumpNeighbours({ family, index })).filter(({ state }) => state === 0x80);
    assert.equal(
      neighbours.map((each) => [formatAddress(each.address!), formatMac(each.mac!)]),
      [[formatAddress(inner), '02:00:00:00:00:50']],
    );
    const gone = [deleteFdbEntry(entry), deleteNeighbour({ index, address: inner })];
    host.execute(gone);
    assert.equal(
      host.executeEach(gone).map((error) => error?.code),
      ['ENOENT', 'ENOENT'],
    );
    host.execute([deleteLink({ index })]);
    assert.equal(host.dump(dumpFdb({ index })), []);
  });
}

test("errors carry the kernel's words", () => {
  const { host } = hosts();
  const settings = { mac: mac(0x60), mtuBytes: 1400, vni: 99, port: 8472, learning: false, gbp: false };
  const messages = host
    .executeEach([
      changeLink({ name: 'br0' }, { mtuBytes: 17 }),
      createTunnel('vxlan', { name: 'vxa', ...settings }, settings),
      createTunnel('vxlan', { name: 'vxb', ...settings }, settings),
      newRoute({ destination: prefix('10.3.0.0/24'), gateway: address('10.99.0.1') }),
      deleteLink({ name: 'nothing' }),
      createBridge({ name: 'br0', mac: mac(1) }),
      createBridge({ name: 'a/b', mac: mac(1) }),
      deleteLink({ name: 'vxa' }),
    ])
    .map((error: NetlinkError | undefined) => error?.message);
  assert.equal(messages, [
    'Cannot change link "br0": EINVAL (mtu less than device minimum)',
    undefined,
    'Cannot create vxlan "vxb": EEXIST (A VXLAN device with the specified VNI already exists)',
    'Cannot add route "10.3.0.0/24" via 10.99.0.1: ENETUNREACH (Nexthop has invalid gateway)',
    'Cannot delete link "nothing": ENODEV',
    'Cannot create bridge "br0": EEXIST',
    'Cannot create bridge "a/b": EINVAL',
    undefined,
  ]);
});

test('two thousand routes are added in a few sends, and listed completely while others change them', () => {
  const { host } = hosts();
  const oif = bridge().index;
  const route = (n: number) => ({
    destination: prefix(`10.${100 + (n >> 8)}.${n & 255}.0/24`),
    gateway: address('10.1.0.2'),
    oif,
    onlink: true,
  });
  const all = Array.from({ length: 2000 }, (_, n) => route(n));
  let sends = 0;
  const sendto: typeof sys.sendto = (...args) => {
    sends++;
    return sys.sendto(...args);
  };
  const counting = openNetlink({ ...sys, sendto }, { namespace: hosts().hostFd });
  counting.execute(all.map((each) => newRoute(each)));
  assert.is(sends, 13);
  counting.close();
  const listed = host.dump(dumpRoutes({ family: 4, oif, table: 254 })).filter((each) => each.gateway);
  assert.is(listed.length, 2000);
  const repeated = host.executeEach(all.map((each) => newRoute(each)));
  assert.ok(repeated.every((error) => error?.code === 'EEXIST'));
  host.execute(all.map((each) => deleteRoute(each)));
});

test('deleting a veth deletes its peer', () => {
  const { host, pod } = hosts();
  host.execute([deleteLink({ name: 'v0' })]);
  assert.is(pod.get(getLink({ name: 'eth0' })), undefined);
});

test.run();
