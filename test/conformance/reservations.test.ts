/** Reservations and the store that holds them, and what comes with an address: routes and DNS. */

import { existsSync, mkdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import * as assert from 'uvu/assert';
import { execute } from '../lab/commands.ts';
import { bothFolders, pluginHost } from '../lab/plugin.ts';
import { referenceFolder } from '../lab/project.ts';
import { fails, own, succeeds } from '../support/cni.ts';
import { fixture } from '../support/fixture.ts';
import { hasCheck, readResult, version, writeResult } from '../support/versions.ts';
import { conformance } from './rows.ts';
import { type Site, Sites } from './site.ts';
import { Store } from './store.ts';

const { before, after, row, test, run } = conformance('reservations');
const sites = fixture(
  { before, after },
  () => new Sites('reservations'),
  (made) => made.remove(),
);
type Keys = Record<string, unknown>;
/** A store of a new site. */
const newStore = (ipam: Keys, configuration: Keys = {}): Store => new Store(sites().make(), ipam, configuration);
const subnet = '10.1.2.0/24';

row(58, () => {
  const store = newStore({ subnet });
  store.take('c1');
  store.refuses('c1', own, /duplicate|already/);
  assert.equal(store.site.reservations(), ['10.1.2.2']);
  store.refuses('c1', own, undefined, { args: 'IP=10.1.2.77' });
});

row(59, () => {
  const store = newStore({ subnet });
  assert.equal(store.take('c1'), ['10.1.2.2/24']);
  assert.equal(store.take('c1', { ifname: 'eth1' }), ['10.1.2.3/24']);
  store.free('c1', { ifname: 'eth1' });
  assert.equal(store.site.reservations(), ['10.1.2.2']);
});

row(64, () => {
  const site = sites().make();
  const resolvConf = join(site.folder, 'resolv.conf');
  writeFileSync(
    resolvConf,
    'nameserver 192.0.2.3\nnameserver fd00::53\nsearch a.example b.example\ndomain example\noptions ndots:2\n',
  );
  assert.equal(new Store(site, { subnet, resolvConf }).add('c1').dns, {
    nameservers: ['192.0.2.3', 'fd00::53'],
    domain: 'example',
    search: ['a.example', 'b.example'],
    options: ['ndots:2'],
  });
  const absent = join(site.folder, 'absent');
  new Store(site, { subnet, resolvConf: absent }).refuses('c2', [5, 7, 108], /absent/);
});

row(65, () => {
  const plain = [{ dst: '0.0.0.0/0' }, { dst: '192.168.0.0/16', gw: '10.1.2.9' }, { dst: 'fd00:7::/64' }];
  const given = newStore({ subnet, routes: plain }).add('c1').routes;
  // Before 0.3.0 routes are with an address of their family.
  assert.equal(given, version() < '0.3.0' ? plain.slice(0, 2) : plain);
  if (version() < '1.1.0') return;
  const extras = [{ dst: '192.168.0.0/16', gw: '10.1.2.9', mtu: 1400, advmss: 1360, priority: 7, table: 9, scope: 0 }];
  assert.equal(newStore({ subnet, routes: extras }).add('c1').routes, extras);
});

row(66, () => {
  const store = newStore({ subnet });
  store.free('c1');
  store.take('c1');
  store.free('c1');
  store.free('c1');
  store.take('c1');
  store.free('c1', { netns: undefined });
  assert.equal(store.site.reservations(), []);
});

row(67, () => {
  const store = newStore({ ranges: [[{ subnet }], [{ subnet: '10.9.2.0/24' }], [{ subnet: 'fd00::/64' }]] });
  assert.is(store.take('c1').length, 3);
  assert.is(store.take('c2').length, 3);
  assert.is(store.site.reservations().length, 6);
  store.free('c1');
  assert.equal(store.site.reservations(), ['10.1.2.3', '10.9.2.3', 'fd00::3']);
});

row(68, () => {
  const store = newStore({ subnet });
  store.site.writeStore('10.1.2.9', 'c1');
  store.site.writeStore('10.1.2.10', 'c10');
  store.free('c1');
  assert.equal(store.site.reservations(), ['10.1.2.10']);
});

row(69, () => {
  const store = newStore({ subnet });
  const prevResult = writeResult(store.add('c1'), version());
  const checked = store.with({ subnet }, { prevResult });
  const outcome = checked.call('CHECK', 'c1');
  succeeds(outcome);
  assert.is(outcome.stdout, '');
  fails(checked.call('CHECK', 'c2'), own);
  fails(checked.call('CHECK', 'c1', { ifname: 'eth1' }), own);
  store.free('c1');
  fails(checked.call('CHECK', 'c1'), own);
});

test('STATUS says why no address is available', () => {
  const status = (ipam: Keys, text: RegExp, site = sites().make()) =>
    fails(new Store(site, ipam, { cniVersion: '1.1.0' }).call('STATUS', 'c1'), 50, text);
  status({}, /no subnet yet/);
  const full = newStore({ subnet: '10.1.2.0/30' });
  full.take('c1');
  status({ subnet: '10.1.2.0/30' }, /no IP addresses available/, full.site);
  status({ subnet, rangeStart: '10.1.2.1', rangeEnd: '10.1.2.1' }, /no IP addresses available/);
  const site = sites().make();
  writeFileSync(site.dataDir, '');
  status({ subnet }, /not a folder/, site);
  const broken = sites().make();
  mkdirSync(join(broken.dataDir, 'net/lock'), { recursive: true });
  status({ subnet }, /lock/, broken);
});

row(116, () => {
  const store = newStore({ ranges: [[{ subnet }], [{ subnet: 'fd00::/64' }]] });
  store.take('c1');
  const last = (set: number) => readFileSync(join(store.site.dataDir, `net/last_reserved_ip.${set}`), 'latin1');
  for (const _ of ['taken', 'released']) {
    assert.is(last(0), '10.1.2.2');
    assert.is(last(1), 'fd00::2');
    store.free('c1');
  }
});

row(119, () => {
  const site = sites().make();
  const resolvConf = join(site.folder, 'resolv.conf');
  const lines = [
    '# a comment',
    '; another',
    '  nameserver 192.0.2.3',
    '\tsearch a.example',
    'nameserver\t192.0.2.4   ',
    'search b.example  c.example',
    'options ndots:2',
    '',
    'options   timeout:3 rotate',
    'sortlist 10.0.0.0',
  ];
  writeFileSync(resolvConf, lines.join('\n'));
  assert.equal(new Store(site, { subnet, resolvConf }).add('c1').dns, {
    nameservers: ['192.0.2.3', '192.0.2.4'],
    search: ['a.example', 'b.example', 'c.example'],
    options: ['ndots:2', 'timeout:3', 'rotate'],
  });
});

row(120, () => {
  const plugins = { ptp: {}, macvlan: { master: 'uplink' } };
  for (const [type, keys] of Object.entries(plugins)) {
    const site = sites().make();
    const pod = site.addPod();
    site.ip('link', 'add', 'uplink', 'type', 'veth', 'peer', 'name', 'far');
    site.ip('link', 'set', 'uplink', 'up');
    site.ip('link', 'set', 'far', 'up');
    // Theirs may be from before 1.1.0.
    const cniVersion = version() < '1.1.0' ? version() : '1.0.0';
    const configuration = { cniVersion, name: 'net', type, ...keys, ipam: site.ipam({ subnet }) };
    const executable = join(referenceFolder, type);
    const through = { executable, path: bothFolders, namespace: site.namespace };
    const result = succeeds(site.weft('ADD', pod, configuration, through));
    assert.is(readResult(result).ips?.[0]?.address, '10.1.2.2/24', type);
    assert.equal(site.reservations(), ['10.1.2.2'], type);
    if (hasCheck()) succeeds(site.weft('CHECK', pod, { ...configuration, prevResult: result }, through));
    succeeds(site.weft('DEL', pod, configuration, through));
    assert.equal(site.reservations(), [], type);
    if (version() < '1.1.0') continue;
    const stdin = { ...configuration, cniVersion: version() };
    succeeds(site.call('weft-ipam', { command: 'STATUS', path: bothFolders, stdin }));
  }
});

row(121, () => {
  const site = sites().make();
  const [podA, podB, podC] = site.addPods(3) as [ReturnType<Site['addPod']>, ...ReturnType<Site['addPods']>];
  const configuration = site.bridge();
  const both = 'MAC=02:11:22:33:44:55;IP=10.1.2.77';
  assert.is(site.add(podA, configuration, { args: both }).ips?.[0]?.address, '10.1.2.77/24');
  assert.is(site.podLink(podA).mac, '02:11:22:33:44:55');
  site.add(podB!, configuration, { args: 'MAC=02:11:22:33:44:66' });
  assert.is(site.podLink(podB!).mac, '02:11:22:33:44:66');
  assert.is(site.add(podC!, configuration, { args: 'IP=10.1.2.99' }).ips?.[0]?.address, '10.1.2.99/24');
  const store = newStore({ subnet });
  assert.equal(store.take('c1', { args: 'MAC=02:11:22:33:44:55' }), ['10.1.2.2/24']);
});

test("weft-ipam and host-local write the same bytes and read each other's store", () => {
  const { site } = newStore({ subnet });
  const configuration = { cniVersion: '1.0.0', name: 'net', type: 'any' };
  const call = (type: string, command: string, containerId: string) => {
    const stdin = { ...configuration, ipam: { type, dataDir: site.dataDir, subnet } };
    const executable = type === 'weft-ipam' ? {} : { executable: join(referenceFolder, type) };
    return succeeds(
      site.call('weft-ipam', {
        command,
        containerId,
        netns: '/no/netns',
        ifname: 'eth0',
        stdin,
        path: bothFolders,
        ...executable,
      }),
    );
  };
  assert.is(call('host-local', 'ADD', 'theirs').ips?.[0]?.address, '10.1.2.2/24');
  assert.is(call('weft-ipam', 'ADD', 'ours').ips?.[0]?.address, '10.1.2.3/24');
  assert.is(site.reservation('10.1.2.2'), 'theirs\r\neth0');
  assert.is(site.reservation('10.1.2.3'), 'ours\r\neth0');
  const mode = (name: string) => (statSync(join(site.dataDir, 'net', name)).mode & 0o777).toString(8);
  assert.is(mode('.'), '755');
  assert.is(mode('10.1.2.3'), '600');
  assert.ok(existsSync(join(site.dataDir, 'net/lock')));
  assert.is(call('host-local', 'ADD', 'theirs-2').ips?.[0]?.address, '10.1.2.4/24');
  call('host-local', 'DEL', 'ours');
  call('weft-ipam', 'DEL', 'theirs');
  call('weft-ipam', 'DEL', 'theirs-2');
  assert.equal(site.reservations(), []);
});

test('weft-ipam and host-local wait for the same lock', () => {
  const store = newStore({ subnet });
  store.take('c0');
  const lock = join(store.site.dataDir, 'net/lock');
  const stdin = JSON.stringify(store.stdin);
  const environment = {
    CNI_COMMAND: 'ADD',
    CNI_CONTAINERID: 'c1',
    CNI_NETNS: '/no/netns',
    CNI_IFNAME: 'eth0',
    CNI_PATH: '/',
  };
  // The lock is held by flock(1), which does not give it away until its own program ends.
  const held = execute(['flock', lock, 'timeout', '0.5', `${bothFolders.split(':')[0]}/weft-ipam`], {
    stdin,
    environment,
  });
  assert.is(held.status, 124, 'still waiting when its time ran out');
  assert.equal(store.site.reservations(), ['10.1.2.2']);
  assert.equal(store.take('c1'), ['10.1.2.3/24']);
});

test('GC frees the addresses of attachments that are not listed, and keeps the others', () => {
  const store = newStore({ subnet });
  for (const id of ['c1', 'c2', 'c3']) store.take(id);
  store.take('c1', { ifname: 'eth1' });
  const collect = (keys: Keys) =>
    succeeds(store.with({ subnet }, { cniVersion: '1.1.0', ...keys }).call('GC', 'unused'));
  collect({
    'cni.dev/valid-attachments': [
      { containerID: 'c1', ifname: 'eth0' },
      { containerID: 'c3', ifname: 'eth0' },
    ],
  });
  assert.equal(store.site.reservations(), ['10.1.2.2', '10.1.2.4']);
  collect({ 'cni.dev/attachments': [{ containerID: 'c3', ifname: 'eth0' }] });
  assert.equal(store.site.reservations(), ['10.1.2.4']);
  collect({ 'cni.dev/valid-attachments': null });
  assert.equal(store.site.reservations(), []);
  store.take('c4');
  collect({});
  assert.equal(store.site.reservations(), [], 'cnitool gc lists nothing: everything is stale');
});

test('STATUS tells whether an ADD could be served', () => {
  const status = (ipam: Keys, site = sites().make()) =>
    new Store(site, ipam, { cniVersion: '1.1.0' }).call('STATUS', 'unused');
  succeeds(status({ subnet }));
  fails(status({ subnet: '10.1.2.0/33' }), [7, 50]);
  fails(status({}), [11, 50]);
  const full = newStore({ subnet: '10.1.2.0/30' });
  full.take('c1');
  fails(status({ subnet: '10.1.2.0/30' }, full.site), [50, 51]);
});

test('a damaged store does not keep ADD from giving an address', () => {
  const store = newStore({ subnet });
  store.site.writeStore('10.1.2.2', '');
  store.site.writeStore('not-an-address', 'x');
  store.site.writeStore('10.1.2.3', '\r\n');
  const [address] = store.take('c1');
  assert.ok(address === '10.1.2.2/24' || address === '10.1.2.4/24', address);
  store.free('c1');
});

test('a folder in the store that is named like an address stops no verb', () => {
  const store = newStore({ subnet });
  const folder = join(store.site.dataDir, 'net/10.1.2.3');
  mkdirSync(folder, { recursive: true });
  const first = store.call('ADD', 'c1');
  assert.match(first.stderr, /has entries that are no reservations: "10\.1\.2\.3" is a folder/);
  const prevResult = succeeds({ ...first, stderr: '' });
  const second = store.call('ADD', 'c2');
  assert.is(readResult(succeeds(second)).ips![0]!.address, '10.1.2.4/24');
  assert.is(second.stderr, '', 'told once');
  if (hasCheck()) succeeds(store.with({ subnet }, { prevResult }).call('CHECK', 'c1'));
  store.free('c1');
  store.refuses('c3', own, /10\.1\.2\.3/, { args: 'IP=10.1.2.3' });
  const collected = store.with({ subnet }, { cniVersion: '1.1.0' }).call('GC', 'unused');
  succeeds({ ...collected, stderr: '' });
  assert.match(collected.stderr, /"10\.1\.2\.3" is a folder/);
  assert.equal(store.site.reservations(), ['10.1.2.3']);
  assert.ok(statSync(folder).isDirectory());
});

test('no verb waits for a FIFO where a file should be', () => {
  const site = sites().make();
  const pod = site.addPod();
  const fifo = (path: string): string => {
    execute(['mkfifo', path]);
    return path;
  };
  // A call that waits is ended, with status 124.
  const limited = { through: ['timeout', '5'] };
  const resolvConf = fifo(join(site.folder, 'resolv.conf'));
  const refusedFile = site.bridge({}, { subnet, resolvConf });
  site.refuses(() => site.weft('ADD', pod, refusedFile, limited), [5, 7, 108], /resolv\.conf.*is a FIFO/);
  const nodeFile = fifo(join(site.runDir, 'node.json'));
  site.refuses(() => site.weft('ADD', pod, site.overlay({ cniVersion: version() }), limited), 11, /node\.json/);
  rmSync(nodeFile);
  fifo(site.subnetFile);
  site.refuses(() => site.weft('ADD', pod, site.overlay({ cniVersion: version() }), limited), 11, /subnet\.env/);
  const netns = fifo(join(site.folder, 'netns'));
  const configuration = site.bridge({}, { subnet });
  site.refuses(() => site.weft('ADD', pod, configuration, { ...limited, netns }), 8, /netns/);
  mkdirSync(join(site.dataDir, 'net'), { recursive: true });
  for (const name of ['10.1.2.2', 'last_reserved_ip.0']) fifo(join(site.dataDir, 'net', name));
  const added = site.weft('ADD', pod, configuration, limited);
  assert.match(added.stderr, /"10\.1\.2\.2" is a FIFO.*\n.*last_reserved_ip\.0" is no regular file/);
  assert.is(added.status, 0);
  assert.equal(site.reservations(), ['10.1.2.2', '10.1.2.3']);
  site.delete(pod, configuration, limited);
  const collected = site.call('weft', { command: 'GC', stdin: site.bridge({ cniVersion: '1.1.0' }), ...limited });
  assert.is(collected.status, 0, collected.stdout);
  assert.equal(site.reservations(), ['10.1.2.2']);
});

test('a system call beyond the limit of file sizes gives an error document, and nothing is left', () => {
  // Bun's own start-up writes files.
  if (pluginHost === 'bun') return;
  const store = newStore({ subnet });
  store.take('c1');
  store.free('c1');
  const through = ['sh', '-c', 'ulimit -f 0; exec "$@"', 'sh'];
  const environment = { PATH: process.env['PATH']! };
  const document = store.refuses('c1', 103, /Cannot use the address store/, { through, environment });
  assert.match(document.details!, /EFBIG/);
});

test('DEL and GC free a reservation of NULs, and DEL one that was rewritten as an old host-local writes it', () => {
  const store = newStore({ subnet });
  const path = (address: string) => join(store.site.dataDir, 'net', address);
  store.take('c1');
  writeFileSync(path('10.1.2.2'), 'c1');
  store.free('c1');
  assert.equal(store.site.reservations(), []);
  store.take('c1');
  writeFileSync(path('10.1.2.3'), '\0'.repeat(8));
  store.free('c1');
  assert.equal(store.site.reservations(), []);
  store.site.writeStore('10.1.2.9', '\0'.repeat(8));
  succeeds(store.with({ subnet }, { cniVersion: '1.1.0' }).call('GC', 'unused'));
  assert.equal(store.site.reservations(), []);
});

test('DEL frees the address of a container whose id is very long', () => {
  const store = newStore({ subnet });
  const id = 'c'.repeat(5000);
  assert.equal(store.take(id), ['10.1.2.2/24']);
  store.refuses(id, own, /already holds 10\.1\.2\.2/);
  store.free(id);
  assert.equal(store.site.reservations(), []);
});

test('DEL succeeds with a configuration whose ranges have become invalid', () => {
  const store = newStore({ subnet });
  store.take('c1');
  store.with({ subnet: '10.1.2.0/32' }).free('c1');
  assert.equal(store.site.reservations(), []);
});

run();
