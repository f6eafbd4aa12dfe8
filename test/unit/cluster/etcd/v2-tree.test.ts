import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { parseV2Tree, V2FormatError } from '../../../../cluster/etcd/v2-tree.ts';

const test = suite('cluster/etcd/v2-tree');

const prefix = '/coreos.com/network';
const config = { key: `${prefix}/config`, value: '{"Network":"10.5.0.0/16"}', modifiedIndex: 4, createdIndex: 4 };
const lease = { key: `${prefix}/subnets/10.5.1.0-24`, value: '{}', expiration: '2026-11-29T20:00:00Z', ttl: 86_000 };
const reservation = { key: `${prefix}/subnets/10.5.2.0-24`, value: '{"PublicIP":"192.0.2.2"}' };
const subnets = { key: `${prefix}/subnets`, dir: true, nodes: [lease, reservation] };
const network = { key: prefix, dir: true, nodes: [config, subnets] };
const read = (node: unknown, where = prefix) => parseV2Tree(JSON.stringify({ action: 'get', node }), where);

test('a config, a lease and a reservation', () => {
  assert.equal(read(network), {
    config: config.value,
    subnets: [
      { name: '10.5.1.0-24', value: '{}', expires: true },
      { name: '10.5.2.0-24', value: reservation.value, expires: false },
    ],
    networks: [],
    found: true,
  });
});

test('the network is found in an answer about a whole etcd', () => {
  const coreos = { key: '/coreos.com', dir: true, nodes: [{ key: '/coreos.com/updateengine', dir: true }, network] };
  const whole = read({ dir: true, nodes: [{ key: '/registry', dir: true }, coreos] });
  assert.is(whole.config, config.value);
  assert.is(read(network, '//coreos.com//network/').config, config.value, 'the prefix in another form');
});

test('several networks below the prefix, as flannel up to 0.6 had them', () => {
  const blue = { key: `${prefix}/blue`, dir: true, nodes: [{ key: `${prefix}/blue/config`, value: '{}' }] };
  const several = read({ key: prefix, dir: true, nodes: [blue, subnets] });
  assert.equal([several.config, several.networks], [undefined, ['blue']]);
  assert.is(read({ key: prefix, dir: true, nodes: [blue] }, `${prefix}/blue`).config, '{}');
});

test('a prefix that is not there', () => {
  assert.is(read({ key: '/other', dir: true, nodes: [] }).found, false);
  assert.is(parseV2Tree('{"errorCode":100,"message":"Key not found","cause":"/coreos.com"}', prefix).found, false);
});

test('texts that are no answer', () => {
  for (const text of ['', 'nonsense', '[]', '7', '{}', '{"node":[]}', '{"errorCode":110,"message":"\\u001b[31m"}']) {
    assert.throws(
      () => parseV2Tree(text, prefix),
      (error: unknown) => error instanceof V2FormatError,
      text,
    );
  }
});

test('nodes of any form are passed over, however deep they are', () => {
  const odd = {
    key: prefix,
    nodes: [null, 7, [], { key: 3 }, { key: `${prefix}/config` }, { ...subnets, nodes: 'x' }],
  };
  assert.equal(read(odd), { config: undefined, subnets: [], networks: [], found: true });
  let deep: object = { key: '/a', dir: true };
  for (let i = 0; i < 500; i++) deep = { key: '/a', dir: true, nodes: [deep] };
  assert.is(read(deep, '/a/b').found, false);
});

test.run();
