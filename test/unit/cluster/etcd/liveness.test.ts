import type { IKeyValue, IRangeRequest } from 'etcd3';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import type { EtcdCalls } from '../../../../cluster/etcd/calls.ts';
import type { EtcdConnection, Rpc } from '../../../../cluster/etcd/connection.ts';
import { toStoreError } from '../../../../cluster/etcd/errors.ts';
import { keysBelow, rightsBelow } from '../../../../cluster/etcd/keys.ts';
import { EtcdLiveness } from '../../../../cluster/etcd/liveness.ts';

const test = suite('cluster/etcd/liveness');

test('records that are too large for one message are listed in pages', async () => {
  const keys = keysBelow('/p');
  const record = '{"node":"h1","started":"2026-01-01T00:00:00.000Z"}';
  const there = [record, 'x'.repeat(10_000), '{}'].map(
    (value, i): IKeyValue => ({
      ...{ key: Buffer.from(`/p/nodes/h${i}`), value: Buffer.from(value), version: '1', lease: '7' },
      ...{ create_revision: '5', mod_revision: '5' },
    }),
  );
  const range = async ({ key, limit }: IRangeRequest) => {
    if (limit === undefined) throw new Error('8 RESOURCE_EXHAUSTED: Received message larger than max (9 vs 8)');
    const rest = there.filter((each) => Buffer.compare(each.key, key as Buffer) >= 0);
    return { header: { revision: '9', cluster_id: '1' }, kvs: rest.slice(0, 1), more: rest.length > 1 };
  };
  const connection = {
    call: async <T>(op: string, key: string, run: (rpc: Rpc) => Promise<T>): Promise<T> => {
      try {
        return await run({ client: { kv: { range } }, deadline: {} } as unknown as Rpc);
      } catch (error) {
        throw toStoreError({ op, key, endpoint: 'http://192.0.2.9:2379' }, error);
      }
    },
  } as unknown as EtcdConnection;
  const calls = {} as EtcdCalls;
  const liveness = new EtcdLiveness({ connection, calls, keys, rights: rightsBelow(keys), nodeTtlSeconds: 30 });
  const { nodes, malformed } = await liveness.list();
  assert.equal(
    [nodes.map(({ node }) => node), malformed.map(({ reason }) => reason)],
    [['h1'], ['its value has 10000 bytes; at most 8192 are read', 'it has no node name']],
  );
});

test.run();
