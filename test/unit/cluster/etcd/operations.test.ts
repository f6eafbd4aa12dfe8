import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { toStoreError } from '../../../../cluster/etcd/errors.ts';
import { operationOf } from '../../../../cluster/etcd/operations.ts';

const test = suite('cluster/etcd/operations');

const outcome = (message: string): string =>
  toStoreError({ op: 'list the leases', key: '/p/subnets/', endpoint: 'http://e:2379' }, new Error(message)).code;

test('the outcome of a request is one of five words', () => {
  assert.is(outcome('4 DEADLINE_EXCEEDED: Deadline exceeded'), 'timeout');
  assert.is(
    outcome('14 UNAVAILABLE: No connection established. Last error: Error: connect ECONNREFUSED'),
    'unavailable',
  );
  assert.is(outcome('14 UNAVAILABLE: etcdserver: no leader'), 'unavailable');
  assert.is(outcome('7 PERMISSION_DENIED: etcdserver: permission denied'), 'denied');
  assert.is(outcome('3 INVALID_ARGUMENT: etcdserver: authentication failed, invalid user ID or password'), 'denied');
  assert.is(outcome('14 UNAVAILABLE: self-signed certificate in certificate chain'), 'denied');
  assert.is(outcome('12 UNIMPLEMENTED: unknown service'), 'refused');
});

test('an operation is one of a few words', () => {
  assert.is(operationOf('renew the lease'), 'renew_lease');
  assert.is(operationOf('something new'), 'other');
});

test.run();
