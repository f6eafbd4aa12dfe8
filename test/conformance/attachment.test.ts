/** One attachment: its interfaces, addresses and routes, and what an ADD that fails leaves. */

import { join } from 'node:path';
import * as assert from 'uvu/assert';
import type { PodSpace } from '../lab/bare-host.ts';
import { run as runProgram } from '../lab/commands.ts';
import { readLinks, readRoutes } from '../lab/kernel-state.ts';
import { fails, own, succeeds } from '../support/cni.ts';
import { fixture } from '../support/fixture.ts';
import { hasCheck, version } from '../support/versions.ts';
import { conformance } from './rows.ts';
import { Sites } from './site.ts';

const { before, after, row, test, run } = conformance('attachment');
const sites = fixture(
  { before, after },
  () => new Sites('attachment'),
  (made) => made.remove(),
);
const v4 = { subnet: '10.1.2.0/24' };
const dual = { ranges: [[v4], [{ subnet: 'fd00:1::/64' }]] };
const gateway = { isDefaultGateway: true };
/** A site with one pod, attached by bridge's keys and these. */
const attached = (keys: Record<string, unknown> = {}, ipam: Record<string, unknown> = v4) =>
  sites().make().attached(keys, ipam);
const routesOf = (pod: PodSpace, family: 4 | 6 = 4) =>
  readRoutes(pod.namespace, family).map(({ destination, gateway: via }) => `${destination} ${via ?? '-'}`);

row(72, () => {
  const { site, pod, result } = attached();
  const [bridge, hostVeth, container] = result.interfaces!;
  assert.is(result.interfaces?.length, 3);
  assert.is(bridge?.name, 'br0');
  assert.is(bridge?.sandbox ?? '', '');
  assert.is(hostVeth?.sandbox ?? '', '');
  assert.is(site.link(hostVeth!.name).master, 'br0');
  assert.is(container?.name, 'eth0');
  assert.is(container?.sandbox, pod.path);
  assert.is(result.ips?.[0]?.interface, 2);
});

row(73, () => {
  const { site, pod, result } = attached(gateway, dual);
  assert.equal(site.link('br0').addresses.sort(), ['10.1.2.1/24', 'fd00:1::1/64']);
  assert.ok(routesOf(pod).includes('default 10.1.2.1'));
  assert.ok(routesOf(pod, 6).includes('default fd00:1::1'));
  assert.equal(result.routes, [
    { dst: '0.0.0.0/0', gw: '10.1.2.1' },
    { dst: '::/0', gw: 'fd00:1::1' },
  ]);
  assert.ok(site.pings(pod.namespace, '10.1.2.1'));
});

row(74, () => {
  for (const route of [{ dst: '0.0.0.0/0' }, { dst: '0.0.0.0/0', gw: '10.1.2.1' }]) {
    const { pod, result } = attached(gateway, { ...v4, routes: [route] });
    assert.equal(
      routesOf(pod).filter((text) => text.startsWith('default')),
      ['default 10.1.2.1'],
    );
    assert.is(result.routes?.filter(({ dst }) => dst === '0.0.0.0/0').length, 1);
  }
});

row(79, () => {
  const macs = ['02:00:00:00:00:01', '02:00:00:00:00:02', '02:00:00:00:00:03'] as const;
  const sources = [
    { runtimeConfig: { mac: macs[0] }, args: { cni: { mac: macs[1] } } },
    { args: { cni: { mac: macs[1] } } },
    {},
  ];
  for (const [i, keys] of sources.entries()) {
    const site = sites().make();
    const pod = site.addPod();
    const result = site.add(pod, site.bridge(keys), { args: `MAC=${macs[2]}` });
    assert.is(site.podLink(pod).mac, macs[i]);
    assert.is(result.interfaces?.[2]?.mac, macs[i]);
  }
});

row(80, () => {
  const site = sites().make();
  const pod = site.addPod();
  for (const mac of ['c2:11:22:33:44', 'x', '01:00:5e:00:00:01', '00:00:00:00:00:00']) {
    site.refuses(() => site.weft('ADD', pod, site.bridge({ runtimeConfig: { mac } })), [4, 7]);
    site.refuses(() => site.weft('ADD', pod, site.bridge(), { args: `MAC=${mac}` }), [4, 7]);
  }
});

row(85, () => {
  const site = sites().make();
  const pod = site.addPod();
  site.refuses(
    () => site.weft('ADD', pod, site.bridge({ disableContainerInterface: true })),
    7,
    /disableContainerInterface/,
  );
});

row(86, () => {
  const site = sites().make();
  const pod = site.addPod();
  const configuration = { ...site.bridge(), ipam: undefined };
  if (version() < '0.3.0') {
    site.refuses(() => site.weft('ADD', pod, configuration), [1, 2, 7]);
    return;
  }
  const result = site.add(pod, configuration);
  assert.is(result.interfaces?.length, 3);
  assert.equal(result.ips ?? [], []);
  assert.equal(site.podLink(pod).addresses, []);
  if (hasCheck()) succeeds(site.check(pod, configuration, result));
  site.delete(pod, configuration);
  assert.equal(readLinks(pod.namespace), []);
});

row(87, () => {
  const site = sites().make();
  const [podA, podB] = site.addPods(2) as [PodSpace, PodSpace];
  const result = site.add(podA, { ...site.bridge({ disableContainerInterface: true }), ipam: {} });
  assert.not(site.podLink(podA).up);
  assert.is(result.interfaces?.length, 3);
  const isolated = site.add(podB, site.bridge({ portIsolation: true }));
  assert.is(site.link(isolated.interfaces![1]!.name).port['isolated'], true);
});

row(88, () => {
  const { site, pod, configuration } = attached();
  const other = { ...pod, id: 'other' };
  site.refuses(() => site.weft('ADD', other, configuration), own, /"eth0"/);
  assert.equal(site.reservations(), ['10.1.2.2']);
  site.refuses(() => site.weft('ADD', pod, configuration), own);
  assert.equal(site.podLink(pod).addresses, ['10.1.2.2/24']);
});

row(89, () => {
  const site = sites().make();
  const pod = { ...site.addPod(), path: join(site.folder, 'absent') };
  site.refuses(() => site.weft('ADD', pod, site.bridge()), 8, /absent/);
  assert.equal(site.reservations(), []);
});

row(90, () => {
  const site = sites().make();
  const [podA, podB] = site.addPods(2) as [PodSpace, PodSpace];
  // The bridge is there, so that "nothing left behind" is to the letter.
  site.add(podA, site.bridge());
  const unreachable = { ...v4, routes: [{ dst: '192.168.0.0/16', gw: '203.0.113.7' }] };
  site.refuses(() => site.weft('ADD', podB, site.bridge({}, unreachable)), own, /203\.0\.113\.7|192\.168/);
  const otherGateway = { ...v4, gateway: '10.1.2.200' };
  site.ip('addr', 'add', '10.1.2.1/24', 'dev', 'br0');
  site.refuses(() => site.weft('ADD', podB, site.bridge(gateway, otherGateway)), own);
  // The first ADD of a host, too.
  const fresh = sites().make();
  const pod = fresh.addPod();
  fails(fresh.weft('ADD', pod, fresh.bridge({}, unreachable)), own);
  assert.equal(readLinks(pod.namespace), []);
  assert.equal(
    readLinks(fresh.namespace).filter(({ kind }) => kind === 'veth'),
    [],
  );
  assert.equal(fresh.reservations(), []);
});

row(97, () => {
  const { site, pod, result } = attached(gateway, dual);
  const links = readLinks(site.namespace);
  assert.equal(links.map(({ kind }) => kind).sort(), ['bridge', 'veth']);
  const veth = links.find(({ kind }) => kind === 'veth')!;
  assert.match(veth.name, /^veth/);
  assert.is(result.interfaces?.[1]?.name, veth.name);
  assert.equal(
    readLinks(pod.namespace).map(({ name }) => name),
    ['eth0'],
  );
});

row(99, () => {
  const site = sites().make();
  const pod = site.addPod();
  const netns = `/var/../run/netns/./${pod.namespace}`;
  const outcome = site.weft('ADD', pod, site.bridge(), { netns });
  const result = succeeds(outcome);
  assert.is(result.interfaces?.[2]?.sandbox, netns);
  const [bridge, hostVeth, container] = result.interfaces!;
  assert.is(bridge?.mac, site.link('br0').mac);
  assert.is(hostVeth?.mac, site.link(hostVeth!.name).mac);
  assert.is(container?.mac, site.podLink(pod).mac);
  assert.not.match(outcome.stdout, /"\s+:/);
});

row(100, () => {
  for (const ipam of [v4, dual]) {
    const { site, pod, result } = attached(gateway, ipam);
    const [link, hostVeth] = [site.podLink(pod), site.link(result.interfaces![1]!.name)];
    assert.ok(link.up && link.running, 'operationally up');
    assert.is(hostVeth.port['state'], 'forwarding');
    assert.equal(link.addresses.sort(), result.ips!.map(({ address }) => address).sort());
    assert.is(link.linkLocal.length, 1, link.linkLocal.join());
    assert.match(link.linkLocal[0]!, /^fe80:/);
  }
});

row(101, () => {
  const site = sites().make();
  const pod = site.addPod();
  site.add(pod, { ...site.bridge({ disableContainerInterface: true }), ipam: {} });
  const link = site.podLink(pod);
  assert.not(link.up);
  assert.equal([...link.addresses, ...link.linkLocal], []);
});

row(103, () => {
  const { pod } = attached(gateway, dual);
  for (const family of [4, 6] as const) {
    const found = readRoutes(pod.namespace, family).filter(({ destination }) => destination === 'default');
    assert.equal(
      found.map(({ preferredSource }) => preferredSource),
      [undefined],
    );
  }
});

row(105, () => {
  const site = sites().make();
  const [podA, podB] = site.addPods(2) as [PodSpace, PodSpace];
  const result = site.add(podA, { ...site.bridge(), ipam: {} });
  assert.equal(result.ips ?? [], []);
  site.add(podB, site.bridge({ RuntimeConfig: { Mac: '02:00:00:00:00:07' } }));
  assert.is(site.podLink(podB).mac, '02:00:00:00:00:07');
});

row(110, () => {
  const site = sites().make();
  const host: PodSpace = { namespace: site.namespace, path: `/run/netns/${site.namespace}`, id: 'host' };
  const environment = { CNI_NETNS_OVERRIDE: '1' };
  const configuration = site.bridge({ isGateway: true });
  const result = site.add(host, configuration, { environment });
  assert.is(result.interfaces?.[2]?.sandbox, host.path);
  assert.equal(site.link('eth0').addresses, ['10.1.2.2/24']);
  assert.is(site.link(result.interfaces![1]!.name).master, 'br0');
  if (hasCheck()) succeeds(site.check(host, configuration, result, { environment }));
  site.delete(host, configuration, { environment });
  assert.equal(
    readLinks(site.namespace).map(({ name }) => name),
    ['br0'],
  );
  assert.equal(site.reservations(), []);
});

test('routes in the result keep mtu, advmss, priority and table', () => {
  const routes = [{ dst: '192.168.0.0/16', gw: '10.1.2.9', mtu: 1300, advmss: 1260, priority: 77, table: 900 }];
  const { site, pod, configuration, result } = attached({ cniVersion: '1.1.0' }, { ...v4, routes });
  assert.equal(result.routes, routes);
  const [route] = readRoutes(pod.namespace, 4, '900');
  assert.is(route?.destination, '192.168.0.0/16');
  assert.is(route?.metric, 77);
  assert.is(route?.mtu, 1300);
  assert.is(route?.advmss, 1260);
  succeeds(site.check(pod, configuration, result));
});

test('interface names that the kernel would change are refused', () => {
  const site = sites().make();
  const pod = site.addPod();
  site.refuses(() => site.weft('ADD', pod, site.bridge({ bridge: 'a%d' })), 7, /a%d/);
  site.refuses(() => site.weft('ADD', pod, site.bridge(), { ifname: 'a%d' }), 4, /a%d/);
});

test("a container's id may be long", () => {
  const site = sites().make();
  const pod = { ...site.addPod(), id: 'i'.repeat(250) };
  site.add(pod, site.bridge());
  site.delete(pod, site.bridge(), { netns: '' });
  assert.equal(site.reservations(), []);
});

test('with enabledad, ADD waits until IPv6 knows the addresses to be free, and refuses a duplicate', () => {
  const ipam = { subnet: 'fd00:1::/64' };
  const { site, pod, configuration, result } = attached({ ...gateway, enabledad: true, hairpinMode: true }, ipam);
  const shown = () => runProgram(['ip', '-n', pod.namespace, '-6', 'addr', 'show', 'eth0']);
  assert.not.match(shown(), /tentative|dadfailed/);
  assert.equal(result.ips?.[0]?.address, 'fd00:1::2/64');
  site.podIp(pod, 'addr', 'add', 'fd00:1::77/64', 'dev', 'eth0', 'nodad');
  const other = site.addPod();
  site.refuses(() => site.weft('ADD', other, configuration, { args: 'IP=fd00:1::77' }), 115, /fd00:1::77/);
});

test('the alias of an interface names its network and container', () => {
  const { site, pod, result } = attached();
  assert.is(site.link(result.interfaces![1]!.name).alias, `weft net ${pod.id} eth0`);
  assert.match(runProgram(['ip', 'link', 'show'], { namespace: site.namespace }), /alias weft net/);
});

run();
