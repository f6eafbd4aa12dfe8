import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { isWorthAnotherEndpoint, toEtcdError } from '../../../cluster/etcd-errors.ts';
import { EtcdError } from '../../../cluster/store.ts';

const test = suite('etcd errors');
const call = { op: 'read the network config', key: '/p/config', endpoint: 'http://10.0.0.1:2379' };
const start = 'Cannot read the network config "/p/config" in etcd at http://10.0.0.1:2379: ';

test('etcd’s and gRPC’s words, as etcd 3.4 and Bun were seen to say them', () => {
  for (const [words, retryable, other, message] of [
    [
      '14 UNAVAILABLE: No connection established. Last error: Error: connect ECONNREFUSED 127.0.0.1:1. Resolution note: ',
      true,
      true,
      'connection refused; is etcd running there? (--etcd-endpoints)',
    ],
    [
      '14 UNAVAILABLE: Name resolution failed for target dns:no-such.invalid:2379',
      true,
      true,
      'its name cannot be resolved; check --etcd-endpoints and DNS',
    ],
    ['etcdserver: no leader', true, true, 'the etcd cluster has no leader; see "etcdctl endpoint status --cluster"'],
    [
      '4 DEADLINE_EXCEEDED: Deadline exceeded after 5.0s',
      true,
      true,
      'no answer in time; is etcd running there, and does it have a leader?',
    ],
    [
      'etcdserver: mvcc: database space exceeded',
      true,
      true,
      'etcd\'s database is full; compact and defragment it, then "etcdctl alarm disarm"',
    ],
    [
      'etcdserver: permission denied',
      false,
      false,
      "permission denied; grant etcd's role read and write access to all keys with the prefix",
    ],
    [
      '3 INVALID_ARGUMENT: etcdserver: authentication failed, invalid user ID or password',
      false,
      false,
      'wrong user name or password; check --etcd-username and --etcd-password',
    ],
    [
      '14 UNAVAILABLE: No connection established. Last error: Error: self signed certificate. Resolution note: ',
      false,
      true,
      'self signed certificate; check http or https in --etcd-endpoints, and --etcd-cafile, --etcd-certfile, --etcd-keyfile',
    ],
    ['3 INVALID_ARGUMENT: etcdserver: key is not provided', false, false, 'key is not provided'],
    ['14 UNAVAILABLE: something new', true, true, 'something new'],
  ] as const) {
    const error = toEtcdError(call, new Error(words));
    assert.is(error.message, start + message);
    assert.is(error.retryable, retryable, words);
    assert.is(isWorthAnotherEndpoint(error), other, words);
    assert.is(error.op, call.op);
    assert.is(error.key, call.key);
  }
});

test('an EtcdError stays what it is', () => {
  const error = new EtcdError('connect', '', false, 'closed');
  assert.is(toEtcdError(call, error), error);
});

test.run();
