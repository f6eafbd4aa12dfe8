import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { planImport } from '../../../../cli/import-v2/plan.ts';
import type { Lease } from '../../../../cluster/lease.ts';
import { parseNetworkConfig } from '../../../../cluster/network-config.ts';
import { backends } from '../../../../daemon/backends/map.ts';
import { parseAddress } from '../../../../net/address.ts';
import { parsePrefix } from '../../../../net/prefix.ts';

const test = suite('cli/import-v2/plan');

const config = parseNetworkConfig('{"Network":"10.5.0.0/16","Backend":{"Type":"vxlan"}}', backends);
const there = (subnet: string, reservation: boolean): Lease => ({
  ownerId: `/coreos.com/network/subnets/${subnet.replace('/', '-')}`,
  subnets: { 4: parsePrefix(subnet)! },
  publicAddresses: { 4: parseAddress('192.0.2.9')! },
  backendType: 'vxlan',
  backendData: {},
  reservation,
  ofFlannel: true,
  seniority: '1',
  handle: undefined,
});
const value = '{"PublicIP":"192.0.2.2","BackendType":"vxlan","BackendData":{"VtepMAC":"02:00:00:00:00:01"}}';
const plan = (names: readonly string[], leases: readonly Lease[] = [], text = value) =>
  planImport(
    {
      config: '',
      networks: [],
      found: true,
      subnets: names.map((name) => ({ name: name.replace('!', ''), value: text, expires: name.endsWith('!') })),
    },
    config,
    { backends, there: leases },
  );

test('reservations come along with their text; leases are counted', () => {
  const { reservations, left, leases } = plan(['10.5.2.0-24', '10.5.3.0-24!', '10.5.4.0-24!']);
  assert.equal(
    reservations.map(({ title, value: text }) => [title, text]),
    [['10.5.2.0/24 of 192.0.2.2', value]],
  );
  assert.equal([left, leases], [[], 2]);
});

test('a reservation that is no subnet, or that the config does not allow, is left', () => {
  const { reservations, left } = plan([
    '10.5.2.7-24',
    'x'.repeat(50_000),
    '../../config',
    '10.6.2.0-24',
    '10.5.2.0-25',
  ]);
  assert.equal(reservations, []);
  assert.is(left.length, 5);
  assert.match(left[0]!, /bits set beyond its length/);
  assert.ok(left[1]!.length < 1000, 'a long name is cut');
  assert.match(left[3]!, /10\.6\.2\.0\/24 of 192\.0\.2\.2: the config allows no such subnet/);
});

test('a value that Weft and flannel cannot read is left', () => {
  for (const text of ['', '[]', '{"PublicIP":"x"}', `{"x":"${'y'.repeat(9000)}"}`]) {
    const { reservations, left } = plan(['10.5.2.0-24'], [], text);
    assert.equal([reservations.length, left.length], [0, 1], text.slice(0, 20));
  }
});

test('a subnet that v3 has leased is left; the same reservation is compared when it is written', () => {
  assert.match(plan(['10.5.2.0-24'], [there('10.5.2.0/24', false)]).left[0]!, /a node of the v3 network has leased it/);
  assert.match(plan(['10.5.2.0-24'], [there('10.5.0.0/20', true)]).left[0]!, /it overlaps a subnet of the v3 network/);
  assert.is(plan(['10.5.2.0-24'], [there('10.5.2.0/24', true)]).reservations.length, 1);
});

test.run();
