/** The sources of addresses: subnets and ranges, and the choice of the next address. */

import * as assert from 'uvu/assert';
import { own, succeeds } from '../support/cni.ts';
import { fixture } from '../support/fixture.ts';
import { version } from '../support/versions.ts';
import { conformance } from './rows.ts';
import { Sites } from './site.ts';
import { Store } from './store.ts';

const { before, after, row, test, run } = conformance('addresses');
const sites = fixture(
  { before, after },
  () => new Sites('addresses'),
  (made) => made.remove(),
);
type Keys = Record<string, unknown>;
/** A store of a new site. */
const newStore = (ipam: Keys, configuration: Keys = {}): Store => new Store(sites().make(), ipam, configuration);
const subnet = '10.1.2.0/24';

row(37, () => {
  assert.equal(newStore({ subnet }).add('c1'), {
    cniVersion: version(),
    ips: [{ address: '10.1.2.2/24', gateway: '10.1.2.1' }],
  });
  assert.equal(newStore({ ranges: [[{ subnet }]] }).take('c1'), ['10.1.2.2/24']);
});

row(38, () => {
  assert.equal(newStore({ subnet: '2001:db8:1::/64' }).add('c1').ips, [
    { address: '2001:db8:1::2/64', gateway: '2001:db8:1::1' },
  ]);
});

row(39, () => {
  const store = newStore({ subnet: '10.1.2.0/30' });
  assert.equal(store.take('c1'), ['10.1.2.2/30']);
  store.refuses('c2', own, /no IP addresses available in range set/);
});

row(40, () => {
  for (const small of ['10.1.2.0/31', '10.1.2.0/32', 'fd00::/127', 'fd00::/128']) {
    newStore({ subnet: small }).isInvalid(/too small/);
    newStore({ ranges: [[{ subnet: small }]] }).isInvalid(/too small/);
  }
});

row(41, () => {
  for (const prefix of ['10.1.2.3/24', 'fd00::1/64']) newStore({ subnet: prefix }).isInvalid(/host bits|network/i);
});

row(42, () => {
  for (const bounds of [
    { rangeStart: '10.1.3.1' },
    { rangeEnd: '10.1.3.1' },
    { rangeStart: '10.1.1.255' },
    { rangeStart: '10.1.2.9', rangeEnd: '10.1.2.8' },
    { rangeStart: 'fd00::1' },
  ]) {
    newStore({ subnet, ...bounds }).isInvalid();
    newStore({ ranges: [[{ subnet, ...bounds }]] }).isInvalid();
  }
});

row(43, () => {
  for (const prefix of ['10.1.2.0', '10.1.2.0/33', '10.1.2/24', 'fd00::/129', 'x', '']) {
    newStore({ ranges: [[{ subnet: prefix }]] }).isInvalid();
  }
  for (const gateway of ['10.1.2', 'x', '10.1.2.1/24']) newStore({ subnet, gateway }).isInvalid();
  for (const keys of [{ subnet, gateway: '10.7.7.7' }, { ranges: [[{ subnet, gateway: '10.1.3.1' }]] }]) {
    newStore(keys).isInvalid(/gateway" \S+ is not in the subnet 10\.1\.2\.0\/24/);
  }
});

row(44, () => {
  const site = sites().make();
  new Store(site, {}, { ipam: undefined }).isInvalid();
  // Without ranges the node's subnets are meant, and this site has none.
  new Store(site, {}).isInvalid(undefined, [7, 11]);
  new Store(site, { ranges: [] }).isInvalid(undefined, [7, 11]);
  new Store(site, { ranges: [[]] }).isInvalid();
  new Store(site, { ranges: [{ subnet }] }).isInvalid(undefined, [6, 7]);
  new Store(site, { ranges: [[{}]] }).isInvalid();
});

row(45, () => newStore({ ranges: [[{ subnet }, { subnet: 'fd00::/64' }]] }).isInvalid());

row(46, () => {
  newStore({ ranges: [[{ subnet }, { subnet }]] }).isInvalid(/overlap/);
  newStore({ ranges: [[{ subnet: '10.1.0.0/16' }, { subnet }]] }).isInvalid(/overlap/);
});

row(47, () => {
  const ranges = [[{ subnet: '10.1.2.0/24' }], [{ subnet: '10.1.0.0/22' }]];
  newStore({ ranges }).isInvalid(/10\.1\.2\..*10\.1\.[0-3]\.|10\.1\.[0-3]\..*10\.1\.2\./);
  newStore({ ranges }).isInvalid(/overlap/);
});

row(48, () => {
  newStore({ ranges: [[{ subnet }], [{ subnet: '10.9.2.0/24' }]] }).isInvalid();
});

row(49, () => {
  const document = succeeds(newStore({ ranges: [[{ subnet }], [{ subnet: 'fd00::/64' }]] }).call('ADD', 'c1'));
  assert.is(document.ip4?.ip, '10.1.2.2/24');
  assert.is(document.ip4?.gateway, '10.1.2.1');
  assert.is(document.ip6?.ip, 'fd00::2/64');
  assert.is(document.ip6?.gateway, 'fd00::1');
});

row(50, () => {
  const store = newStore({ subnet, ranges: [[{ subnet: '10.9.2.0/24' }]] });
  assert.equal(store.take('c1'), ['10.1.2.2/24', '10.9.2.2/24']);
});

row(51, () => {
  const runtimeConfig = { ipRanges: [[{ subnet: '10.200.0.0/24' }], [{ subnet: 'fd00:200::/64' }]] };
  const store = newStore({ subnet, ranges: [[{ subnet: '10.9.2.0/24' }]] }, { runtimeConfig });
  assert.equal(store.take('c1'), ['10.200.0.2/24', 'fd00:200::2/64', '10.1.2.2/24', '10.9.2.2/24']);
  assert.equal(newStore({}, { runtimeConfig }).take('c1'), ['10.200.0.2/24', 'fd00:200::2/64']);
});

row(52, () => {
  const store = newStore({ subnet, gateway: '10.1.2.5' });
  assert.equal(store.add('c1').ips, [{ address: '10.1.2.1/24', gateway: '10.1.2.5' }]);
  const addresses = ['c2', 'c3', 'c4', 'c5'].flatMap((id) => store.take(id));
  assert.equal(addresses, ['10.1.2.2/24', '10.1.2.3/24', '10.1.2.4/24', '10.1.2.6/24']);
});

row(53, () => {
  const store = newStore({ subnet });
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
  const store = newStore({ ranges });
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
  const store = newStore({ subnet });
  store.site.writeStore('last_reserved_ip.0', '99.9.9.9');
  assert.equal(store.take('c1'), ['10.1.2.2/24']);
  // A failed write leaves this.
  store.site.writeStore('last_reserved_ip.0', '');
  assert.equal(store.take('c2'), ['10.1.2.3/24']);
});

row(56, () => {
  for (const last of ['10.1.2.6', '10.1.2.3', undefined]) {
    const store = newStore({ subnet: '10.1.2.0/29' });
    for (const host of [2, 3, 4, 5]) store.site.writeStore(`10.1.2.${host}`, `other-${host}\r\neth0`);
    if (last) store.site.writeStore('last_reserved_ip.0', last);
    assert.equal(store.take('c1'), ['10.1.2.6/29'], `last was ${last}`);
  }
});

row(57, () => {
  const store = newStore({ subnet: '10.1.2.0/29' });
  const taken = ['c1', 'c2', 'c3', 'c4', 'c5'].flatMap((id) => store.take(id));
  assert.equal(
    taken,
    [2, 3, 4, 5, 6].map((host) => `10.1.2.${host}/29`),
  );
  store.refuses('c6', own);
  assert.equal(newStore({ subnet, rangeStart: '10.1.2.255', rangeEnd: '10.1.2.255' }).take('c1'), ['10.1.2.255/24']);
});

row(60, () => {
  const store = newStore({ subnet });
  assert.equal(store.take('c1', { args: 'IP=10.1.2.88' }), ['10.1.2.88/24']);
  assert.equal(store.with({ subnet }, { args: { cni: { ips: ['10.1.2.89'] } } }).take('c2'), ['10.1.2.89/24']);
  assert.equal(store.with({ subnet }, { runtimeConfig: { ips: ['10.1.2.90'] } }).take('c3'), ['10.1.2.90/24']);
  assert.equal(store.take('c4'), ['10.1.2.91/24'], 'a requested address is the last one, too');
  const both = newStore({ ranges: [[{ subnet }], [{ subnet: 'fd00::/64' }]] });
  assert.equal(both.take('c1', { args: 'IP=10.1.2.7,fd00::7' }), ['10.1.2.7/24', 'fd00::7/64']);
});

row(61, () => {
  const store = newStore({ subnet });
  store.refuses('c1', own, /failed to allocate all requested IPs/, { args: 'IP=10.9.9.9' });
  store.with({ subnet }, { runtimeConfig: { ips: ['10.1.2.8', '10.9.9.9'] } }).refuses('c1', own);
  assert.equal(store.site.reservations(), []);
});

row(62, () => {
  const store = newStore({ subnet });
  store.refuses('c1', own, /gateway/, { args: 'IP=10.1.2.1' });
  store.take('c1', { args: 'IP=10.1.2.8' });
  store.refuses('c2', own, /10\.1\.2\.8/, { args: 'IP=10.1.2.8' });
  for (const edge of ['10.1.2.0', '10.1.2.255']) store.refuses('c2', own, undefined, { args: `IP=${edge}` });
  store.refuses('c2', [4, 7], undefined, { args: 'IP=10.1.2' });
});

row(63, () => {
  const ranges = [[{ subnet }], [{ subnet: '10.9.2.0/30' }]];
  const store = newStore({ ranges });
  store.take('c1');
  store.refuses('c2', own, /no IP addresses available in range set/);
  assert.equal(store.site.reservations(), ['10.1.2.2', '10.9.2.2']);
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
  const store = newStore({ ranges }, requests);
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
  assert.equal(newStore({ ranges: [[low, high]] }).take('c1'), ['10.1.2.2/24']);
  assert.equal(newStore({ ranges: [[low], [high]] }).take('c1'), ['10.1.2.2/24', '10.1.2.100/24']);
  assert.is(newStore({ ranges: [[{ subnet: '0.0.0.0/1' }], [{ subnet: '::/64' }]] }).take('c1').length, 2);
  newStore({ ranges: [[low], [{ subnet, rangeStart: '10.1.2.99' }]] }).isInvalid(/overlap/);
});

test('a requested address does not bypass the rule of one address per family', () => {
  const store = newStore({ subnet });
  store.take('c1', { args: 'IP=10.1.2.7' });
  store.refuses('c1', own, undefined, { args: 'IP=10.1.2.8' });
});

run();
