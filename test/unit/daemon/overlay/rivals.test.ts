import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { type Rival, rivalOf, rivalProblems } from '../../../../daemon/overlay/rivals.ts';
import { address, macs, overlay, peer, prefix } from './cluster-of.ts';

const test = suite('daemon/overlay/rivals');

const own = overlay({ age: { ownerId: '/p/subnets/10.1.1.0-24', seniority: '50' } });
const rival = (changes: Parameters<typeof peer>[1], isUnique = true): Rival | undefined =>
  rivalOf(peer(9, { seniority: '51', ...changes }), own, isUnique);

test('a lease in our subnet, around it, or with our MAC is a rival, by its age', () => {
  assert.is(rival({}), undefined);
  assert.is(rival({ subnets: { 4: prefix('10.1.1.128/25') } }), 'younger');
  assert.is(rival({ subnets: { 4: prefix('10.1.1.128/25') }, seniority: '7' }), 'older');
  assert.is(rival({ subnets: { 4: prefix('10.1.0.0/17') } }), 'younger');
  assert.is(rival({ subnets: { 4: prefix('10.1.1.0/24') }, seniority: '100' }), 'younger', 'numbers, not texts');
  assert.is(rival({ backendData: macs(1, 109) }), 'younger');
  assert.is(rival({ backendData: macs(1, 109) }, false), undefined, 'data that several hosts may have');
  assert.is(rival({ backendData: macs(9, 101) }), undefined, 'a family that is not in use');
});

test('a lease that no host accepts at all is none', () => {
  assert.is(rival({ subnets: { 4: prefix('10.0.0.0/8') } }), undefined, 'not inside the network');
  assert.is(rival({ subnets: { 4: prefix('10.1.0.0/16') } }), undefined);
  assert.is(rival({ subnets: { 4: prefix('10.1.1.0/25') }, publicAddresses: {} }), undefined);
  const publicAddresses = { 4: address('127.0.0.1') };
  assert.is(rival({ subnets: { 4: prefix('10.1.1.0/25') }, publicAddresses }), undefined);
});

test('the problems name both leases, and say what to do', () => {
  const { node: _, ...flannels } = peer(9, { publicAddresses: { 4: address('192.0.2.9') } });
  const peers = [
    { peer: peer(2) },
    { peer: peer(3), rival: 'older' as const },
    { peer: flannels, rival: 'younger' as const },
  ];
  assert.equal(
    [...rivalProblems(peers, 'older', peer(1))],
    [
      [
        '/p/subnets/10.1.3.0-24',
        `The older lease "/p/subnets/10.1.3.0-24" of "h3" at 192.0.2.3 2001:db8::3 wants the same as this node's lease "/p/subnets/10.1.1.0-24", and other hosts follow the older one; delete it if no node needs it, or else stop weftd here, delete this node's, and start weftd again`,
      ],
    ],
  );
  assert.equal(
    [...rivalProblems(peers, 'younger', peer(1)).values()],
    [
      `The younger lease "/p/subnets/10.1.9.0-24" of the host at 192.0.2.9 wants the same as this node's lease "/p/subnets/10.1.1.0-24", and other hosts refuse it; delete it`,
    ],
  );
});

test.run();
