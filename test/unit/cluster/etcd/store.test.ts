/** The store's words and formats, which need no etcd. */

import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { EtcdHandle } from '../../../../cluster/etcd/handle.ts';
import { EtcdMark } from '../../../../cluster/etcd/mark.ts';
import { openEtcdStore } from '../../../../cluster/etcd/store.ts';
import type { OwnLease } from '../../../../cluster/lease.ts';
import { StoreRefusedError } from '../../../../cluster/store-errors.ts';
import { backends } from '../../../../daemon/backends/map.ts';
import { peer } from '../../daemon/overlay/cluster-of.ts';

const test = suite('cluster/etcd/store');

const open = (prefix: string) =>
  openEtcdStore({
    etcd: { endpoints: ['http://127.0.0.1:1'], prefix },
    backends,
    clock: { nowMs: () => 0, setTimer: () => ({ cancel: () => undefined }) },
    random: () => 0,
  });

test('places are written as people give them; flannel’s prefix needs no scope', () => {
  const { config, leases } = open('/p/');
  assert.equal([config.kind, config.path, config.place], ['etcd', '/p/config', 'etcd key "/p/config"']);
  assert.equal([leases.kind, leases.place, leases.scope], ['etcd', '/p', '/p']);
  assert.is(open('/coreos.com/network').leases.scope, undefined);
});

test('a lease is held while its etcd lease is the same one', () => {
  const { leases } = open('/p');
  const listed = (etcdLease: string) => ({ ...peer(1), handle: new EtcdHandle('7', etcdLease, {}) });
  const own: OwnLease = { ...listed('5'), expiresAtMs: undefined };
  assert.is(leases.holds(own, listed('5')), true);
  assert.is(leases.holds(own, listed('0')), false, 'a reservation now');
  assert.is(leases.holds(own, { ...listed('5'), ownerId: 'x' }), false);
});

test('a lease of another store is refused', async () => {
  const { leases } = open('/p');
  const lease = peer(1);
  await leases.release!(lease).then(
    () => assert.unreachable(),
    (error: Error) =>
      assert.match(error.message, /^Lease "\/p\/subnets\/10\.1\.1\.0-24" does not belong to this store$/),
  );
});

test('the memory of another network is not used', () => {
  const { memory } = open('/p').leases;
  const { text } = memory!.format({ mark: new EtcdMark('1', 2, '3'), own: '/p/subnets/x', ownUntilMs: 4, peers: [] });
  assert.is(
    text,
    '{"version":1,"prefix":"/p","clusterId":"1","revision":"3","own":"/p/subnets/x","ownUntil":4,"peers":[]}\n',
  );
  assert.is(memory!.parse(text)?.own, '/p/subnets/x');
  assert.is(open('/q').leases.memory!.parse(text), undefined);
});

test('after close, the store refuses', async () => {
  const { config, leases } = open('/p');
  leases.close();
  for (const asked of [leases.list(), config.read()]) {
    await asked.then(
      () => assert.unreachable(),
      (error: Error) => assert.instance(error, StoreRefusedError),
    );
  }
});

test.run();
