/** The proof that an attachment is dead. */

import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { deadTwice, judge, type Sighting } from '../../../../cli/gc/verdict.ts';
import { namespaceMounts } from '../../../../linux/living-namespaces.ts';

const test = suite('cli/gc');

const dead: Sighting = {
  network: 'lan',
  containerId: 'abc',
  ifname: 'eth0',
  addresses: ['10.1.2.3'],
  hostEnd: undefined,
  liveAddress: undefined,
  livePath: undefined,
  processRuns: undefined,
  knownTo: undefined,
  isRemovable: true,
  mark: '1:2',
};
const seen = { asked: ['Docker', 'Podman'], unknown: [] };

test('any sign of life, and anything unknown, keeps it', () => {
  assert.equal(judge(dead, seen), { state: 'dead', why: 'no namespace has it; unknown to Docker, Podman' });
  for (const [sign, state] of [
    [{ hostEnd: 'veth1' }, 'alive'],
    [{ liveAddress: '10.1.2.3' }, 'alive'],
    [{ processRuns: true }, 'alive'],
    [{ livePath: '/run/netns/x' }, 'kept'],
    [{ knownTo: 'containerd' }, 'kept'],
    [{ ifname: '' }, 'kept'],
    [{ isRemovable: false }, 'kept'],
    [{ livePath: '/run/netns/x', processRuns: false }, 'kept'],
  ] as const) {
    assert.is(judge({ ...dead, ...sign }, seen).state, state, JSON.stringify(sign));
  }
  assert.equal(judge(dead, { asked: [], unknown: ['Cannot ask Docker'] }), { state: 'kept', why: 'Cannot ask Docker' });
});

test('an interface of "weftctl attach" ends with its process, although the runtime knows the container', () => {
  assert.equal(judge({ ...dead, knownTo: 'Docker', processRuns: false }, seen), {
    state: 'dead',
    why: 'its process has ended',
  });
});

test('dead twice means the very same files', () => {
  assert.equal(deadTwice([dead], [dead]), [dead]);
  assert.equal(deadTwice([dead], [{ ...dead, mark: '7:2' }]), []);
  assert.equal(deadTwice([], [dead]), []);
});

test('mount tables: only files that hold network namespaces', () => {
  const table = `22 1 0:21 / /proc rw,nosuid shared:5 - proc proc rw
381 26 0:4 net:[4026532412] /run/netns/a\\040b rw shared:204 - nsfs nsfs rw
382 26 0:4 mnt:[4026532413] /run/mnt rw - nsfs nsfs rw
junk
`;
  assert.equal(namespaceMounts(table), ['/run/netns/a b']);
});

test.run();
