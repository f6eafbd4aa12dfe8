import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import type { Lease } from '../../../../cluster/lease.ts';
import { type LeaseChange, LeaseSet } from '../../../../cluster/lease-set.ts';
import { valuesOf } from '../../../../cluster/network-config.ts';
import { UsedAddresses } from '../../../../daemon/filter/used-addresses.ts';
import { formatAddress } from '../../../../net/address.ts';
import { randomStream } from '../../../support/random.ts';
import { address, peer } from '../overlay/cluster-of.ts';

const test = suite('daemon/filter/used-addresses');

test('an address is used as long as one of the peers has it', () => {
  const used = new UsedAddresses();
  const same = peer(4, { publicAddresses: peer(3).publicAddresses });
  const peers = LeaseSet.of([peer(2), peer(3), same]);
  const [, three] = peers.all;
  assert.ok(used.has(address('192.0.2.3'), peers));
  assert.ok(used.has(address('2001:db8::2'), peers));
  assert.not(used.has(address('192.0.2.9'), peers));
  const fewer = peers.with([[three!, undefined]])!;
  assert.ok(used.has(address('192.0.2.3'), fewer));
  assert.not(used.has(address('192.0.2.3'), fewer.with([[same, undefined]])!));
  assert.ok(used.has(address('192.0.2.3'), peers), 'other peers may be asked about at any time');
  assert.not(used.has(address('192.0.2.3'), LeaseSet.of([])));
});

test('property: the same as a search through all peers', () => {
  for (let seed = 1; seed <= 30; seed++) {
    const stream = randomStream(seed);
    const random = (below: number): number => Math.floor(stream() * below);
    const lease = (): Lease => peer(random(200), { publicAddresses: peer(random(8)).publicAddresses });
    const used = new UsedAddresses();
    let peers = LeaseSet.of([lease(), lease()]);
    for (let round = 0; round < 40; round++) {
      const was = [...peers][random(peers.size + 1)];
      const change: LeaseChange = [was, was && random(2) === 0 ? undefined : lease()];
      peers = random(10) === 0 ? LeaseSet.of([lease(), lease(), lease()]) : peers.with([change])!;
      if (random(3) === 0) continue;
      const there = new Set([...peers].flatMap(({ publicAddresses }) => valuesOf(publicAddresses).map(formatAddress)));
      for (const text of [0, 1, 2, 3, 4, 5, 6, 7, 8].map((n) => `192.0.2.${n}`)) {
        assert.is(used.has(address(text), peers), there.has(text), `seed ${seed}`);
      }
    }
  }
});

test.run();
