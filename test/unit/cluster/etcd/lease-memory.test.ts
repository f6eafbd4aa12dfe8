import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { EtcdHandle } from '../../../../cluster/etcd/handle.ts';
import { keysBelow } from '../../../../cluster/etcd/keys.ts';
import { parseLeaseKey } from '../../../../cluster/etcd/lease-key.ts';
import { formatLeaseMemory, parseLeaseMemory } from '../../../../cluster/etcd/lease-memory.ts';
import { EtcdMark } from '../../../../cluster/etcd/mark.ts';
import { parseLeaseValue } from '../../../../cluster/lease.ts';
import type { LeaseMemory } from '../../../../cluster/store.ts';
import { backends } from '../../../../daemon/backends/map.ts';

const test = suite('cluster/etcd/lease-memory');
const keys = keysBelow('/p');

const remembered = (name: string, value: object, untilMs: number) => {
  const key = `/p/subnets/${name}`;
  const { extra, ...lease } = parseLeaseValue(JSON.stringify(value), backends);
  return {
    lease: {
      ...lease,
      ownerId: key,
      subnets: parseLeaseKey(keys, key),
      reservation: false,
      ofFlannel: lease.node === undefined,
      seniority: '0',
      handle: new EtcdHandle('0', '0', extra),
    },
    untilMs,
  };
};

const memory: LeaseMemory = {
  mark: new EtcdMark('14841639068965178418', 0, '77'),
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
  assert.equal(parseLeaseMemory(formatLeaseMemory(memory, '/p', backends), keys, backends), memory);
});

test('the file of another network, a broken file, no file: nothing is remembered; an unreadable lease is left out', () => {
  const text = formatLeaseMemory(memory, '/p', backends);
  assert.is(parseLeaseMemory(text, keysBelow('/q'), backends), undefined);
  for (const broken of ['', '{', 'null', '[]', '{"version":2}', text.replace('"77"', '"x"'), text.slice(0, -20)]) {
    assert.is(parseLeaseMemory(broken, keys, backends), undefined, broken);
  }
  assert.is(parseLeaseMemory(text.replace('10.5.3.0-24', '10.5.3.1-24'), keys, backends)!.peers.length, 1);
  assert.is(parseLeaseMemory(text.replace('"until":2', '"until":"2"'), keys, backends)!.peers.length, 1);
});

test('the peers are read on demand, once', () => {
  const parsed = parseLeaseMemory(formatLeaseMemory(memory, '/p', backends), keys, backends)!;
  const { get } = Object.getOwnPropertyDescriptor(parsed, 'peers')!;
  assert.type(get, 'function');
  assert.is(parsed.peers, parsed.peers);
});

test.run();
