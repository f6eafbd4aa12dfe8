import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { LeaseSet } from '../../../../cluster/lease-set.ts';
import type { NodeRecord } from '../../../../cluster/store.ts';
import { ClusterNodesSource } from '../../../../daemon/answers/cluster-nodes.ts';
import { address, peer } from '../overlay/cluster-of.ts';

const test = suite('daemon/answers/cluster-nodes');

const record = (n: number, health = 'ok'): NodeRecord => ({
  node: `h${n}`,
  version: '0.1.0',
  publicAddresses: { 4: address(`192.0.2.${n}`) },
  backendType: 'vxlan',
  startedAtMs: 0,
  health,
});

const never = (): never => {
  throw new Error('not asked for here');
};
const unused = { publish: never, withdraw: never, count: never, living: never };

/** A node of flannel's: its lease names no node. */
const nameless = (n: number): ReturnType<typeof peer> => {
  const { node: _, ...lease } = peer(n);
  return lease;
};

test('status and nodes say the same of every peer', async () => {
  const leases = [peer(2), peer(3), peer(4), nameless(5), nameless(6)];
  // The weftd of host 6 has not written its name into the lease that it took over from flannel.
  const records = [record(2), record(4, 'Cannot reach etcd'), record(6)];
  const source = new ClusterNodesSource({
    list: async () => ({ leases: LeaseSet.of(leases), malformed: [], continuity: 'same', mark: undefined }),
    liveness: { ...unused, list: async () => ({ nodes: records, malformed: [] }) },
  });
  assert.equal(source.livenessOf(leases[0]!), {}, 'nothing is known before the first listing');
  const { nodes } = await source.list();
  const expected = [
    { alive: true, health: 'ok' },
    { alive: false },
    { alive: true, health: 'Cannot reach etcd' },
    {},
    { alive: true, health: 'ok' },
  ];
  assert.equal(
    leases.map((lease) => source.livenessOf(lease)),
    expected,
  );
  assert.equal(
    nodes.map(({ alive, health }) => ({
      ...(alive === undefined ? {} : { alive }),
      ...(health === undefined ? {} : { health }),
    })),
    expected,
  );
});

test('a listing that fails leaves what was known', async () => {
  let fails = false;
  const source = new ClusterNodesSource({
    list: async () => ({ leases: LeaseSet.of([]), malformed: [], continuity: 'same', mark: undefined }),
    liveness: {
      ...unused,
      list: async () => {
        if (fails) throw new Error('no etcd');
        return { nodes: [record(2)], malformed: [] };
      },
    },
  });
  await source.refresh();
  fails = true;
  assert.is(await source.refresh().catch(() => undefined), undefined);
  assert.equal(source.livenessOf(peer(2)), { alive: true, health: 'ok' });
});

test('a store that keeps no records: nobody is said to be up or down', async () => {
  const leases = [peer(2), nameless(5)];
  const source = new ClusterNodesSource({
    list: async () => ({ leases: LeaseSet.of(leases), malformed: [], continuity: 'same', mark: undefined }),
  });
  const { nodes, malformed } = await source.list();
  assert.equal(
    nodes.map((node) => [node.node, 'alive' in node, 'health' in node]),
    [
      ['h2', false, false],
      [undefined, false, false],
    ],
  );
  assert.equal(malformed, []);
  assert.equal(source.livenessOf(leases[0]!), {});
});

test.run();
