import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { formatNodeRecord, parseNodeRecord } from '../../../../cluster/etcd/node-record.ts';
import { parseAddress } from '../../../../net/address.ts';

const test = suite('node record');

test('both ways, with and without the containers’ number', () => {
  const record = {
    node: 'node-1',
    version: '0.1.0',
    publicAddresses: { 4: parseAddress('192.0.2.1')!, 6: parseAddress('2001:db8::1')! },
    backendType: 'vxlan',
    startedAtMs: 1_700_000_000_123,
    health: 'ok',
  };
  assert.equal(parseNodeRecord(formatNodeRecord(record)), record);
  assert.equal(parseNodeRecord(formatNodeRecord({ ...record, containers: 0 })), { ...record, containers: 0 });
});

test('malformed records say why', () => {
  for (const [text, message] of [
    ['x', 'its value is not JSON'],
    ['[]', 'its value is not a JSON object'],
    ['{}', 'it has no node name'],
    ['{"node":"a","started":"soon"}', '"started" is "soon", which is not a time'],
  ] as const) {
    assert.throws(
      () => parseNodeRecord(text),
      (error: Error) => error.message === message,
    );
  }
});

test.run();
