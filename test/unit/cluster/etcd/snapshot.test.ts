import type { IKeyValue, IRangeRequest } from 'etcd3';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import type { EtcdConnection, Rpc } from '../../../../cluster/etcd/connection.ts';
import { toStoreError } from '../../../../cluster/etcd/errors.ts';
import { keysBelow } from '../../../../cluster/etcd/keys.ts';
import { keyText, readSnapshot } from '../../../../cluster/etcd/snapshot.ts';

const test = suite('cluster/etcd/snapshot');

const kv = (key: string, value: Buffer): IKeyValue => ({
  ...{ key: Buffer.from(key), value, version: '1', lease: '7', create_revision: '5', mod_revision: '5' },
});

test('leases too large for one message are read in pages, at one revision', async () => {
  const there = [
    kv('/p/config', Buffer.from('{}')),
    ...Array.from({ length: 70 }, (_, i) => kv(`/p/subnets/10.1.${100 + i}.0-24`, Buffer.alloc(i === 3 ? 10_000 : 9))),
  ];
  const ranges: string[] = [];
  let now = 40;
  const client = {
    kv: {
      txn: async () => {
        throw new Error('8 RESOURCE_EXHAUSTED: Received message larger than max (73400320 vs 67108864)');
      },
      range: async ({ key, range_end, limit, revision }: IRangeRequest) => {
        ranges.push(`${key!.toString()} ${revision ?? '-'}`);
        const [from, end] = [key!.toString(), range_end?.toString()];
        const all = there.filter(({ key: each }) => {
          const text = each.toString();
          return end === undefined ? text === from : text >= from && text < end;
        });
        const kvs = limit === undefined ? all : all.slice(0, Number(limit));
        return { header: { revision: String(now++), cluster_id: '9' }, kvs, more: kvs.length < all.length };
      },
    },
  };
  const connection = {
    call: async <T>(op: string, key: string, run: (rpc: Rpc) => Promise<T>): Promise<T> => {
      try {
        return await run({ client, deadline: {} } as unknown as Rpc);
      } catch (error) {
        throw toStoreError({ op, key, endpoint: 'http://192.0.2.9:2379' }, error);
      }
    },
  } as Pick<EtcdConnection, 'call'>;
  const { config, leases, revision, configRevision, clusterId } = await readSnapshot(connection, keysBelow('/p'));
  assert.equal([config?.value, leases.size, revision, configRevision, clusterId], ['{}', 70, '41', '40', '9']);
  assert.is([...leases.values()].filter(({ tooLongBytes }) => tooLongBytes === 10_000).length, 1);
  assert.equal(ranges, [
    '/p/config -',
    '/p/subnets/ 0',
    '/p/subnets/10.1.131.0-24\0 41',
    '/p/subnets/10.1.163.0-24\0 41',
  ]);
});

test('each key has a text of its own, and none is long', () => {
  assert.is(keyText(Buffer.from('/p/subnets/10.1.2.0-24&fd00::-64')), '/p/subnets/10.1.2.0-24&fd00::-64');
  assert.is(keyText(Buffer.from('/p/subnets/ä \ufffd')), '/p/subnets/ä \ufffd');
  const odd = [[0xff], [0xfe], [0xc3], [0xef, 0xbf, 0xbd], [0xed, 0xa0, 0x80]].map((bytes) => Buffer.from(bytes));
  const long = [1_000_000, 1_000_001].map((length) => Buffer.alloc(length, 'x'));
  const texts = [...odd, ...long].map(keyText);
  assert.is(new Set(texts).size, texts.length);
  assert.ok(texts.every((text) => text.length < 250));
  assert.match(texts[0]!, /^ÿ… \(1 bytes, SHA-256 [0-9a-f]{64}\)$/);
});

test.run();
