import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { EtcdHandle } from '../../../../cluster/etcd/handle.ts';
import { keysBelow } from '../../../../cluster/etcd/keys.ts';
import { parseLeaseKey } from '../../../../cluster/etcd/lease-key.ts';
import { formatLeaseMemory, longestMemoryBytes, parseLeaseMemory } from '../../../../cluster/etcd/lease-memory.ts';
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
  assert.equal(parseLeaseMemory(formatLeaseMemory(memory, '/p', backends).text, keys, backends), memory);
});

test('the file of another network, a broken file, no file: nothing is remembered; an unreadable lease is left out', () => {
  const text = formatLeaseMemory(memory, '/p', backends).text;
  assert.is(parseLeaseMemory(text, keysBelow('/q'), backends), undefined);
  for (const broken of ['', '{', 'null', '[]', '{"version":2}', text.replace('"77"', '"x"'), text.slice(0, -20)]) {
    assert.is(parseLeaseMemory(broken, keys, backends), undefined, broken);
  }
  assert.is(parseLeaseMemory(text.replace('10.5.3.0-24', '10.5.3.1-24'), keys, backends)!.peers.length, 1);
  assert.is(parseLeaseMemory(text.replace('"until":2', '"until":"2"'), keys, backends)!.peers.length, 1);
});

test('the peers are read on demand, once', () => {
  const parsed = parseLeaseMemory(formatLeaseMemory(memory, '/p', backends).text, keys, backends)!;
  const { get } = Object.getOwnPropertyDescriptor(parsed, 'peers')!;
  assert.type(get, 'function');
  assert.is(parsed.peers, parsed.peers);
});

test('the memory is never longer than may be read: long peers are shortened, then the youngest are left out', () => {
  const peerOf = (i: number, value: object) => {
    const peer = remembered(`10.${i >> 8}.${i & 255}.0-24`, value, 1);
    return { ...peer, lease: { ...peer.lease, seniority: String(900_000 - i) } };
  };
  const many = (count: number, value: object): LeaseMemory => ({
    ...memory,
    peers: Array.from({ length: count }, (_, i) => peerOf(i, value)),
  });
  const padded = { PublicIP: '192.0.2.3', BackendType: 'host-gw', Padding: 'x'.repeat(4000) };
  const shortened = formatLeaseMemory(many(3500, padded), '/p', backends);
  assert.is(shortened.leftOut, 0);
  assert.ok(shortened.text.length < 1_000_000);
  assert.is(parseLeaseMemory(shortened.text, keys, backends)!.peers.length, 3500);
  const long = { ...padded, Weft: { node: 'ä'.repeat(253), version: '\u0001'.repeat(253) } };
  const cut = formatLeaseMemory(many(6000, long), '/p', backends);
  assert.ok(cut.leftOut > 0 && cut.leftOut < 3000, String(cut.leftOut));
  assert.ok(Buffer.byteLength(cut.text) <= longestMemoryBytes);
  const kept = parseLeaseMemory(cut.text, keys, backends)!.peers;
  assert.is(kept.length, 6000 - cut.leftOut);
  assert.is(kept[0]!.lease.ownerId, '/p/subnets/10.23.111.0-24', 'the oldest');
});

test.run();
