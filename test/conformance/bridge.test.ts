/** The bridge, its ports and its gateways. */

import * as assert from 'uvu/assert';
import { type PodSpace, presentLink } from '../lab/bare-host.ts';
import { execute, run as runProgram } from '../lab/commands.ts';
import { readLinks } from '../lab/kernel-state.ts';
import { addCable, ipBatch } from '../lab/namespaces.ts';
import { sendRaw } from '../lab/raw-packets.ts';
import { waitFor } from '../lab/wait.ts';
import { fails, own } from '../support/cni.ts';
import { fixture } from '../support/fixture.ts';
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
const attached = (keys: Record<string, unknown> = {}, ipam: Record<string, unknown> = v4) =>
  sites().make().attached(keys, ipam);

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

test('a bridge that somebody else made has the same MAC before, during and after attachments, and in the result', () => {
  for (const isUp of [true, false]) {
    const site = sites().make();
    const pod = site.addPod();
    site.ip('link', 'add', 'br0', 'type', 'bridge');
    if (isUp) site.ip('link', 'set', 'br0', 'up');
    const { mac } = site.link('br0');
    const configuration = site.bridge(gateway);
    for (let round = 1; round <= 2; round++) {
      const result = site.add(pod, configuration);
      assert.is(result.interfaces![0]!.mac, mac, `up: ${isUp}, round ${round}`);
      assert.is(site.link('br0').mac, mac, `up: ${isUp}, round ${round}`);
      assert.ok(site.pings(pod.namespace, '10.1.2.1'));
      site.delete(pod, configuration);
      assert.is(site.link('br0').mac, mac, `up: ${isUp}, round ${round}, after DEL`);
    }
  }
});

test('a new bridge whose only container stays down has a link-local address, and keeps its MAC', async () => {
  const site = sites().make();
  const [down, up] = site.addPods(2) as [PodSpace, PodSpace];
  const configuration = { ...site.bridge({ disableContainerInterface: true }), ipam: {} };
  const { mac } = site.add(down, configuration).interfaces![0]!;
  const linkLocal = () => site.link('br0').linkLocal;
  await waitFor('the link-local address', () => linkLocal().length > 0);
  const [address] = linkLocal();
  assert.is(site.link('br0').mac, mac);
  assert.ok(site.link('br0').up);
  site.delete(down, configuration);
  assert.is(site.add(up, site.bridge(gateway)).interfaces![0]!.mac, mac);
  assert.ok(site.pings(up.namespace, '10.1.2.1'));
  assert.is(site.link('br0').mac, mac);
  assert.equal(linkLocal(), [address]);
});

test('a bridge whose narrowest port leaves too little for IPv6 gets an MTU that suffices', () => {
  const site = sites().make();
  const [narrow, wide] = site.addPods(2) as [PodSpace, PodSpace];
  site.add(narrow, site.bridge({ ...gateway, mtu: 1230 }));
  assert.is(site.link('br0').mtu, 1230);
  const { ips } = site.add(wide, site.bridge({ ...gateway, mtu: 1400 }, dual));
  assert.is(ips!.length, 2);
  assert.is(site.link('br0').mtu, 1400);
  for (const { gateway: address } of ips!) assert.ok(site.pings(wide.namespace, address!));
});

test('a bridge without a free port is told as the cause, and nothing is left', () => {
  const site = sites().make();
  const [first, second] = site.addPods(2) as [PodSpace, PodSpace];
  site.add(first, site.bridge(gateway));
  // Both ends of a pair are ports.
  const pairs = Array.from({ length: 511 }, (_, i) => [
    `link add p${i} master br0 type veth peer name q${i}`,
    `link set q${i} master br0`,
  ]);
  ipBatch(site.namespace, pairs.flat());
  site.refuses(
    () => site.weft('ADD', second, site.bridge(gateway)),
    107,
    /^The bridge "br0" has 1023 ports, and Linux allows no more: start the container on another host, or in another network/,
  );
  assert.equal(readLinks(second.namespace), []);
  ipBatch(site.namespace, ['link delete p0']);
  site.add(second, site.bridge(gateway));
});

test('a bridge without a MAC gets one, which stays', () => {
  for (const isPinned of [false, true]) {
    const site = sites().make();
    const pod = site.addPod();
    site.ip('link', 'add', 'br0', 'up', 'type', 'bridge');
    site.ip('link', 'add', 'port', 'up', 'master', 'br0', 'type', 'veth', 'peer', 'name', 'far');
    site.ip('link', 'delete', 'port');
    const zero = '00:00:00:00:00:00';
    assert.is(site.link('br0').mac, zero);
    // A kernel may refuse it.
    if (isPinned) execute(['ip', 'link', 'set', 'br0', 'address', zero], { namespace: site.namespace });
    const configuration = site.bridge(gateway);
    const { mac } = site.add(pod, configuration).interfaces![0]!;
    assert.is.not(mac, zero);
    assert.is(site.link('br0').mac, mac);
    assert.ok(site.pings(pod.namespace, '10.1.2.1'));
    site.delete(pod, configuration);
    assert.is(site.link('br0').mac, mac);
    assert.is(site.add(pod, configuration).interfaces![0]!.mac, mac);
    assert.is(site.link('br0').mac, mac);
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

test("a gateway's link with too long a name is refused before anything is created", () => {
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

row(98, () => {
  const { site, pod, configuration } = attached(gateway, dual);
  const { index } = site.link('br0');
  site.delete(pod, configuration);
  assert.is(site.link('br0').index, index);
  assert.equal(site.link('br0').addresses.sort(), ['10.1.2.1/24', 'fd00:1::1/64']);
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

row(115, () => {
  const { site, pod, result } = attached(gateway, dual);
  const hostVeth = result.interfaces![1]!.name;
  const inPod = (path: string) => site.sysctl(path, pod.namespace);
  assert.is(site.sysctl('net/ipv6/conf/br0/accept_ra'), '0');
  assert.is(site.sysctl(`net/ipv6/conf/${hostVeth}/accept_ra`), '0');
  assert.is(inPod('net/ipv4/conf/eth0/arp_notify'), '1');
  assert.is(inPod('net/ipv6/conf/eth0/accept_dad'), '0');
  assert.is(inPod('net/ipv6/conf/eth0/accept_ra'), '0');
  assert.is(inPod('net/ipv6/conf/eth0/keep_addr_on_down'), '1');
  assert.is(site.sysctl('net/ipv4/ip_forward'), '1');
  assert.is(site.sysctl('net/ipv6/conf/all/forwarding'), '1');
  const dad = attached({ enabledad: true }, dual);
  assert.is(dad.site.sysctl('net/ipv6/conf/eth0/accept_dad', dad.pod.namespace), '1');
  const onlyV4 = attached(gateway);
  assert.is(onlyV4.site.sysctl('net/ipv4/ip_forward'), '1');
  assert.is(onlyV4.site.sysctl('net/ipv6/conf/all/forwarding'), '0');
});

test('IPv6 forwarding costs the host no route that a router advertises', () => {
  const site = sites().make();
  for (const name of ['ra0', 'ra1']) {
    site.ip('link', 'add', name, 'type', 'bridge');
    site.ip('link', 'set', name, 'up');
    runProgram(['sysctl', '-qw', `net/ipv6/conf/${name}/accept_ra=1`], { namespace: site.namespace });
  }
  // As the kernel makes one when a router advertises itself.
  site.ip('-6', 'route', 'add', 'default', 'via', 'fe80::1', 'dev', 'ra0', 'proto', 'ra', 'metric', '1024');
  site.add(site.addPod(), site.bridge(gateway, dual));
  assert.is(site.sysctl('net/ipv6/conf/all/forwarding'), '1');
  assert.is(site.sysctl('net/ipv6/conf/ra0/accept_ra'), '2');
  assert.is(site.sysctl('net/ipv6/conf/ra1/accept_ra'), '1', 'it has no such route');
});

type Interface = readonly [namespace: string, device: string];

/** A router's advertisement, as anybody can send it to a neighbour. */
async function advertise([from, fromDevice]: Interface, [to, toDevice]: Interface): Promise<void> {
  const heard = (): number =>
    Number(/Icmp6InRouterAdvertisements\s+(\d+)/.exec(runProgram(['cat', '/proc/net/snmp6'], { namespace: to }))![1]);
  const linkLocal = (namespace: string, device: string): Promise<string> =>
    waitFor('a link-local address', () => presentLink(namespace, device).linkLocal[0]?.split('/')[0]);
  const before = heard();
  const addresses = [await linkLocal(from, fromDevice), await linkLocal(to, toDevice)] as const;
  // Hosts believe only what no router has forwarded.
  runProgram(['sysctl', '-qw', `net/ipv6/conf/${fromDevice}/hop_limit=255`], { namespace: from });
  const forHalfAnHour = `86000000400007080000000000000000`;
  sendRaw(from, ...addresses, 58, forHalfAnHour, presentLink(from, fromDevice).index);
  await waitFor('it to be heard', () => heard() > before);
}

test('a router’s advertisements: the host keeps its route and hears further ones, a container believes none', async () => {
  const site = sites().make();
  const router: Interface = [site.scratch.addNamespace(`${site.name}-router`), 'up0'];
  const uplink: Interface = [site.namespace, 'up0'];
  addCable({ namespace: site.namespace, device: 'up0' }, { namespace: router[0], device: 'up0' });
  for (const [namespace, device] of [router, uplink]) {
    runProgram(['sysctl', '-qw', `net/ipv6/conf/${device}/accept_dad=0`], { namespace });
    runProgram(['ip', '-n', namespace, 'link', 'set', device, 'up']);
  }
  const defaults = ([namespace]: Interface): string =>
    runProgram(['ip', '-n', namespace, '-6', 'route', 'show', 'default', 'proto', 'ra']);
  await advertise(router, uplink);
  await waitFor('the route', () => defaults(uplink).includes('dev up0'));
  const [forging, believing] = site.addPods(2) as [PodSpace, PodSpace];
  for (const pod of [forging, believing]) site.add(pod, site.bridge({ isGateway: true }, dual));
  assert.is(site.sysctl('net/ipv6/conf/all/forwarding'), '1');
  assert.match(defaults(uplink), /dev up0/);
  site.ip('-6', 'route', 'del', 'default', 'dev', 'up0');
  await advertise(router, uplink);
  await waitFor('the next one', () => defaults(uplink).includes('dev up0'));
  const victim: Interface = [believing.namespace, 'eth0'];
  await advertise([forging.namespace, 'eth0'], victim);
  assert.is(defaults(victim), '');
  // It is the setting that prevents it.
  runProgram(['sysctl', '-qw', 'net/ipv6/conf/eth0/accept_ra=1'], { namespace: believing.namespace });
  await advertise([forging.namespace, 'eth0'], victim);
  await waitFor('the forged route', () => defaults(victim).includes('dev eth0'));
});

test('two pods of a bridge reach each other, by both families', () => {
  const { site, pod, configuration, result } = attached(gateway, dual);
  const other = site.addPod();
  const theirs = site.add(other, configuration);
  for (const { address } of theirs.ips!) assert.ok(site.pings(pod.namespace, address.split('/')[0]!), address);
  for (const { address } of result.ips!) assert.ok(site.pings(other.namespace, address.split('/')[0]!), address);
});

test('bridge, veth and container get the configured MTU', () => {
  const { site, pod, result } = attached({ mtu: 1400 });
  assert.is(site.podLink(pod).mtu, 1400);
  assert.is(site.link(result.interfaces![1]!.name).mtu, 1400);
  assert.is(site.link('br0').mtu, 1400);
});

test('ADD succeeds where the reference fails: two IPv4 sets with a gateway each', () => {
  const ipam = { ranges: [[v4], [{ subnet: '10.9.2.0/24' }]] };
  const { site, pod, configuration, result } = attached(gateway, ipam);
  assert.is(result.ips?.length, 2);
  assert.equal(site.link('br0').addresses.sort(), ['10.1.2.1/24', '10.9.2.1/24']);
  assert.ok(site.pings(pod.namespace, '10.9.2.1'));
  site.delete(pod, configuration);
  assert.equal(site.reservations(), []);
});

test('ADD succeeds where the reference fails: with a gateway, after a failed ADD and after an L2 ADD', () => {
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

test("the gateway's address has a broadcast address, and the bridge may have another address", () => {
  const site = sites().make();
  const [podA, podB] = site.addPods(2) as [PodSpace, PodSpace];
  site.add(podA, site.bridge(gateway));
  assert.match(runProgram(['ip', '-n', site.namespace, 'addr', 'show', 'br0']), /10\.1\.2\.1\/24 brd 10\.1\.2\.255 /);
  site.ip('addr', 'add', '10.9.9.1/24', 'dev', 'br0');
  site.add(podB, site.bridge(gateway));
});

run();
