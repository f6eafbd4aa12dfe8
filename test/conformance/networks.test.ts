/** Two names for one subnet: flannel's `cbr0` and `weft`, or a network that was renamed. No address is given twice. */

import { existsSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import * as assert from 'uvu/assert';
import type { PodSpace } from '../lab/bare-host.ts';
import { readLinks } from '../lab/kernel-state.ts';
import { MountNamespace } from '../lab/mount-namespace.ts';
import { bothFolders, type CallOptions, pluginFolder } from '../lab/plugin.ts';
import { fails, succeeds } from '../support/cni.ts';
import { fixture } from '../support/fixture.ts';
import { environment, type Keys, reference } from './reference.ts';
import { conformance } from './rows.ts';
import { type Site, Sites } from './site.ts';
import { Store } from './store.ts';

const { before, after, test, run } = conformance('networks');
const sites = fixture(
  { before, after },
  () => new Sites('networks'),
  (made) => made.remove(),
);

const holds = (site: Site, network: string, last: readonly number[]): void => {
  for (const each of last) site.writeStore(`10.96.7.${each}`, `other-${each}\r\neth0`, network);
};

const flannelKeys = (site: Site, keys: Keys = {}): Keys => ({
  cniVersion: '1.1.0',
  name: 'cbr0',
  type: 'flannel',
  subnetFile: site.subnetFile,
  dataDir: join(site.folder, 'flannel'),
  delegate: { isDefaultGateway: true },
  ipam: { dataDir: site.dataDir },
  ...keys,
});

const callFlannel = (site: Site, command: string, pod: PodSpace, stdin: Keys, options: CallOptions = {}) =>
  site.call('flannel', {
    command,
    containerId: pod.id,
    netns: pod.path,
    ifname: 'eth0',
    stdin,
    environment,
    ...options,
  });

test('an address of the node that another network holds is not given, by whichever program it was taken', () => {
  const site = sites().make();
  site.writeNodeFile();
  holds(site, 'cbr0', [2, 3, 5]);
  mkdirSync(join(site.dataDir, 'empty'));
  writeFileSync(join(site.dataDir, 'file'), '');
  const [pod, other] = site.addPods(2) as [PodSpace, PodSpace];
  assert.is(site.add(pod, site.overlay()).ips?.[0]?.address, '10.96.7.4/24');
  assert.is(site.add(other, site.overlay()).ips?.[0]?.address, '10.96.7.6/24');
  assert.equal(site.reservations('weft'), ['10.96.7.4', '10.96.7.6']);
  assert.equal(site.reservations('cbr0'), ['10.96.7.2', '10.96.7.3', '10.96.7.5']);
  // The IPAM alone, and with the node's subnet as ranges, as flannel's chain gives them.
  const store = new Store(site, {}, { name: 'third' });
  assert.equal(store.take('c1'), ['10.96.7.7/24']);
  const ranged = new Store(site, { ranges: [[{ subnet: '10.96.7.0/24' }]] }, { name: 'fourth' });
  assert.equal(ranged.take('c2'), ['10.96.7.8/24']);
});

test('a requested address that another network holds is refused with the name of the network', () => {
  const site = sites().make();
  site.writeNodeFile();
  holds(site, 'cbr0', [9]);
  const pod = site.addPod();
  const refused = () => site.weft('ADD', pod, site.overlay(), { args: 'IP=10.96.7.9' });
  site.refuses(refused, 101, /10\.96\.7\.9 is taken by a container of the network "cbr0"; ask for another/);
  assert.equal(site.reservations('weft'), []);
});

test('a subnet that two networks have filled together is full, and STATUS says so', () => {
  const site = sites().make();
  site.writeNodeFile({ subnets: ['10.96.7.0/28'] });
  holds(site, 'cbr0', [2, 3, 4, 5, 6, 7, 8]);
  holds(site, 'weft', [9, 10, 11, 12, 13]);
  succeeds(site.call('weft', { command: 'STATUS', stdin: site.overlay() }));
  const pod = site.addPod();
  assert.is(site.add(pod, site.overlay()).ips?.[0]?.address, '10.96.7.14/28');
  fails(site.call('weft', { command: 'STATUS', stdin: site.overlay() }), 50, /no IP addresses available/);
  const another = site.addPod();
  site.refuses(() => site.weft('ADD', another, site.overlay()), 100, /no IP addresses available/i);
});

test('concurrent ADDs for two names of one subnet share no address', async () => {
  const site = sites().make();
  site.writeNodeFile({ subnets: ['10.96.7.0/26'] });
  const stores = ['weft', 'cbr0'].map((name) => new Store(site, {}, { name }));
  const calls = Array.from({ length: 40 }, (_, i) => {
    const stdin = stores[i % 2]!.stdin;
    return site.weftAsync('ADD', { id: `c${i}`, path: join(site.folder, 'none'), namespace: '' }, stdin, {
      executable: join(pluginFolder, 'weft-ipam'),
    });
  });
  const given = (await Promise.all(calls)).map((outcome) => succeeds(outcome).ips![0]!.address);
  assert.is(new Set(given).size, 40);
  assert.is(site.reservations('weft').length + site.reservations('cbr0').length, 40);
});

test('networks with ranges of their own may share addresses, as two bridges without a connection do', () => {
  const site = sites().make();
  site.writeNodeFile();
  for (const name of ['one', 'two']) {
    const store = new Store(site, { subnet: '10.1.2.0/24' }, { name });
    assert.equal(store.take('c1', { args: 'IP=10.1.2.9' }), ['10.1.2.9/24'], name);
  }
  // Without weftd there is no subnet of the node.
  const plain = sites().make();
  for (const name of ['one', 'two']) {
    assert.equal(new Store(plain, { subnet: '10.96.7.0/24' }, { name }).take('c1'), ['10.96.7.2/24'], name);
  }
});

test('flannel with host-local refuses a subnet of which another network holds addresses', () => {
  const site = sites().make();
  site.writeSubnetEnv();
  const pod = site.addPod();
  site.writeStore('10.97.3.2', 'other\r\neth0', 'weft');
  site.writeStore('10.1.2.3', 'other\r\neth0', 'foreign');
  const text = /"weft" has addresses of this node's subnet, as 10\.97\.3\.2, .* the name "weft", or set "ipam\.type"/;
  const stdin = flannelKeys(site, { cniVersion: '0.4.0' });
  site.refuses(() => callFlannel(site, 'ADD', pod, stdin, { path: bothFolders }), 7, text);
  const status = callFlannel(site, 'STATUS', pod, flannelKeys(site), { path: bothFolders });
  fails(status, 7, text);
  // Both remedies help.
  const { dataDir, runDir, subnetFile } = site;
  const renamed = callFlannel(site, 'ADD', pod, { ...stdin, name: 'weft' }, { path: bothFolders });
  assert.is(succeeds(renamed).ips?.[0]?.address, '10.97.3.3/24');
  const second = site.addPod();
  const ipam = { type: 'weft-ipam', dataDir, runDir, subnetFile };
  const typed = callFlannel(site, 'ADD', second, { ...stdin, ipam }, { path: bothFolders });
  assert.is(succeeds(typed).ips?.[0]?.address, '10.97.3.4/24');
  // Weft's own code knows the other networks.
  const third = site.addPod();
  const own = callFlannel(site, 'ADD', third, flannelKeys(site), { path: pluginFolder });
  assert.is(succeeds(own).ips?.[0]?.address, '10.97.3.5/24');
});

test("weft deletes what flannel's chain has made, under the same name and under another", async () => {
  for (const name of ['cbr0', 'weft']) {
    const site = sites().make();
    site.writeNodeFile();
    const mounts = await MountNamespace.open(site.scratch, 'slave');
    const state = join(site.folder, 'cni');
    mkdirSync(state);
    mounts.mount('--bind', state, '/var/lib/cni');
    const records = join(state, 'flannel');
    const [pod, other] = site.addPods(2) as [PodSpace, PodSpace];
    const record = {
      cniVersion: '0.4.0',
      name: 'cbr0',
      type: 'bridge',
      isGateway: true,
      ipMasq: true,
      ipam: { type: 'host-local', dataDir: site.dataDir, ranges: [[{ subnet: '10.96.7.0/24' }]] },
    };
    mkdirSync(records);
    for (const each of [pod, other]) {
      succeeds(reference(site, 'bridge', 'ADD', each, record));
      writeFileSync(join(records, each.id), JSON.stringify(record));
    }
    const rules = () => site.execute(['iptables-save', '-t', 'nat']).stdout;
    assert.match(rules(), /10\.96\.7\.2\/32/);
    // Another network's interface of the same container: flannel's record is not its own.
    const overlay = site.overlay({ name });
    const through = mounts.enter(site.namespace);
    site.add(other, { ...overlay, name: 'second', bridge: 'cni0' }, { ifname: 'net1' });
    site.delete(other, { ...overlay, name: 'second', bridge: 'cni0' }, { ifname: 'net1', through });
    assert.equal(readdirSync(records).sort(), [pod.id, other.id].sort());
    for (let i = 0; i < 2; i++) site.delete(pod, overlay, { through });
    assert.equal(readLinks(pod.namespace), []);
    assert.equal(site.reservations('cbr0'), ['10.96.7.3']);
    assert.equal(readdirSync(records), [other.id]);
    assert.not.match(rules(), /10\.96\.7\.2\/32/);
    assert.match(rules(), /10\.96\.7\.3\/32/);
    // A damaged record hinders no DEL.
    writeFileSync(join(records, other.id), '{');
    const damaged = site.weft('DEL', other, overlay, { through });
    assert.is(damaged.status, 0);
    assert.match(damaged.stderr, /is no record of a container/);
    assert.ok(existsSync(join(records, other.id)));
  }
});

test('a container that was attached before its network was renamed is deleted wholly under the new name', () => {
  const site = sites().make();
  site.writeNodeFile();
  const pod = site.addPod();
  site.add(pod, site.overlay({ name: 'before' }));
  assert.equal(site.reservations('before'), ['10.96.7.2']);
  for (let i = 0; i < 2; i++) site.delete(pod, site.overlay());
  assert.equal(readLinks(pod.namespace), []);
  assert.equal(site.reservations('before'), []);
});

test("another interface with the node's subnet makes ADD refuse, and a wider network or a tunnel's address does not", () => {
  const site = sites().make();
  site.writeNodeFile();
  site.writeSubnetEnv();
  for (const [name, address] of [
    ['docker0', '10.96.7.1/24'],
    ['flannel.1', '10.96.7.0/32'],
    ['eth9', '10.0.0.9/8'],
  ] as const) {
    site.ip('link', 'add', name, 'type', 'bridge');
    site.ip('addr', 'add', address, 'dev', name);
  }
  const pod = site.addPod();
  const text = /"docker0" has the address 10\.96\.7\.1\/24 in the subnet of the bridge "cni0".*--bip/;
  site.refuses(() => site.weft('ADD', pod, site.overlay()), 116, text);
  // A part of the subnet is enough, whether the bridge is there or not.
  site.ip('addr', 'del', '10.96.7.1/24', 'dev', 'docker0');
  site.add(pod, site.overlay());
  site.ip('link', 'add', 'br-7', 'type', 'bridge');
  site.ip('addr', 'add', '10.96.7.129/25', 'dev', 'br-7');
  const other = site.addPod();
  site.refuses(() => site.weft('ADD', other, site.overlay()), 116, /"br-7" has .* set "bridge" to "br-7"/);
  site.delete(pod, site.overlay());
  // Networks with ranges of their own are their administrator's.
  site.add(other, site.bridge({}, { subnet: '10.96.7.128/25' }), { ifname: 'net1' });
  site.delete(other, site.bridge({}, { subnet: '10.96.7.128/25' }), { ifname: 'net1' });
  site.ip('link', 'del', 'br0');
  // flannel's chain looks, too, with the bridge plugin and without it.
  site.ip('addr', 'add', '10.97.3.1/24', 'dev', 'docker0');
  for (const path of [bothFolders, pluginFolder]) {
    const stdin = flannelKeys(site, { cniVersion: '0.4.0' });
    site.refuses(
      () => callFlannel(site, 'ADD', pod, stdin, { path }),
      116,
      /"docker0" has the address 10\.97\.3\.1\/24/,
    );
    // Weft may use Docker's bridge.
    const delegate = { bridge: 'docker0', isDefaultGateway: true };
    const added = callFlannel(site, 'ADD', pod, { ...stdin, delegate }, { path });
    assert.match(succeeds(added).ips?.[0]?.address ?? '', /^10\.97\.3\./);
    succeeds(callFlannel(site, 'DEL', pod, { ...stdin, delegate }, { path }));
  }
});

run();
