import { existsSync, mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import * as assert from 'uvu/assert';
import { execute } from '../lab/commands.ts';
import type { CallOptions, CniDocument } from '../lab/plugin.ts';
import { bothFolders } from '../lab/plugin.ts';
import { referenceFolder } from '../lab/project.ts';
import { fails, own, succeeds } from '../support/cni.ts';
import { fixture } from '../support/fixture.ts';
import { hasCheck, readResult, version, writeResult } from '../support/versions.ts';
import { conformance } from './rows.ts';
import { type Site, Sites } from './site.ts';

const { before, after, row, test, run } = conformance('addresses');
const sites = fixture(
  { before, after },
  () => new Sites('addresses'),
  (made) => made.remove(),
);

type Keys = Record<string, unknown>;

/** A site, and `weft-ipam` called with one `ipam` section. */
class Store {
  readonly site: Site;
  readonly stdin: Keys;

  constructor(ipam: Keys, configuration: Keys = {}, site = sites().make()) {
    this.site = site;
    const { runDir, subnetFile } = site;
    this.stdin = {
      cniVersion: version(),
      name: 'net',
      type: 'any',
      ipam: site.ipam({ runDir, subnetFile, ...ipam }),
      ...configuration,
    };
  }

  /** The same store, another configuration. */
  with(ipam: Keys, configuration: Keys = {}): Store {
    return new Store(ipam, configuration, this.site);
  }

  call(command: string, containerId: string, options: CallOptions = {}) {
    const netns = join(this.site.folder, 'no-netns');
    return this.site.call('weft-ipam', { command, containerId, netns, ifname: 'eth0', stdin: this.stdin, ...options });
  }

  /** ADD, which succeeds. @returns the result in the shape of 1.0.0 */
  add(containerId: string, options: CallOptions = {}): CniDocument {
    return readResult(succeeds(this.call('ADD', containerId, options)));
  }

  /** The addresses an ADD gives. */
  take(containerId: string, options: CallOptions = {}): string[] {
    return this.add(containerId, options).ips!.map(({ address }) => address);
  }

  free(containerId: string, options: CallOptions = {}): void {
    const outcome = this.call('DEL', containerId, options);
    succeeds(outcome);
    assert.is(outcome.stdout, '');
  }

  refuses(
    containerId: string,
    codes: Parameters<typeof fails>[1],
    text?: RegExp,
    options: CallOptions = {},
  ): CniDocument {
    return this.site.refuses(() => this.call('ADD', containerId, options), codes, text, []);
  }

  /** Every command but DEL finds fault with the configuration. */
  isInvalid(text?: RegExp, codes: Parameters<typeof fails>[1] = 7): void {
    this.refuses('c1', codes, text);
  }
}

const subnet = '10.1.2.0/24';

row(37, () => {
  assert.equal(new Store({ subnet }).add('c1'), {
    cniVersion: version(),
    ips: [{ address: '10.1.2.2/24', gateway: '10.1.2.1' }],
  });
  assert.equal(new Store({ ranges: [[{ subnet }]] }).take('c1'), ['10.1.2.2/24']);
});

row(38, () => {
  assert.equal(new Store({ subnet: '2001:db8:1::/64' }).add('c1').ips, [
    { address: '2001:db8:1::2/64', gateway: '2001:db8:1::1' },
  ]);
});

row(39, () => {
  const store = new Store({ subnet: '10.1.2.0/30' });
  assert.equal(store.take('c1'), ['10.1.2.2/30']);
  store.refuses('c2', own, /no IP addresses available in range set/);
});

row(40, () => {
  for (const small of ['10.1.2.0/31', '10.1.2.0/32', 'fd00::/127', 'fd00::/128']) {
    new Store({ subnet: small }).isInvalid(/too small/);
    new Store({ ranges: [[{ subnet: small }]] }).isInvalid(/too small/);
  }
});

row(41, () => {
  for (const prefix of ['10.1.2.3/24', 'fd00::1/64']) new Store({ subnet: prefix }).isInvalid(/host bits|network/i);
});

row(42, () => {
  for (const bounds of [
    { rangeStart: '10.1.3.1' },
    { rangeEnd: '10.1.3.1' },
    { rangeStart: '10.1.1.255' },
    { rangeStart: '10.1.2.9', rangeEnd: '10.1.2.8' },
    { rangeStart: 'fd00::1' },
  ]) {
    new Store({ subnet, ...bounds }).isInvalid();
    new Store({ ranges: [[{ subnet, ...bounds }]] }).isInvalid();
  }
});

row(43, () => {
  for (const prefix of ['10.1.2.0', '10.1.2.0/33', '10.1.2/24', 'fd00::/129', 'x', '']) {
    new Store({ ranges: [[{ subnet: prefix }]] }).isInvalid();
  }
  for (const gateway of ['10.1.2', 'x', '10.1.2.1/24']) new Store({ subnet, gateway }).isInvalid();
});

row(44, () => {
  const site = sites().make();
  new Store({}, { ipam: undefined }, site).isInvalid();
  // Without ranges the node's subnets are meant, and this site has none.
  new Store({}, {}, site).isInvalid(undefined, [7, 11]);
  new Store({ ranges: [] }, {}, site).isInvalid(undefined, [7, 11]);
  new Store({ ranges: [[]] }, {}, site).isInvalid();
  new Store({ ranges: [{ subnet }] }, {}, site).isInvalid(undefined, [6, 7]);
  new Store({ ranges: [[{}]] }, {}, site).isInvalid();
});

row(45, () => new Store({ ranges: [[{ subnet }, { subnet: 'fd00::/64' }]] }).isInvalid());

row(46, () => {
  new Store({ ranges: [[{ subnet }, { subnet }]] }).isInvalid(/overlap/);
  new Store({ ranges: [[{ subnet: '10.1.0.0/16' }, { subnet }]] }).isInvalid(/overlap/);
});

row(47, () => {
  const ranges = [[{ subnet: '10.1.2.0/24' }], [{ subnet: '10.1.0.0/22' }]];
  new Store({ ranges }).isInvalid(/10\.1\.2\..*10\.1\.[0-3]\.|10\.1\.[0-3]\..*10\.1\.2\./);
  new Store({ ranges }).isInvalid(/overlap/);
});

row(48, () => {
  new Store({ ranges: [[{ subnet }], [{ subnet: '10.9.2.0/24' }]] }).isInvalid();
});

row(49, () => {
  const document = succeeds(new Store({ ranges: [[{ subnet }], [{ subnet: 'fd00::/64' }]] }).call('ADD', 'c1'));
  assert.is(document.ip4?.ip, '10.1.2.2/24');
  assert.is(document.ip4?.gateway, '10.1.2.1');
  assert.is(document.ip6?.ip, 'fd00::2/64');
  assert.is(document.ip6?.gateway, 'fd00::1');
});

row(50, () => {
  const store = new Store({ subnet, ranges: [[{ subnet: '10.9.2.0/24' }]] });
  assert.equal(store.take('c1'), ['10.1.2.2/24', '10.9.2.2/24']);
});

row(51, () => {
  const runtimeConfig = { ipRanges: [[{ subnet: '10.200.0.0/24' }], [{ subnet: 'fd00:200::/64' }]] };
  const store = new Store({ subnet, ranges: [[{ subnet: '10.9.2.0/24' }]] }, { runtimeConfig });
  assert.equal(store.take('c1'), ['10.200.0.2/24', 'fd00:200::2/64', '10.1.2.2/24', '10.9.2.2/24']);
  assert.equal(new Store({}, { runtimeConfig }).take('c1'), ['10.200.0.2/24', 'fd00:200::2/64']);
});

row(52, () => {
  const store = new Store({ subnet, gateway: '10.1.2.5' });
  assert.equal(store.add('c1').ips, [{ address: '10.1.2.1/24', gateway: '10.1.2.5' }]);
  const addresses = ['c2', 'c3', 'c4', 'c5'].flatMap((id) => store.take(id));
  assert.equal(addresses, ['10.1.2.2/24', '10.1.2.3/24', '10.1.2.4/24', '10.1.2.6/24']);
});

row(53, () => {
  const store = new Store({ subnet });
  assert.equal(store.take('c1'), ['10.1.2.2/24']);
  assert.equal(store.take('c2'), ['10.1.2.3/24']);
  store.free('c1');
  store.free('c2');
  assert.equal(store.take('c3'), ['10.1.2.4/24']);
});

row(54, () => {
  const ranges = [
    [
      { subnet: '10.1.0.0/24', rangeStart: '10.1.0.10', rangeEnd: '10.1.0.11' },
      { subnet: '10.2.0.0/24', rangeStart: '10.2.0.20', rangeEnd: '10.2.0.21' },
    ],
  ];
  const store = new Store({ ranges });
  const taken = ['c1', 'c2', 'c3', 'c4'].map((id) => store.add(id).ips?.[0]);
  assert.equal(taken, [
    { address: '10.1.0.10/24', gateway: '10.1.0.1' },
    { address: '10.1.0.11/24', gateway: '10.1.0.1' },
    { address: '10.2.0.20/24', gateway: '10.2.0.1' },
    { address: '10.2.0.21/24', gateway: '10.2.0.1' },
  ]);
  store.refuses('c5', own);
  for (const id of ['c1', 'c2', 'c3', 'c4']) store.free(id);
  assert.equal(store.take('c6'), ['10.1.0.10/24']);
});

row(55, () => {
  const store = new Store({ subnet });
  store.site.writeStore('last_reserved_ip.0', '99.9.9.9');
  assert.equal(store.take('c1'), ['10.1.2.2/24']);
  // What a failed write leaves.
  store.site.writeStore('last_reserved_ip.0', '');
  assert.equal(store.take('c2'), ['10.1.2.3/24']);
});

row(56, () => {
  for (const last of ['10.1.2.6', '10.1.2.3', undefined]) {
    const store = new Store({ subnet: '10.1.2.0/29' });
    for (const host of [2, 3, 4, 5]) store.site.writeStore(`10.1.2.${host}`, `other-${host}\r\neth0`);
    if (last) store.site.writeStore('last_reserved_ip.0', last);
    assert.equal(store.take('c1'), ['10.1.2.6/29'], `last was ${last}`);
  }
});

row(57, () => {
  const store = new Store({ subnet: '10.1.2.0/29' });
  const taken = ['c1', 'c2', 'c3', 'c4', 'c5'].flatMap((id) => store.take(id));
  assert.equal(
    taken,
    [2, 3, 4, 5, 6].map((host) => `10.1.2.${host}/29`),
  );
  store.refuses('c6', own);
  assert.equal(new Store({ subnet, rangeStart: '10.1.2.255', rangeEnd: '10.1.2.255' }).take('c1'), ['10.1.2.255/24']);
});

row(58, () => {
  const store = new Store({ subnet });
  store.take('c1');
  store.refuses('c1', own, /duplicate|already/);
  assert.equal(store.site.reservations(), ['10.1.2.2']);
  store.refuses('c1', own, undefined, { args: 'IP=10.1.2.77' });
});

row(59, () => {
  const store = new Store({ subnet });
  assert.equal(store.take('c1'), ['10.1.2.2/24']);
  assert.equal(store.take('c1', { ifname: 'eth1' }), ['10.1.2.3/24']);
  store.free('c1', { ifname: 'eth1' });
  assert.equal(store.site.reservations(), ['10.1.2.2']);
});

row(60, () => {
  const store = new Store({ subnet });
  assert.equal(store.take('c1', { args: 'IP=10.1.2.88' }), ['10.1.2.88/24']);
  assert.equal(store.with({ subnet }, { args: { cni: { ips: ['10.1.2.89'] } } }).take('c2'), ['10.1.2.89/24']);
  assert.equal(store.with({ subnet }, { runtimeConfig: { ips: ['10.1.2.90'] } }).take('c3'), ['10.1.2.90/24']);
  assert.equal(store.take('c4'), ['10.1.2.91/24'], 'a requested address is the last one, too');
  const both = new Store({ ranges: [[{ subnet }], [{ subnet: 'fd00::/64' }]] });
  assert.equal(both.take('c1', { args: 'IP=10.1.2.7,fd00::7' }), ['10.1.2.7/24', 'fd00::7/64']);
});

row(61, () => {
  const store = new Store({ subnet });
  store.refuses('c1', own, /failed to allocate all requested IPs/, { args: 'IP=10.9.9.9' });
  store.with({ subnet }, { runtimeConfig: { ips: ['10.1.2.8', '10.9.9.9'] } }).refuses('c1', own);
  assert.equal(store.site.reservations(), []);
});

row(62, () => {
  const store = new Store({ subnet });
  store.refuses('c1', own, /gateway/, { args: 'IP=10.1.2.1' });
  store.take('c1', { args: 'IP=10.1.2.8' });
  store.refuses('c2', own, /10\.1\.2\.8/, { args: 'IP=10.1.2.8' });
  for (const edge of ['10.1.2.0', '10.1.2.255']) store.refuses('c2', own, undefined, { args: `IP=${edge}` });
  store.refuses('c2', [4, 7], undefined, { args: 'IP=10.1.2' });
});

row(63, () => {
  const ranges = [[{ subnet }], [{ subnet: '10.9.2.0/30' }]];
  const store = new Store({ ranges });
  store.take('c1');
  store.refuses('c2', own, /no IP addresses available in range set/);
  assert.equal(store.site.reservations(), ['10.1.2.2', '10.9.2.2']);
});

row(64, () => {
  const site = sites().make();
  const resolvConf = join(site.folder, 'resolv.conf');
  writeFileSync(
    resolvConf,
    'nameserver 192.0.2.3\nnameserver fd00::53\nsearch a.example b.example\ndomain example\noptions ndots:2\n',
  );
  assert.equal(new Store({ subnet, resolvConf }, {}, site).add('c1').dns, {
    nameservers: ['192.0.2.3', 'fd00::53'],
    domain: 'example',
    search: ['a.example', 'b.example'],
    options: ['ndots:2'],
  });
  const absent = join(site.folder, 'absent');
  new Store({ subnet, resolvConf: absent }, {}, site).refuses('c2', [5, 7, 108], /absent/);
});

row(65, () => {
  const plain = [{ dst: '0.0.0.0/0' }, { dst: '192.168.0.0/16', gw: '10.1.2.9' }, { dst: 'fd00:7::/64' }];
  const given = new Store({ subnet, routes: plain }).add('c1').routes;
  // Before 0.3.0 routes are with an address of their family.
  assert.equal(given, version() < '0.3.0' ? plain.slice(0, 2) : plain);
  if (version() < '1.1.0') return;
  const extras = [{ dst: '192.168.0.0/16', gw: '10.1.2.9', mtu: 1400, advmss: 1360, priority: 7, table: 9, scope: 0 }];
  assert.equal(new Store({ subnet, routes: extras }).add('c1').routes, extras);
});

row(66, () => {
  const store = new Store({ subnet });
  store.free('c1');
  store.take('c1');
  store.free('c1');
  store.free('c1');
  store.take('c1');
  store.free('c1', { netns: undefined });
  assert.equal(store.site.reservations(), []);
});

row(67, () => {
  const store = new Store({ ranges: [[{ subnet }], [{ subnet: '10.9.2.0/24' }], [{ subnet: 'fd00::/64' }]] });
  assert.is(store.take('c1').length, 3);
  assert.is(store.take('c2').length, 3);
  assert.is(store.site.reservations().length, 6);
  store.free('c1');
  assert.equal(store.site.reservations(), ['10.1.2.3', '10.9.2.3', 'fd00::3']);
});

row(68, () => {
  const store = new Store({ subnet });
  store.site.writeStore('10.1.2.9', 'c1');
  store.site.writeStore('10.1.2.10', 'c10');
  store.free('c1');
  assert.equal(store.site.reservations(), ['10.1.2.10']);
});

row(69, () => {
  const store = new Store({ subnet });
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

test('STATUS says why no address can be had', () => {
  const status = (ipam: Keys, text: RegExp, site = sites().make()) =>
    fails(new Store(ipam, { cniVersion: '1.1.0' }, site).call('STATUS', 'c1'), 50, text);
  status({}, /no subnet yet/);
  const full = new Store({ subnet: '10.1.2.0/30' });
  full.take('c1');
  status({ subnet: '10.1.2.0/30' }, /no IP addresses available/, full.site);
  status({ subnet, rangeStart: '10.1.2.1', rangeEnd: '10.1.2.1' }, /no IP addresses available/);
  const site = sites().make();
  writeFileSync(site.dataDir, '');
  status({ subnet }, /no folder/, site);
  const broken = sites().make();
  mkdirSync(join(broken.dataDir, 'net/lock'), { recursive: true });
  status({ subnet }, /lock/, broken);
});

row(116, () => {
  const store = new Store({ ranges: [[{ subnet }], [{ subnet: 'fd00::/64' }]] });
  store.take('c1');
  const last = (set: number) => readFileSync(join(store.site.dataDir, `net/last_reserved_ip.${set}`), 'latin1');
  for (const _ of ['taken', 'released']) {
    assert.is(last(0), '10.1.2.2');
    assert.is(last(1), 'fd00::2');
    store.free('c1');
  }
});

row(117, () => {
  const ranges = [
    [
      { subnet: '10.1.0.0/24', rangeEnd: '10.1.0.99' },
      { subnet: '10.2.0.0/24', gateway: '10.2.0.254' },
    ],
    [{ subnet: 'fd00::/64' }],
    [{ subnet: '10.3.0.0/24' }],
  ];
  const requests = { args: { cni: { ips: ['fd00::7/64'] } }, runtimeConfig: { ips: ['10.3.0.7/24'] } };
  const store = new Store({ ranges }, requests);
  assert.equal(store.add('c1', { args: 'IP=10.2.0.7/24' }).ips, [
    { address: '10.2.0.7/24', gateway: '10.2.0.254' },
    { address: 'fd00::7/64', gateway: 'fd00::1' },
    { address: '10.3.0.7/24', gateway: '10.3.0.1' },
  ]);
});

row(118, () => {
  const [low, high] = [
    { subnet, rangeEnd: '10.1.2.99' },
    { subnet, rangeStart: '10.1.2.100' },
  ];
  assert.equal(new Store({ ranges: [[low, high]] }).take('c1'), ['10.1.2.2/24']);
  assert.equal(new Store({ ranges: [[low], [high]] }).take('c1'), ['10.1.2.2/24', '10.1.2.100/24']);
  assert.is(new Store({ ranges: [[{ subnet: '0.0.0.0/1' }], [{ subnet: '::/64' }]] }).take('c1').length, 2);
  new Store({ ranges: [[low], [{ subnet, rangeStart: '10.1.2.99' }]] }).isInvalid(/overlap/);
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
  assert.equal(new Store({ subnet, resolvConf }, {}, site).add('c1').dns, {
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
  const store = new Store({ subnet });
  assert.equal(store.take('c1', { args: 'MAC=02:11:22:33:44:55' }), ['10.1.2.2/24']);
});

test('the store is host-local’s, to the byte and both ways', () => {
  const { site } = new Store({ subnet });
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

test('both wait for the one lock', () => {
  const store = new Store({ subnet });
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

test('GC frees what is not listed, and keeps what is', () => {
  const store = new Store({ subnet });
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
  const status = (ipam: Keys, site?: Site) => new Store(ipam, { cniVersion: '1.1.0' }, site).call('STATUS', 'unused');
  succeeds(status({ subnet }));
  fails(status({ subnet: '10.1.2.0/33' }), [7, 50]);
  fails(status({}), [11, 50]);
  const full = new Store({ subnet: '10.1.2.0/30' });
  full.take('c1');
  fails(status({ subnet: '10.1.2.0/30' }, full.site), [50, 51]);
});

test('a damaged store does no harm', () => {
  const store = new Store({ subnet });
  store.site.writeStore('10.1.2.2', '');
  store.site.writeStore('not-an-address', 'x');
  store.site.writeStore('10.1.2.3', '\r\n');
  const [address] = store.take('c1');
  assert.ok(address === '10.1.2.2/24' || address === '10.1.2.4/24', address);
  store.free('c1');
});

test('DEL works by a configuration whose ranges became invalid', () => {
  const store = new Store({ subnet });
  store.take('c1');
  store.with({ subnet: '10.1.2.0/32' }).free('c1');
  assert.equal(store.site.reservations(), []);
});

test('a requested address does not get past the one-address rule', () => {
  const store = new Store({ subnet });
  store.take('c1', { args: 'IP=10.1.2.7' });
  store.refuses('c1', own, undefined, { args: 'IP=10.1.2.8' });
});

run();
