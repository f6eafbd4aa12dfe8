/**
 * Defects of flannel that Weft does not have, by their numbers in defects.ts. Those that need no cluster are tested
 * elsewhere: test/unit/docs/flannel-defects.test.ts checks that none is missing.
 */

import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { etcdPrefix, startCluster } from '../lab/cluster.ts';
import { execute, run } from '../lab/commands.ts';
import type { Host, Pod } from '../lab/host.ts';
import { difference, readFdb, readLink, readLinks, readNeighbours } from '../lab/kernel-state.ts';
import { ping, startPing } from '../lab/packets.ts';
import { waitFor } from '../lab/wait.ts';
import { fixture } from '../support/fixture.ts';

const test = suite('flannel’s defects');
const cluster = fixture(
  test,
  async () => {
    const config = { Network: '10.244.0.0/16', EnableIPv6: true, IPv6Network: 'fd00:10:244::/48' };
    const text = JSON.stringify({ ...config, Backend: { Type: 'vxlan' } });
    const made = await startCluster('defects', {
      hosts: 2,
      families: [4, 6],
      config: text,
      arguments: ['--ip-masq'],
    });
    for (const host of made.hosts) host.attachPods(1);
    return made;
  },
  (made) => made.remove(),
);
const hosts = (): [Host, Host] => cluster().hosts as [Host, Host];
const pods = (): [Pod, Pod] => hosts().map((host) => host.pods[0]!) as [Pod, Pod];
const etcdctl = (...words: string[]): string => cluster().etcdctl(...words);

/** Without what a new device or table has new anyway. */
const essence = (host: Host): string[] =>
  host.describe().map((line) => line.replace(/"(index|handle|peerIndex)":\s*\d+,?/g, ''));
const isAsBefore = (host: Host, before: readonly string[]) =>
  waitFor(`${host.name} to be as before`, () => {
    const left = difference(before, essence(host));
    if (left.length > 0) throw new Error(`${left.join('\n')}\n${host.log.slice(-2000)}`);
    return true;
  });

/** A peer that is nothing but a lease: number `n` has 10.244.20n.0/24 and fd00:10:244:20n::/64. */
interface Ghost {
  readonly host?: number;
  readonly mac?: string;
}
const ghostKey = (n: number): string => `subnets/10.244.20${n}.0-24&fd00:10:244:20${n}::-64`;
const ghostMac = (n: number): string => `02:00:00:00:02:0${n}`;
function putGhost(n: number, { host = 200 + n, mac = ghostMac(n) }: Ghost = {}): void {
  const data = { VNI: 1, VtepMAC: mac };
  const addresses = { PublicIP: `192.168.77.${host}`, PublicIPv6: `fd77::${host}` };
  const value = { ...addresses, BackendType: 'vxlan', BackendData: data, BackendV6Data: data };
  cluster().put(ghostKey(n), JSON.stringify(value));
}
const removeGhost = (n: number): string => etcdctl('del', `${etcdPrefix}/${ghostKey(n)}`);
const ghostTraces = (host: Host, n: number): string[] =>
  essence(host).filter((line) =>
    [`10.244.20${n}.`, `:20${n}::`, ghostMac(n), `192.168.77.${200 + n}`].some((text) => line.includes(text)),
  );
/** The peer has route, neighbour and FDB entry of both families; nothing else speaks of it. */
const isProgrammed = (host: Host, n: number) =>
  waitFor(`peer ${n}`, () => ghostTraces(host, n).filter((line) => !line.startsWith('nft')).length === 6);
const isForgotten = (host: Host, n: number) => waitFor(`peer ${n} to go`, () => ghostTraces(host, n).length === 0);

test('a peer’s address and MAC change while etcd is unreachable: weftd follows (flannel’s defect 4)', async () => {
  const [one] = hosts();
  putGhost(4);
  await isProgrammed(one, 4);
  const rules = 'table inet cut { chain out { type filter hook output priority 0; tcp dport 2379 drop; }; }';
  run(['nft', '-f', '-'], { namespace: one.namespace, stdin: rules });
  await one.waitForStatus('the connection to be lost', ({ etcd }) => !etcd.connected, { deadlineMs: 30_000 });
  putGhost(4, { host: 214, mac: '02:00:00:00:02:99' });
  // What happened in between cannot be told by a watch any more.
  const { revision } = (JSON.parse(etcdctl('get', '/', '-w', 'json')) as { header: { revision: number } }).header;
  etcdctl('compact', String(revision));
  run(['nft', 'delete', 'table', 'inet', 'cut'], { namespace: one.namespace });
  await waitFor(
    'the new address',
    () => {
      const entries = readFdb(one.namespace).filter(({ mac }) => mac === '02:00:00:00:02:99');
      const hosts = entries.map(({ destination }) => destination).sort();
      if (hosts.join() !== '192.168.77.214,fd77::214') throw new Error(one.log.slice(-3000));
      return true;
    },
    { deadlineMs: 30_000 },
  );
  assert.not(
    readFdb(one.namespace).some(({ mac }) => mac === ghostMac(4)),
    'nothing leads to the old one',
  );
  const neighbours = readNeighbours(one.namespace).filter(({ mac }) => mac === '02:00:00:00:02:99');
  assert.is(neighbours.length, 2);
  removeGhost(4);
  await isForgotten(one, 4);
});

test('one malformed lease does not affect the others (flannel’s defect 5)', async () => {
  const [one] = hosts();
  putGhost(5);
  await isProgrammed(one, 5);
  const before = essence(one);
  const broken = ['no JSON', '{"PublicIP":"192.168.77.99","BackendType":"vxlan","BackendData":{"VtepMAC":"x"}}'];
  for (const [i, value] of broken.entries()) cluster().put(`subnets/10.244.22${i}.0-24`, value);
  await waitFor('both to be told of', () => one.log.split('which is skipped').length > broken.length);
  // What comes after it is followed as ever.
  putGhost(6);
  await isProgrammed(one, 6);
  removeGhost(6);
  await isForgotten(one, 6);
  assert.equal(difference(before, essence(one)), []);
  etcdctl('del', '--prefix', `${etcdPrefix}/subnets/10.244.22`);
  await one.weftd!.stop('SIGKILL');
  one.startWeftd('--ip-masq');
  await one.reaches(cluster().hosts);
  assert.equal(difference(before, essence(one)), []);
  removeGhost(5);
  await isForgotten(one, 5);
});

test('weftd’s start removes peers that left while it was down, with no gap for the others (flannel’s defect 6)', async () => {
  const [one] = hosts();
  const [here, there] = pods();
  const before = essence(one);
  putGhost(7);
  await isProgrammed(one, 7);
  await one.weftd!.stop('SIGKILL');
  removeGhost(7);
  // What flannel left behind of another one.
  const tunnel = ['dev', 'flannel.1'];
  one.ip('neigh', 'add', '10.244.208.0', 'lladdr', ghostMac(8), ...tunnel, 'nud', 'permanent');
  run(['bridge', '-n', one.namespace, 'fdb', 'add', ghostMac(8), ...tunnel, 'dst', '192.168.77.208']);
  one.ip('route', 'add', '10.244.208.0/24', 'via', '10.244.208.0', ...tunnel, 'onlink');
  assert.is.not(ghostTraces(one, 7).length + ghostTraces(one, 8).length, 0);
  const streams = there.addresses.map((address) => startPing(cluster().scratch, here.namespace, address, 10));
  one.startWeftd('--ip-masq');
  await one.reaches(cluster().hosts);
  await isForgotten(one, 7);
  await isForgotten(one, 8);
  for (const stream of streams) {
    const { sent, received } = await stream.stop();
    assert.is(received, sent);
  }
  assert.equal(difference(before, essence(one)), []);
});

test('the device is deleted: weftd recreates it with its MAC and every peer (flannel’s defect 7)', async () => {
  const [one, two] = hosts();
  const [here, there] = pods();
  putGhost(7);
  await isProgrammed(one, 7);
  const before = essence(one);
  const mac = readLink(one.namespace, 'flannel.1')!.mac;
  const leased = (): boolean => etcdctl('get', '--prefix', `${etcdPrefix}/subnets/`).includes(`"VtepMAC":"${mac}"`);
  assert.ok(leased());
  one.ip('link', 'del', 'flannel.1');
  await isAsBefore(one, before);
  assert.is(ping(here.namespace, there.address).received, 1);
  // And where nobody was there to see it.
  await one.weftd!.stop();
  for (const device of ['flannel.1', 'flannel-v6.1']) one.ip('link', 'del', device);
  one.startWeftd('--ip-masq');
  await one.reaches(cluster().hosts);
  await isAsBefore(one, before);
  assert.ok(leased());
  assert.ok(readFdb(two.namespace).some((entry) => entry.mac === mac));
  assert.is(ping(there.namespace, here.address).received, 1);
  removeGhost(7);
  await isForgotten(one, 7);
});

test('a deleted route, neighbour and FDB entry are restored (flannel’s defect 8)', async () => {
  const [one, two] = hosts();
  const before = essence(one);
  const fdb = readFdb(one.namespace).find(({ destination }) => destination === two.address)!;
  one.ip('route', 'del', two.subnet);
  await isAsBefore(one, before);
  one.ip('neigh', 'del', two.subnet.replace('/24', ''), 'dev', 'flannel.1');
  await isAsBefore(one, before);
  run(['bridge', '-n', one.namespace, 'fdb', 'del', fdb.mac, 'dev', 'flannel.1', 'dst', two.address]);
  await isAsBefore(one, before);
});

test('the host’s own lease is revoked: the same process claims the same subnet again (flannel’s defect 9)', async () => {
  const [one, two] = hosts();
  const [here, there] = pods();
  const before = hosts().map(essence);
  const { pid } = one.weftd!;
  const { subnets } = one;
  const key = etcdctl('get', '--prefix', `${etcdPrefix}/subnets/`, '--keys-only')
    .split('\n')
    .find((name) => name.includes(one.subnet.replace('/', '-')))!;
  const leaseOf = (): string => /"lease":(\d+)/.exec(etcdctl('get', key, '-w', 'json'))?.[1] ?? '0';
  const lease = leaseOf();
  const from = one.log.length;
  etcdctl('lease', 'revoke', BigInt(lease).toString(16));
  await waitFor(
    'the lease',
    () => one.log.slice(from).includes('lease claimed again') && !['0', lease].includes(leaseOf()),
  );
  for (const [i, host] of hosts().entries()) await isAsBefore(host, before[i]!);
  assert.equal([one.weftd!.alive, one.weftd!.pid, one.subnets], [true, pid, subnets]);
  assert.is(ping(here.namespace, there.address).received, 1);
  assert.not(one.log.slice(from).includes('remove '), 'nothing of its own was taken away');
  await one.reaches([two]);
});

test('IPv6 costs 70 bytes, not 50 (flannel’s defect 10)', () => {
  const [one] = hosts();
  assert.is(readLink(one.namespace, 'flannel-v6.1')!.mtu, 1430);
  assert.is(readLink(one.namespace, 'flannel.1')!.mtu, 1450);
  assert.match(readFileSync(one.subnetFile, 'utf8'), 'FLANNEL_MTU=1430\n');
  const [here, there] = pods();
  const [, address] = there.addresses;
  assert.is(ping(here.namespace, address!, { payloadBytes: 1430 - 48, whole: true }).received, 1);
});

test('the start repairs a device with another MTU, MAC or learning flag (flannel’s defect 11)', async () => {
  const [one] = hosts();
  const [here, there] = pods();
  const before = essence(one);
  for (const harm of ['mtu 1400', 'address 02:00:00:00:0b:ad', 'type vxlan learning', 'type vxlan ttl 1']) {
    await one.weftd!.stop();
    one.ip('link', 'set', 'flannel.1', ...harm.split(' '));
    one.startWeftd('--ip-masq');
    await one.reaches(cluster().hosts);
    await isAsBefore(one, before);
    assert.is(ping(here.namespace, there.address).received, 1, harm);
  }
});

/** How often etcd was asked so since it began, by its own account. */
function requests(method: string): number {
  const script = "fetch('http://127.0.0.1:2379/metrics').then((answer) => answer.text()).then(console.log)";
  const { switchNamespace } = cluster();
  const { stdout, stderr } = execute([process.execPath, '-e', script], { namespace: switchNamespace });
  const line = stdout
    .split('\n')
    .find((text) => text.startsWith('grpc_server_started_total') && text.includes(`"${method}"`));
  if (line === undefined) throw new Error(`etcd does not count "${method}": ${stderr}`);
  return Number(line.split(' ').at(-1));
}

test('neither a list nor an event causes TimeToLive requests (flannel’s defect 13)', async () => {
  const [one, two] = hosts();
  for (let n = 0; n < 10; n++) putGhost(n);
  await isProgrammed(one, 9);
  const asked = requests('LeaseTimeToLive');
  const [lists, writes] = [requests('Range'), requests('Put')];
  for (let n = 0; n < 10; n++) putGhost(n, { host: 210 + n });
  await waitFor('the changes', () =>
    hosts().every((host) => readFdb(host.namespace).some(({ destination }) => destination === '192.168.77.219')),
  );
  assert.is(requests('LeaseTimeToLive') - asked, 0, 'for twenty events');
  assert.ok(requests('Put') - writes >= 10);
  await one.weftd!.stop();
  one.startWeftd('--ip-masq');
  await one.reaches([two]);
  assert.ok(requests('Range') > lists);
  const atStart = requests('LeaseTimeToLive') - asked;
  assert.ok(atStart <= 1, `one at most for twelve leases at a start, for its own; not ${atStart}`);
  for (let n = 0; n < 10; n++) removeGhost(n);
  await isForgotten(one, 9);
});

test('two attachments of a container have separate state (flannel’s defect 14)', () => {
  const [one] = hosts();
  const [, there] = pods();
  const [pod] = one.addPods(1);
  const attachments = ['eth0', 'net1'].map((ifname) => ({ ...pod!.attachment, ifname }));
  const [first, second] = attachments.map((attachment) => one.network.add(attachment));
  const addressOf = (result: typeof first): string => result!.ips![0]!.address.split('/')[0]!;
  assert.is.not(addressOf(first), addressOf(second));
  const names = (): string[] => readLinks(pod!.namespace).map(({ name }) => name);
  assert.equal(names().sort(), ['eth0', 'net1']);
  for (const attachment of attachments) one.network.check(attachment);
  one.network.delete(attachments[1]!);
  assert.equal(names(), ['eth0']);
  assert.equal(reserved(one, [addressOf(first), addressOf(second)]), [addressOf(first)]);
  assert.is(ping(there.namespace, addressOf(first)).received, 1);
  one.network.delete(attachments[0]!);
  assert.equal([names(), reserved(one, [addressOf(first)])], [[], []]);
});

/** Those of the addresses that are given to a container, by the store. */
function reserved(host: Host, addresses: readonly string[]): string[] {
  const names = readdirSync(join(host.dataDir, host.conflist.name));
  return addresses.filter((address) => names.includes(address));
}

test('DEL with corrupt state removes the interface and the address (flannel’s defect 15)', () => {
  const [one] = hosts();
  const store = join(one.dataDir, one.conflist.name);
  for (const path of [join(one.runDir, 'node.json'), one.subnetFile]) {
    for (const garbage of ['', '{"subnets": 7', '\0\xff\0']) {
      const [pod] = one.attachPods(1);
      const { address } = pod!;
      const kept = readFileSync(path);
      writeFileSync(path, garbage);
      pod!.detach();
      writeFileSync(path, kept);
      const about = `${path}: ${JSON.stringify(garbage)}`;
      assert.equal(readLinks(pod!.namespace), [], about);
      assert.equal(reserved(one, [address]), [], about);
    }
  }
  // A reservation that a full disk left empty is nobody's: whoever is to have the address gets it.
  const [pod] = one.attachPods(1);
  const { address } = pod!;
  writeFileSync(join(store, address), '');
  pod!.detach();
  assert.equal(readLinks(pod!.namespace), []);
  const [next] = one.addPods(1);
  const result = one.network.add({ ...next!.attachment, args: `IP=${address}` });
  assert.is(result.ips![0]!.address.split('/')[0], address);
  one.network.delete(next!.attachment);
  assert.equal(reserved(one, [address]), []);
});

test('weftd checks its rules as a whole, with their order, and repairs them (flannel’s defect 16)', async () => {
  const [one] = hosts();
  const before = essence(one);
  const nft = (...words: string[]): string => run(['nft', ...words], { namespace: one.namespace });
  const listed = JSON.parse(nft('-j', '-a', 'list', 'chain', 'inet', 'weft', 'postrouting')) as {
    nftables: { rule?: { handle: number } }[];
  };
  const handles = listed.nftables.flatMap(({ rule }) => (rule ? [rule.handle] : []));
  assert.ok(handles.length > 2);
  nft('delete', 'rule', 'inet', 'weft', 'postrouting', 'handle', String(handles[1]));
  await isAsBefore(one, before);
  nft('add', 'rule', 'inet', 'weft', 'postrouting', 'counter', 'masquerade');
  await isAsBefore(one, before);
  nft('insert', 'rule', 'inet', 'weft', 'forward', 'counter', 'drop');
  await isAsBefore(one, before);
  nft('chain', 'inet', 'weft', 'forward', '{ policy drop; }');
  await isAsBefore(one, before);
});

test.run();
