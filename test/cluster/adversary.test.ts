/**
 * A short attack by a host with a node's rights in etcd, always the same one: see test/soak/adversary.ts, which says what an
 * adversary can do and what not. `npm test -- test/soak/adversary.test.ts` is the long one.
 * @alone
 */

import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { HostileActs, type HostileOptions } from '../lab/hostile-acts.ts';
import { checkAttack } from '../soak/adversary-check.ts';

const test = suite('adversary');

const everything = ['around', 'deletes', 'spoils', 'steals', 'impersonates'] as const;

test('the same seed gives the same acts, another seed gives others', () => {
  const victims = [{ node: 'h1', name: '10.244.7.0-24', publicIp: '192.168.77.11', mac: '02:00:00:00:00:01' }];
  const options: HostileOptions = { seed: 1, prefix: '/p/', kinds: everything, victims };
  const acts = (seed: number): unknown[] => {
    const hostile = new HostileActs({ ...options, seed });
    return Array.from({ length: 2000 }, () => hostile.next());
  };
  const first = acts(1);
  assert.equal(acts(1), first);
  assert.not.equal(acts(2), first);
});

test('whatever it writes beside their leases, honest hosts lose no packet, and their kernels are as before', () =>
  checkAttack({ seed: 1, durationMs: 5000, kinds: ['around'] }));

test('whatever it deletes, spoils and steals, honest hosts lose no packet and no subnet; weftd stays small and quiet', () =>
  checkAttack({ seed: 2, durationMs: 5000, kinds: ['around', 'deletes', 'spoils', 'steals'] }));

test.run();
