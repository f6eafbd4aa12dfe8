import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { keysBelow } from '../../../cluster/etcd/keys.ts';
import { parseLeaseKey, parseLeaseValue } from '../../../cluster/lease.ts';
import { formatLeaseMemory, type LeaseMemory, parseLeaseMemory } from '../../../cluster/lease-memory.ts';

const test = suite('lease memory');
const keys = keysBelow('/p');

const remembered = (name: string, value: object, untilMs: number) => {
  const key = `/p/subnets/${name}`;
  const lease = { ...parseLeaseValue(JSON.stringify(value)), key, subnets: parseLeaseKey(keys, key) };
  return { lease: { ...lease, reservation: false, etcdLease: '0', modRevision: '0' }, untilMs };
};

const memory: LeaseMemory = {
  clusterId: '14841639068965178418',
  revision: '77',
  own: '/p/subnets/10.5.1.0-24',
  ownUntilMs: 1_700_000_000_000,
  peers: [
    remembered(
      '10.5.2.0-24&fd00:5:0:2::-64',
      {
        PublicIP: '192.0.2.2',
        PublicIPv6: '2001:db8::2',
        BackendType: 'vxlan',
        BackendData: { VNI: 1, VtepMAC: '02:00:00:00:00:02' },
        BackendV6Data: { VNI: 1, VtepMAC: '02:00:00:00:01:02' },
        Weft: { node: 'h2', version: '1' },
      },
      1,
    ),
    remembered('10.5.3.0-24', { PublicIP: '192.0.2.3', BackendType: 'host-gw', Rack: 7 }, 2),
  ],
};

test('both ways', () => {
  assert.equal(parseLeaseMemory(formatLeaseMemory(memory, '/p'), keys), memory);
});

test('another network’s, a broken one, none: nothing is remembered; of a lease that cannot be read, nothing of it', () => {
  const text = formatLeaseMemory(memory, '/p');
  assert.is(parseLeaseMemory(text, keysBelow('/q')), undefined);
  for (const broken of ['', '{', 'null', '[]', '{"version":2}', text.replace('"77"', '"x"'), text.slice(0, -20)]) {
    assert.is(parseLeaseMemory(broken, keys), undefined, broken);
  }
  assert.is(parseLeaseMemory(text.replace('10.5.3.0-24', '10.5.3.1-24'), keys)!.peers.length, 1);
  assert.is(parseLeaseMemory(text.replace('"until":2', '"until":"2"'), keys)!.peers.length, 1);
});

test.run();
