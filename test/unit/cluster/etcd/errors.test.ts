import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import {
  callError,
  explain,
  explainDenial,
  isWorthAnotherEndpoint,
  toStoreError,
} from '../../../../cluster/etcd/errors.ts';
import { keysBelow, rightsBelow } from '../../../../cluster/etcd/keys.ts';
import { StoreRefusedError, StoreUnavailableError } from '../../../../cluster/store-errors.ts';

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
    [
      '14 UNAVAILABLE: read ECONNRESET',
      true,
      true,
      'it closed the connection; is etcd running there? check http or https in --etcd-endpoints',
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
    ['etcdserver: permission denied', false, false, "permission denied; grant the right to a role of etcd's user"],
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
      "no authority that this host knows has signed etcd's certificate; give the certificate of etcd's authority by --etcd-cafile",
    ],
    [
      '14 UNAVAILABLE: No connection established. Last error: Error: certificate has expired. Resolution note: ',
      false,
      true,
      "etcd's certificate has expired, or is not valid yet; renew it where etcd runs, and look at both hosts' clocks",
    ],
    [
      '14 UNAVAILABLE: No connection established. Last error: error:10000412:SSL routines:OPENSSL_internal:SSLV3_ALERT_BAD_CERTIFICATE',
      false,
      true,
      'it wants a client certificate; give one by --etcd-certfile and --etcd-keyfile',
    ],
    ['3 INVALID_ARGUMENT: etcdserver: revision of auth store is old', true, true, 'the session with etcd has ended'],
    ['3 INVALID_ARGUMENT: etcdserver: key is not provided', false, false, 'key is not provided'],
    ['14 UNAVAILABLE: something new', true, true, 'something new'],
  ] as const) {
    const error = toStoreError(call, new Error(words));
    assert.is(error.message, start + message);
    assert.is(error instanceof StoreUnavailableError, retryable, words);
    assert.is(error instanceof StoreRefusedError, !retryable, words);
    assert.is(isWorthAnotherEndpoint(error), other, words);
    assert.is(error.op, call.op);
    assert.is(error.subject, call.key);
  }
});

test('etcd’s answer to a certificate is reported with the file', () => {
  const words = new Error('error:10000412:SSL routines:OPENSSL_internal:SSLV3_ALERT_BAD_CERTIFICATE');
  const identity = { certFile: '/c.pem', commonName: 'weft', issuer: 'other' };
  assert.is(
    toStoreError(call, words, identity).message,
    `${start}it refuses the client certificate "/c.pem", issued by "other"; its issuer must be one of those in etcd's --trusted-ca-file`,
  );
  assert.is(
    toStoreError(call, words, { ...identity, expiredOn: '2026-01-02' }).message,
    `${start}the client certificate "/c.pem" has expired on 2026-01-02; replace it and its key; they are read at every attempt`,
  );
});

test('a refused right is named with its user, its role and the command that grants it', () => {
  const { readConfig, writeLeases } = rightsBelow(keysBelow('/p'));
  const identity = { commonName: 'weft', certFile: '/c.pem' };
  for (const [user, right, words] of [
    [
      { identity, roles: ['r', 's'] },
      readConfig,
      'user "weft", in role "r", may not read "/p/config"; grant it: etcdctl role grant-permission r read /p/config',
    ],
    [
      { identity: { ...identity, username: 'bob' }, roles: undefined },
      writeLeases,
      'user "bob" may not write what is below "/p/subnets/"; grant it: etcdctl role grant-permission --prefix ROLE readwrite /p/subnets/',
    ],
    [{ identity, roles: [] }, readConfig, 'user "weft" has no role; give it one: etcdctl user grant-role weft weft'],
    [
      { identity: { username: 'bob' }, roles: null },
      readConfig,
      'etcd has no user "bob"; add it: etcdctl user add bob && etcdctl user grant-role bob weft',
    ],
  ] as const) {
    const { cause, advice, retryable } = explainDenial(user, right);
    assert.is(`${cause}; ${advice}`, `permission denied: ${words}`);
    assert.is(retryable, false);
  }
});

test('endpoints that fail alike share their reason; each has its own otherwise', () => {
  const refused = explain(new Error('connect ECONNREFUSED 10.0.0.1:2379'));
  const untrusted = explain(new Error('self signed certificate'));
  const { message } = callError(
    call,
    new Map([
      ['http://a', refused],
      ['http://b', refused],
    ]),
    undefined,
  );
  assert.is(
    message,
    'Cannot read the network config "/p/config" in etcd at http://a, http://b: connection refused; is etcd running there? (--etcd-endpoints)',
  );
  const mixed = callError(
    call,
    new Map([
      ['http://a', refused],
      ['https://b', untrusted],
    ]),
    undefined,
  );
  assert.is(
    mixed.message,
    'Cannot read the network config "/p/config" in etcd at http://a: connection refused, at https://b: ' +
      "no authority that this host knows has signed etcd's certificate; is etcd running there? (--etcd-endpoints); " +
      "give the certificate of etcd's authority by --etcd-cafile",
  );
  assert.instance(mixed, StoreUnavailableError);
});

test('a StoreError is passed on unchanged', () => {
  const error = new StoreRefusedError({ code: 'refused', op: 'connect', subject: '', message: 'closed' });
  assert.is(toStoreError(call, error), error);
});

test.run();
