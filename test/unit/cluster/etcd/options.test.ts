import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { etcdOptions, parseEtcdOptions } from '../../../../cluster/etcd/options.ts';
import { parseOptions, UsageError } from '../../../../command/options.ts';

const test = suite('cluster/etcd/options');
const parse = (args: string[]) => parseOptions(etcdOptions, args, {});
const refused = (work: () => unknown): string => {
  try {
    work();
  } catch (error) {
    if (error instanceof UsageError) return error.message;
    throw error;
  }
  throw new Error('accepted');
};

test('how to reach etcd', () => {
  const etcd = (...args: string[]) => parseEtcdOptions(parse(args));
  assert.equal(etcd(), {
    endpoints: ['http://127.0.0.1:4001', 'http://127.0.0.1:2379'],
    prefix: '/coreos.com/network',
  });
  assert.equal(etcd('--etcd-endpoints', 'https://a:1/, b ,http://[::1]:2379,10.0.0.1:2380').endpoints, [
    'https://a:1',
    'http://b:2379',
    'http://[::1]:2379',
    'http://10.0.0.1:2380',
  ]);
  assert.equal(
    etcd('--etcd-cafile', 'c', '--etcd-certfile', 'd', '--etcd-keyfile', 'e', '--etcd-username', 'u').caFile,
    'c',
  );
  for (const bad of ['ftp://a', 'http://a:b', 'http://a b', 'http://']) {
    assert.match(
      refused(() => etcd('--etcd-endpoints', bad)),
      /an endpoint has the form "http:\/\/10\.0\.0\.1:2379"$/,
      bad,
    );
  }
  assert.match(
    refused(() => etcd('--etcd-endpoints', ',')),
    /give at least one endpoint$/,
  );
  assert.match(
    refused(() => etcd('--etcd-keyfile', 'x')),
    /belong together/,
  );
});

test.run();
