import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { keysBelow, nodeKey } from '../../../../cluster/etcd/keys.ts';
import { formatLeaseKey, parseLeaseKey } from '../../../../cluster/etcd/lease-key.ts';
import { formatSubnets, LeaseFormatError } from '../../../../cluster/lease.ts';
import { parsePrefix } from '../../../../net/prefix.ts';

const test = suite('cluster/etcd/lease-key');
const keys = keysBelow('/coreos.com/network');

test('the prefix as Go’s path.Join leaves it', () => {
  for (const prefix of ['/coreos.com/network', '/coreos.com/network/', '//coreos.com//network']) {
    assert.equal(keysBelow(prefix), keys);
  }
  assert.is(keysBelow('weft').config, 'weft/config');
  assert.is(nodeKey(keys, 'a/b'), '/coreos.com/network/nodes/a%2Fb');
});

test('keys, both ways', () => {
  for (const [name, v4, v6] of [
    ['10.5.52.0-24', '10.5.52.0/24', undefined],
    ['10.5.52.0-24&fd00:5:0:34::-64', '10.5.52.0/24', 'fd00:5:0:34::/64'],
    ['0.0.0.0-0&fd00:5:0:34::-64', undefined, 'fd00:5:0:34::/64'],
  ] as const) {
    const subnets = { ...(v4 ? { 4: parsePrefix(v4)! } : {}), ...(v6 ? { 6: parsePrefix(v6)! } : {}) };
    const key = `/coreos.com/network/subnets/${name}`;
    assert.is(formatLeaseKey(keys, subnets), key);
    assert.equal(parseLeaseKey(keys, key), subnets);
    assert.is(formatSubnets(subnets), [v4, v6].filter((text) => text).join(' '));
  }
});

test('malformed keys', () => {
  for (const name of [
    '',
    'x',
    '10.5.52.0',
    '10.5.52.0/24',
    '10.5.52.0-33',
    '10.5.52.1-24',
    '010.5.52.0-24',
    '0.0.0.0-0',
    '10.5.52.0-24&',
    '10.5.52.0-24&fd00::1-64',
    '10.5.52.0-24&10.6.0.0-24',
    'fd00::-64',
    '10.5.52.0-24/more',
  ]) {
    assert.throws(
      () => parseLeaseKey(keys, keys.subnets + name),
      (error: unknown) => error instanceof LeaseFormatError,
      name,
    );
  }
  assert.throws(() => parseLeaseKey(keys, '/coreos.com/network/subnets-of-mine'));
});

test.run();
