import { chmodSync, copyFileSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import * as assert from 'uvu/assert';
import type { PodSpace } from '../lab/bare-host.ts';
import { run as runProgram } from '../lab/commands.ts';
import { readLinks, readRoutes } from '../lab/kernel-state.ts';
import { pluginFolder } from '../lab/plugin.ts';
import { referenceFolder } from '../lab/project.ts';
import { waitFor } from '../lab/wait.ts';
import { fails, own, succeeds } from '../support/cni.ts';
import { fixture } from '../support/fixture.ts';
import { hasCheck, version } from '../support/versions.ts';
import { conformance } from './rows.ts';
import { Sites } from './site.ts';

const { before, after, row, test, run } = conformance('bridge');
const sites = fixture(
  { before, after },
  () => new Sites('bridge'),
  (made) => made.remove(),
);

const v4 = { subnet: '10.1.2.0/24' };
const dual = { ranges: [[v4], [{ subnet: 'fd00:1::/64' }]] };
const gateway = { isDefaultGateway: true };

/** A site with one pod, attached by bridge's keys and these. */
function attached(keys: Record<string, unknown> = {}, ipam: Record<string, unknown> = v4) {
  const site = sites().make();
  const pod = site.addPod();
  const configuration = site.bridge(keys, ipam);
  const result = site.add(pod, configuration);
  return { site, pod, configuration, result };
}

const routesOf = (pod: PodSpace, family: 4 | 6 = 4) =>
  readRoutes(pod.namespace, family).map(({ destination, gateway: via }) => `${destination} ${via ?? '-'}`);

row(70, () => {
  const site = sites().make();
  site.ip('link', 'add', 'br0', 'type', 'bridge');
  const { index } = site.link('br0');
  site.add(site.addPod(), site.bridge());
  site.add(site.addPod(), site.bridge());
  assert.is(site.link('br0').index, index);
});

row(71, () => {
  const site = sites().make();
  site.ip('link', 'add', 'br0', 'type', 'veth', 'peer', 'name', 'other');
  const pod = site.addPod();
  site.refuses(() => site.weft('ADD', pod, site.bridge()), own, /"br0".*bridge/);
});

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

row(75, () => {
  const site = sites().make();
  site.ip('link', 'add', 'br0', 'type', 'bridge');
  site.ip('addr', 'add', '10.9.9.1/24', 'dev', 'br0');
  site.ip('link', 'set', 'br0', 'up');
  const pod = site.addPod();
  site.refuses(() => site.weft('ADD', pod, site.bridge(gateway)), own, /10\.9\.9\.1/);
});

row(76, () => {
  const site = sites().make();
  site.ip('link', 'add', 'br0', 'type', 'bridge');
  site.ip('addr', 'add', '10.9.9.1/24', 'dev', 'br0');
  const pod = site.addPod();
  site.add(pod, site.bridge({ ...gateway, forceAddress: true }));
  assert.equal(site.link('br0').addresses, ['10.1.2.1/24']);
});

row(77, () => {
  const site = sites().make();
  const v6 = (subnet: string) => site.bridge({ isGateway: true, name: subnet.replace(/\W+/g, '') }, { subnet });
  const [podA, podB, podC] = site.addPods(3) as [PodSpace, PodSpace, PodSpace];
  site.add(podA, v6('fd00:1::/64'));
  site.add(podB, v6('fd00:2::/64'));
  assert.equal(site.link('br0').addresses, ['fd00:2::1/64', 'fd00:1::1/64']);
  site.refuses(() => site.weft('ADD', podC, v6('fd00:1::/60')), own);
  site.add(podC, { ...v6('fd00:1::/60'), forceAddress: true });
  const addresses = site.link('br0').addresses;
  assert.ok(addresses.includes('fd00:1::1/60'), addresses.join());
  assert.not(addresses.includes('fd00:1::1/64'), addresses.join());
});

row(78, () => {
  const { site, pod, configuration } = attached();
  const { mac } = site.link('br0');
  const others = site.addPods(3);
  for (const other of others) site.add(other, configuration);
  assert.is(site.link('br0').mac, mac);
  for (const gone of [pod, ...others]) site.delete(gone, configuration);
  assert.is(site.link('br0').mac, mac);
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

row(81, () => {
  const site = sites().make();
  const pod = site.addPod();
  for (const vlan of [5000, 4095, -1, '5', 1.5])
    site.refuses(() => site.weft('ADD', pod, site.bridge({ vlan })), 7, /vlan/);
});

row(82, () => {
  const site = sites().make();
  const pod = site.addPod();
  for (const element of [
    { minID: 5 },
    { maxID: 5 },
    { id: 0 },
    { id: 4095 },
    { minID: 0, maxID: 5 },
    { minID: 5, maxID: 4095 },
    { minID: 6, maxID: 5 },
  ]) {
    const vlanTrunk = [{ id: 7 }, element];
    site.refuses(() => site.weft('ADD', pod, site.bridge({ vlanTrunk })), 7, /vlanTrunk\[1\]/);
  }
});

test('a gateway’s link whose name would be too long is refused before anything is made', () => {
  const site = sites().make();
  const pod = site.addPod();
  const keys = { ...gateway, bridge: 'a-long-bridge', vlan: 100 };
  site.refuses(() => site.weft('ADD', pod, site.bridge(keys)), 7, /a-long-bridge\.100/);
});

row(84, () => {
  const site = sites().make();
  const pod = site.addPod();
  site.refuses(
    () => site.weft('ADD', pod, site.bridge({ hairpinMode: true, promiscMode: true })),
    7,
    /hairpin.*promisc/i,
  );
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

row(93, () => {
  const { site, pod, configuration, result } = attached();
  site.delete(pod, configuration);
  site.delete(pod, configuration);
  site.delete(pod, { ...configuration, prevResult: result });
  assert.equal(readLinks(pod.namespace), []);

  const gone = attached();
  gone.site.scratch.removeNamespaces([gone.pod.namespace]);
  gone.site.delete(gone.pod, gone.configuration);
  assert.equal(gone.site.reservations(), []);
  assert.equal(
    readLinks(gone.site.namespace).map(({ name }) => name),
    ['br0'],
  );

  const file = join(site.folder, 'file');
  writeFileSync(file, '');
  fails(site.weft('DEL', { ...pod, path: file }, configuration), 8, /file/);
});

test('DEL without a namespace frees address and link', () => {
  for (const netns of [undefined, '']) {
    const { site, pod, configuration } = attached();
    site.delete(pod, configuration, { netns });
    assert.equal(site.reservations(), []);
    assert.equal(
      readLinks(site.namespace).map(({ name }) => name),
      ['br0'],
    );
    assert.equal(readLinks(pod.namespace), []);
  }
});

row(94, () => {
  const { site, pod, configuration, result } = attached(gateway, { ...v4, routes: [{ dst: '192.168.0.0/16' }] });
  const outcome = site.check(pod, configuration, result);
  succeeds(outcome);
  assert.is(outcome.stdout, '');
  fails(site.weft('CHECK', pod, configuration), [6, 7], /prevResult/);

  const wrong = structuredClone(result);
  wrong.interfaces![2]!.sandbox = '/run/netns/another';
  fails(site.check(pod, configuration, wrong), [7, 8, 110]);

  site.podIp(pod, 'route', 'del', '192.168.0.0/16');
  fails(site.check(pod, configuration, result), own, /192\.168/);
  site.podIp(pod, 'route', 'add', '192.168.0.0/16', 'dev', 'eth0');
  succeeds(site.check(pod, configuration, result));

  site.podIp(pod, 'addr', 'flush', 'dev', 'eth0', 'scope', 'global');
  fails(site.check(pod, configuration, result), own, /10\.1\.2\.2/);

  site.podIp(pod, 'link', 'del', 'eth0');
  fails(site.check(pod, configuration, result), own, /eth0/);
});

test('CHECK finds a missing reservation, bridge port and bridge', () => {
  const { site, pod, configuration, result } = attached();
  const hostVeth = result.interfaces![1]!.name;
  site.ip('link', 'set', hostVeth, 'nomaster');
  fails(site.check(pod, configuration, result), own, /br0/);
  site.ip('link', 'set', hostVeth, 'master', 'br0');
  succeeds(site.check(pod, configuration, result));
  succeeds(site.call('weft-ipam', { command: 'DEL', containerId: pod.id, ifname: 'eth0', stdin: configuration }));
  fails(site.check(pod, configuration, result), own);
});

row(95, () => {
  const site = sites().make();
  const absent = { ...site.bridge(), ipam: { type: 'absent-ipam' } };
  fails(site.call('weft', { command: 'STATUS', stdin: absent }), 50, /absent-ipam/);
  succeeds(site.call('weft', { command: 'STATUS', stdin: site.bridge() }));
  // A delegate's own word on it passes.
  const plugin = join(site.folder, 'tired');
  writeFileSync(
    plugin,
    '#!/bin/sh\ncat > /dev/null\necho \'{"cniVersion":"1.1.0","code":51,"msg":"Tired","details":""}\'\nexit 1\n',
  );
  chmodSync(plugin, 0o755);
  const tired = { ...absent, ipam: { type: 'tired' } };
  fails(site.call('weft', { command: 'STATUS', stdin: tired, path: `${pluginFolder}:${site.folder}` }), 51, /Tired/);
});

row(96, () => {
  const site = sites().make();
  const resolvConf = join(site.folder, 'resolv.conf');
  writeFileSync(resolvConf, 'nameserver 192.0.2.3\nsearch a.example\n');
  const ipam = { ...v4, resolvConf };
  assert.equal(site.add(site.addPod(), site.bridge({}, ipam)).dns, {
    nameservers: ['192.0.2.3'],
    search: ['a.example'],
  });
  const dns = { nameservers: ['192.0.2.9'] };
  assert.equal(site.add(site.addPod(), site.bridge({ dns }, ipam)).dns, dns);
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

row(98, () => {
  const { site, pod, configuration } = attached(gateway, dual);
  const { index } = site.link('br0');
  site.delete(pod, configuration);
  assert.is(site.link('br0').index, index);
  assert.equal(site.link('br0').addresses.sort(), ['10.1.2.1/24', 'fd00:1::1/64']);
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

row(102, async () => {
  const site = sites().make();
  site.add(site.addPod(), { ...site.bridge(), ipam: {} });
  const bridge = await waitFor('the bridge’s link-local address', () => {
    const link = site.link('br0');
    return link.linkLocal.length > 0 && link;
  });
  assert.ok(bridge.up);
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

row(104, () => {
  const site = sites().make();
  site.ip('link', 'add', 'br0', 'type', 'bridge');
  const { mac } = site.link('br0');
  const configuration = site.bridge(gateway);
  for (const pod of site.addPods(4)) {
    const result = site.add(pod, configuration, { args: 'MAC=00:00:00:00:00:0' + pod.id.slice(-1) });
    assert.is(site.link('br0').mac, mac);
    assert.is(result.interfaces?.[0]?.mac, mac);
    assert.is.not(result.interfaces?.[1]?.mac, mac);
  }
  const { site: own, result } = attached();
  assert.is(result.interfaces?.[0]?.mac, own.link('br0').mac);
  assert.is.not(result.interfaces?.[0]?.mac, result.interfaces?.[1]?.mac);
});

row(105, () => {
  const site = sites().make();
  const [podA, podB] = site.addPods(2) as [PodSpace, PodSpace];
  const result = site.add(podA, { ...site.bridge(), ipam: {} });
  assert.equal(result.ips ?? [], []);
  site.add(podB, site.bridge({ RuntimeConfig: { Mac: '02:00:00:00:00:07' } }));
  assert.is(site.podLink(podB).mac, '02:00:00:00:00:07');
});

row(106, () => {
  for (const on of [true, false]) {
    const flags = (keys: Record<string, unknown>) => {
      const { site, result } = attached(keys);
      const { port } = site.link(result.interfaces![1]!.name);
      return { hairpin: port['hairpin'], isolated: port['isolated'], promiscuous: site.link('br0').promiscuous };
    };
    const off = { hairpin: false, isolated: false, promiscuous: false };
    assert.equal(flags({ hairpinMode: on }), { ...off, hairpin: on });
    assert.equal(flags({ portIsolation: on }), { ...off, isolated: on });
    assert.equal(flags({ promiscMode: on }), { ...off, promiscuous: on });
  }
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

row(114, () => {
  const { site, pod, configuration, result } = attached(gateway);
  const { isDefaultGateway: _, ...bare } = configuration;
  succeeds(site.check(pod, bare, { ...result, routes: null, dns: {} }));
  site.podIp(pod, 'route', 'del', 'default');
  succeeds(site.check(pod, bare, { ...result, routes: null, dns: {} }));
  fails(site.check(pod, bare, result), own);
  site.delete(pod, bare);
  assert.equal(site.reservations(), []);
});

row(115, () => {
  const { site, pod, result } = attached(gateway, dual);
  const hostVeth = result.interfaces![1]!.name;
  const inPod = (path: string) => site.sysctl(path, pod.namespace);
  assert.is(site.sysctl('net/ipv6/conf/br0/accept_ra'), '0');
  assert.is(site.sysctl(`net/ipv6/conf/${hostVeth}/accept_ra`), '0');
  assert.is(inPod('net/ipv4/conf/eth0/arp_notify'), '1');
  assert.is(inPod('net/ipv6/conf/eth0/accept_dad'), '0');
  assert.is(inPod('net/ipv6/conf/eth0/keep_addr_on_down'), '1');
  assert.is(site.sysctl('net/ipv4/ip_forward'), '1');
  assert.is(site.sysctl('net/ipv6/conf/all/forwarding'), '1');
  const dad = attached({ enabledad: true }, dual);
  assert.is(dad.site.sysctl('net/ipv6/conf/eth0/accept_dad', dad.pod.namespace), '1');
  const onlyV4 = attached(gateway);
  assert.is(onlyV4.site.sysctl('net/ipv4/ip_forward'), '1');
  assert.is(onlyV4.site.sysctl('net/ipv6/conf/all/forwarding'), '0');
});

test('two pods of a bridge reach each other, by both families', () => {
  const { site, pod, configuration, result } = attached(gateway, dual);
  const other = site.addPod();
  const theirs = site.add(other, configuration);
  for (const { address } of theirs.ips!) assert.ok(site.pings(pod.namespace, address.split('/')[0]!), address);
  for (const { address } of result.ips!) assert.ok(site.pings(other.namespace, address.split('/')[0]!), address);
});

test('mtu is that of bridge, veth and container', () => {
  const { site, pod, result } = attached({ mtu: 1400 });
  assert.is(site.podLink(pod).mtu, 1400);
  assert.is(site.link(result.interfaces![1]!.name).mtu, 1400);
  assert.is(site.link('br0').mtu, 1400);
});

test('a result’s routes keep mtu, advmss, priority and table', () => {
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

test('what the reference fails at: two IPv4 sets with a gateway each', () => {
  const ipam = { ranges: [[v4], [{ subnet: '10.9.2.0/24' }]] };
  const { site, pod, configuration, result } = attached(gateway, ipam);
  assert.is(result.ips?.length, 2);
  assert.equal(site.link('br0').addresses.sort(), ['10.1.2.1/24', '10.9.2.1/24']);
  assert.ok(site.pings(pod.namespace, '10.9.2.1'));
  site.delete(pod, configuration);
  assert.equal(site.reservations(), []);
});

test('what the reference fails at: a gateway ADD after a failed first one, and after an L2 one', () => {
  const site = sites().make();
  const [podA, podB] = site.addPods(2) as [PodSpace, PodSpace];
  const unreachable = { ...v4, routes: [{ dst: '192.168.0.0/16', gw: '203.0.113.7' }] };
  fails(site.weft('ADD', podA, site.bridge(gateway, unreachable)), own);
  site.add(podA, site.bridge(gateway));
  const bare = { ...site.bridge(), ipam: {}, bridge: 'br1' };
  site.add(podB, bare);
  site.delete(podB, bare);
  site.add(podB, site.bridge({ ...gateway, bridge: 'br1', name: 'second' }, { subnet: '10.9.2.0/24' }));
});

test('GC removes links and addresses of what is not listed', () => {
  const site = sites().make();
  const [podA, podB] = site.addPods(2) as [PodSpace, PodSpace];
  const configuration = site.bridge({ cniVersion: '1.1.0' });
  site.add(podA, configuration);
  const kept = site.add(podB, configuration);
  const valid = { 'cni.dev/valid-attachments': [{ containerID: podB.id, ifname: 'eth0' }] };
  succeeds(site.call('weft', { command: 'GC', stdin: { ...configuration, ...valid } }));
  assert.equal(site.reservations(), ['10.1.2.3']);
  assert.equal(
    readLinks(site.namespace)
      .map(({ name }) => name)
      .sort(),
    ['br0', kept.interfaces![1]!.name].sort(),
  );
  succeeds(site.check(podB, configuration, kept));
  succeeds(site.call('weft', { command: 'GC', stdin: configuration }));
  assert.equal(site.reservations(), []);
});

test('a configuration that is wrong is refused with the key’s name', () => {
  const site = sites().make();
  const pod = site.addPod();
  for (const [keys, name] of [
    [{ mtu: 'big' }, 'mtu'],
    [{ mtu: -1 }, 'mtu'],
    [{ isGateway: 'yes' }, 'isGateway'],
    [{ bridge: 'a/b' }, 'bridge'],
    [{ bridge: 'a-name-that-is-too-long' }, 'bridge'],
    [{ hairpinMode: 3 }, 'hairpinMode'],
    [{ ipam: 'weft-ipam' }, 'ipam'],
    [{ dns: { nameservers: 'x' } }, 'nameservers'],
  ] as const) {
    site.refuses(() => site.weft('ADD', pod, site.bridge(keys)), [6, 7], new RegExp(name));
  }
});

test('any other IPAM plugin is called, and called off', () => {
  const site = sites().make();
  const pod = site.addPod();
  const ipam = { type: 'host-local', dataDir: site.dataDir, ...v4 };
  const path = `${pluginFolder}:/usr/lib/cni`;
  const configuration = { ...site.bridge(gateway), ipam };
  const result = site.add(pod, configuration, { path });
  assert.equal(site.podLink(pod).addresses, ['10.1.2.2/24']);
  succeeds(site.check(pod, configuration, result, { path }));
  site.delete(pod, configuration, { path });
  assert.equal(site.reservations(), []);
  const wrong = { ...configuration, ipam: { ...ipam, routes: [{ dst: '192.168.0.0/16', gw: '203.0.113.7' }] } };
  site.refuses(() => site.weft('ADD', pod, wrong, { path }), own);
  const absent = { ...configuration, ipam: { type: 'absent-ipam' } };
  site.refuses(() => site.weft('ADD', pod, absent, { path }), 50, /absent-ipam/);
});

test('the gateway’s address has a broadcast address, and may stand beside another', () => {
  const site = sites().make();
  const [podA, podB] = site.addPods(2) as [PodSpace, PodSpace];
  site.add(podA, site.bridge(gateway));
  assert.match(runProgram(['ip', '-n', site.namespace, 'addr', 'show', 'br0']), /10\.1\.2\.1\/24 brd 10\.1\.2\.255 /);
  site.ip('addr', 'add', '10.9.9.1/24', 'dev', 'br0');
  site.add(podB, site.bridge(gateway));
});

test('names that the kernel would change are refused', () => {
  const site = sites().make();
  const pod = site.addPod();
  site.refuses(() => site.weft('ADD', pod, site.bridge({ bridge: 'a%d' })), 7, /a%d/);
  site.refuses(() => site.weft('ADD', pod, site.bridge(), { ifname: 'a%d' }), 4, /a%d/);
});

test('a container’s id may be long', () => {
  const site = sites().make();
  const pod = { ...site.addPod(), id: 'i'.repeat(250) };
  site.add(pod, site.bridge());
  site.delete(pod, site.bridge(), { netns: '' });
  assert.equal(site.reservations(), []);
});

test('the plugin does not call itself, nor a copy', () => {
  const site = sites().make();
  const pod = site.addPod();
  copyFileSync(`${pluginFolder}/weft`, join(site.folder, 'weft'));
  symlinkSync(`${pluginFolder}/weft`, join(site.folder, 'another-name'));
  for (const type of ['weft', 'another-name']) {
    const configuration = { ...site.bridge({ cniVersion: '1.1.0' }), ipam: { type } };
    for (const command of ['ADD', 'DEL', 'STATUS', 'GC']) {
      fails(site.weft(command, pod, configuration, { path: site.folder }), [7, 112], /itself/);
    }
  }
});

test('however deep or long the input, the error is clear and short', () => {
  const site = sites().make();
  const pod = site.addPod();
  const deep = `${'{"a":'.repeat(5000)}1${'}'.repeat(5000)}`;
  const lists = `${'['.repeat(5000)}${']'.repeat(5000)}`;
  for (const text of [
    `{"cniVersion":${deep},"name":"net","type":"weft"}`,
    `{"cniVersion":"1.0.0","name":"net","type":"weft","ipam":${lists}}`,
    `{"cniVersion":"1.0.0","name":"net","type":"weft","ipam":{"type":${deep}}}`,
    `{"cniVersion":"1.0.0","name":"net","type":"weft","ipam":{"type":"weft-ipam","ranges":${lists}}}`,
  ]) {
    const document = site.refuses(() => site.weft('ADD', pod, text), [6, 7]);
    assert.ok(document.msg!.length < 700, document.msg);
  }
  const { msg } = site.refuses(
    () => site.weft('ADD', pod, site.bridge(), { netns: `/${'x'.repeat(50_000)}` }),
    [8, 108],
  );
  assert.ok(msg!.length < 700, msg);
});

row(122, () => {
  const site = sites().make();
  const pod = site.addPod();
  // What flannel's plugin hands to the one that it delegates to, which libraries pass on without a version.
  const ranges = [[{ subnet: '10.96.7.0/24' }], [{ subnet: 'fd00:96:0:7::/64' }]];
  const configuration = {
    name: 'cbr0',
    type: 'weft',
    bridge: 'br0',
    hairpinMode: true,
    isGateway: true,
    isDefaultGateway: true,
    ipMasq: true,
    mtu: 1450,
    ipam: site.ipam({ ranges, routes: [{ dst: '10.96.0.0/16' }, { dst: 'fd00:96::/48' }] }),
  };
  const result = succeeds(site.weft('ADD', pod, configuration));
  assert.is(result.ip4?.ip, '10.96.7.2/24');
  assert.is(result.ip6?.ip, 'fd00:96:0:7::2/64');
  // The next of the chain takes it and hands it on.
  const chained = { name: 'cbr0', type: 'tuning', mtu: 1400, prevResult: result };
  const executable = `${referenceFolder}/tuning`;
  assert.equal(succeeds(site.weft('ADD', pod, chained, { executable })).ip4, result.ip4);
  assert.is(site.podLink(pod).mtu, 1400);
  site.delete(pod, { ...configuration, prevResult: result });
  site.delete(pod, configuration);
  assert.equal(site.reservations('cbr0'), []);
});

test('another’s IPAM plugin finds the interface there, and loses it where it gives nothing', () => {
  const site = sites().make();
  const pod = site.addPod();
  const file = join(site.folder, 'calls');
  const plugin = (name: string, answer: string) => {
    const lines = [
      '#!/bin/sh',
      'cat > /dev/null',
      `nsenter --net="$CNI_NETNS" ip link show "$CNI_IFNAME" > /dev/null && echo "$CNI_COMMAND with" >> ${file}`,
      `nsenter --net="$CNI_NETNS" ip link show "$CNI_IFNAME" > /dev/null 2>&1 || echo "$CNI_COMMAND without" >> ${file}`,
      answer,
    ];
    writeFileSync(join(site.folder, name), lines.join('\n'), { mode: 0o755 });
  };
  const environment = { PATH: '/usr/sbin:/usr/bin:/sbin:/bin' };
  const options = { path: site.folder, environment };
  const calls = () => readFileSync(file, 'utf8').trim().split('\n');
  plugin('looking', `echo '{"cniVersion":"1.0.0","ips":[{"address":"10.7.0.9/24","gateway":"10.7.0.1"}]}'`);
  const configuration = { ...site.bridge(gateway), ipam: { type: 'looking' } };
  site.add(pod, configuration, options);
  assert.equal(calls(), ['ADD with']);
  assert.equal(site.podLink(pod).addresses, ['10.7.0.9/24']);
  assert.equal(site.link('br0').addresses, ['10.7.0.1/24']);
  site.delete(pod, configuration, options);
  assert.equal(calls(), ['ADD with', 'DEL without']);
  // One whose answer cannot be done is called off, when the link is gone.
  plugin(
    'wrong',
    `echo '{"cniVersion":"1.0.0","ips":[{"address":"10.7.0.9/24"}],"routes":[{"dst":"10.8.0.0/16","gw":"192.0.2.1"}]}'`,
  );
  const wrong = { ...site.bridge(gateway), ipam: { type: 'wrong' } };
  site.refuses(() => site.weft('ADD', pod, wrong, options), own, /10\.8\.0\.0/);
  assert.equal(calls().slice(2), ['ADD with', 'DEL without']);
});

test('enabledad waits until the addresses are known to be free, and refuses one that is not', () => {
  const ipam = { subnet: 'fd00:1::/64' };
  const { site, pod, configuration, result } = attached({ ...gateway, enabledad: true, hairpinMode: true }, ipam);
  const shown = () => runProgram(['ip', '-n', pod.namespace, '-6', 'addr', 'show', 'eth0']);
  assert.not.match(shown(), /tentative|dadfailed/);
  assert.equal(result.ips?.[0]?.address, 'fd00:1::2/64');
  site.podIp(pod, 'addr', 'add', 'fd00:1::77/64', 'dev', 'eth0', 'nodad');
  const other = site.addPod();
  site.refuses(() => site.weft('ADD', other, configuration, { args: 'IP=fd00:1::77' }), 115, /fd00:1::77/);
});

test('an interface’s alias tells a person whose it is', () => {
  const { site, pod, result } = attached();
  assert.is(site.link(result.interfaces![1]!.name).alias, `weft net ${pod.id} eth0`);
  assert.match(runProgram(['ip', 'link', 'show'], { namespace: site.namespace }), /alias weft net/);
});

run();
