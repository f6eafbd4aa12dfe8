import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { addressToInteger, integerToAddress } from '../../../cluster/arithmetic.ts';
import { keysBelow } from '../../../cluster/etcd/keys.ts';
import { formatLeaseKey } from '../../../cluster/etcd/lease-key.ts';
import { formatSubnets, type Lease } from '../../../cluster/lease.ts';
import { type NetworkConfig, parseNetworkConfig } from '../../../cluster/network-config.ts';
import type { LeaseRequest } from '../../../cluster/store.ts';
import { NoFreeSubnetError } from '../../../cluster/store-errors.ts';
import {
  chooseSubnet,
  currentLease,
  heldSubnets,
  isLostOurs,
  rivalsOf,
  supersededLeases,
  unreadableLease,
} from '../../../cluster/subnet-choice.ts';
import { backends } from '../../../daemon/backends/map.ts';
import { type Address, formatAddress, parseAddress } from '../../../net/address.ts';
import { type Prefix, parsePrefix, prefixesOverlap } from '../../../net/prefix.ts';
import { randomStream } from '../../support/random.ts';

const test = suite('subnet choice');
const keys = keysBelow('/p');
const config = parseNetworkConfig('{"Network":"10.5.0.0/16"}', backends);
const prefix = (text: string): Prefix => parsePrefix(text)!;
const publicAddress = (n: number): Address => parseAddress(`192.0.2.${n}`)!;

const claimOf = (n: number, more: Partial<LeaseRequest> = {}): LeaseRequest => ({
  config,
  value: { publicAddresses: { 4: publicAddress(n) }, backendType: 'host-gw', backendData: {}, node: `node-${n}` },
  ...more,
});
const leaseOf = (subnet: string, n: number, node = `node-${n}`): Lease => {
  const subnets = { 4: prefix(subnet) };
  return {
    ...claimOf(n).value,
    node,
    ownerId: formatLeaseKey(keys, subnets),
    subnets,
    reservation: false,
    ofFlannel: false,
    seniority: '1',
    handle: undefined,
  };
};
const first = (): number => 0;
const last = (): number => 0.999999;

/** `how subnets`. */
const choose = (claim: LeaseRequest, leases: Lease[], random = first, lostRaces = 0): string => {
  const choice = chooseSubnet(
    claim,
    leases,
    leases.map((lease) => lease.subnets),
    random,
    lostRaces,
  );
  return `${choice.how} ${formatSubnets(choice.how === 'kept' ? choice.lease.subnets : choice.subnets)}`;
};

test('a new subnet overlaps no network of the host, a remembered one may', () => {
  const hostNetworks = ['192.0.2.0/24', '10.5.0.0/22', '10.5.5.17/32', 'fd00::/8'].map(prefix);
  assert.is(choose(claimOf(1, { hostNetworks }), []), 'new 10.5.4.0/24');
  assert.is(choose(claimOf(1, { hostNetworks }), [leaseOf('10.5.4.0/24', 2)]), 'new 10.5.6.0/24');
  const previous = { 4: prefix('10.5.2.0/24') };
  assert.is(choose(claimOf(1, { hostNetworks, previous }), []), 'previous 10.5.2.0/24', "the bridge's own");
  assert.is(choose(claimOf(2, { hostNetworks }), [leaseOf('10.5.2.0/24', 2)]), 'kept 10.5.2.0/24');
  assert.throws(
    () => choose(claimOf(1, { hostNetworks: [prefix('10.0.0.0/8')] }), []),
    /all that are not leased overlap this host's own networks, 10\.0\.0\.0\/8; give the network config another/,
  );
});

test('a lease with our public address is not ours while the node that it names lives', () => {
  const shared = leaseOf('10.5.9.0/24', 1, 'node-7');
  const choose = (claim: LeaseRequest, leases: Lease[], living: string[]) =>
    chooseSubnet(
      { ...claim, isLiving: (node) => living.includes(node) },
      leases,
      leases.map(({ subnets }) => subnets),
      first,
    ).how;
  assert.is(choose(claimOf(1), [shared], ['node-7']), 'new');
  assert.is(choose(claimOf(1), [shared], ['node-8']), 'kept', 'the host has another name now');
  assert.is(choose(claimOf(1), [{ ...shared, node: 'node-1' }], ['node-1', 'node-7']), 'kept', 'our own name');
  const { node: _, ...flannels } = shared;
  assert.is(choose(claimOf(1), [flannels], ['node-7']), 'kept', "flannel's is adopted");
  const both = [shared, leaseOf('10.5.10.0/24', 1)];
  assert.equal(rivalsOf(both, claimOf(1)), ['node-7']);
  assert.is(currentLease(both, claimOf(1))?.node, 'node-1');
  const [former] = [leaseOf('10.9.9.0/24', 1, 'node-7')];
  const remembering = claimOf(1, { former: [former!.subnets] });
  assert.equal(supersededLeases([former!], { ...remembering, isLiving: () => true }), []);
  assert.equal(supersededLeases([former!], { ...remembering, isLiving: () => false }), [former]);
});

test('arithmetic: addresses and integers, both ways', () => {
  const random = randomStream(5);
  for (let i = 0; i < 500; i++) {
    const family = i % 2 ? 4 : 6;
    const bytes = Uint8Array.from({ length: family === 4 ? 4 : 16 }, () => (random() < 0.3 ? 0 : random() * 256));
    const integer = addressToInteger({ family, bytes });
    assert.equal(integerToAddress(family, integer)?.bytes, bytes, formatAddress({ family, bytes }));
    assert.is(
      integer,
      bytes.reduce((sum, byte) => sum * 256n + BigInt(byte), 0n),
    );
  }
  assert.is(integerToAddress(4, 1n << 32n), undefined);
  assert.is(integerToAddress(6, 1n << 128n), undefined);
  assert.is(integerToAddress(4, -1n), undefined);
});

test('the lease with our public address, where the config allows it', () => {
  assert.is(choose(claimOf(1), [leaseOf('10.5.9.0/24', 2), leaseOf('10.5.8.0/24', 1)]), 'kept 10.5.8.0/24');
  assert.is(choose(claimOf(1), [leaseOf('10.6.8.0/24', 1)]), 'new 10.5.1.0/24', 'not of this network');
  assert.is(choose(claimOf(1), [leaseOf('10.5.8.0/25', 1)]), 'new 10.5.1.0/24', 'not of this length');
  // Of several ours, the one remembered.
  const two = [leaseOf('10.5.8.0/24', 1), leaseOf('10.5.9.0/24', 1)];
  assert.is(choose(claimOf(1, { previous: { 4: prefix('10.5.9.0/24') } }), two), 'kept 10.5.9.0/24');
  assert.is(choose(claimOf(1, { further: true }), two), 'new 10.5.1.0/24');
});

test('of leases with our public address the remembered one, else the oldest, and none that an older one overlaps', () => {
  const aged = (subnet: string, n: number, seniority: string): Lease => ({ ...leaseOf(subnet, n), seniority });
  const claim = claimOf(1);
  const two = [aged('10.5.8.0/24', 1, '30'), aged('10.5.9.0/24', 1, '7')];
  const current = (leases: Lease[], more: Partial<LeaseRequest> = {}): string | undefined => {
    const lease = currentLease(leases, { ...claim, ...more });
    return lease && formatSubnets(lease.subnets);
  };
  assert.is(current(two), '10.5.9.0/24');
  assert.is(current(two, { previous: { 4: prefix('10.5.8.0/24') } }), '10.5.8.0/24');
  assert.is(current(two, { former: [{ 4: prefix('10.6.1.0/24') }, { 4: prefix('10.5.8.0/24') }] }), '10.5.8.0/24');
  // Somebody wrote our address into a lease of a subnet that another node has.
  const copy = { ...aged('10.5.9.0/24', 1, '50'), ownerId: '/p/subnets/010.5.9.0-24' };
  assert.is(current([aged('10.5.9.0/24', 2, '40'), copy]), undefined);
  assert.is(current([aged('10.5.8.0/23', 2, '40'), copy]), undefined);
  assert.is(current([aged('10.5.0.0/16', 2, '40'), copy]), '10.5.9.0/24', 'which peers refuse');
  assert.is(current([aged('10.5.10.0/24', 2, '40'), copy], { previous: copy.subnets }), '10.5.9.0/24');
  const hostile = ['128.0.0.0/1', '192.0.0.0/3', '10.0.0.0/8', '10.5.0.0/16', '10.5.8.0/23', '10.5.8.0/25'];
  assert.is(current(hostile.map((subnet) => leaseOf(subnet, 1))), undefined);
});

test('older leases of ours are those that we remember, whatever other leases say', () => {
  const claim = claimOf(1);
  const hostile = ['128.0.0.0/1', '192.0.0.0/3', '10.6.7.0/24'].map((subnet) => leaseOf(subnet, 1));
  const older = [leaseOf('10.6.1.0/24', 1), leaseOf('10.7.1.0/24', 77, 'node-1')];
  const memory = { former: [...older, leaseOf('10.5.1.0/24', 1)].map(({ subnets }) => subnets) };
  assert.equal(supersededLeases([...hostile, ...older, leaseOf('10.5.1.0/24', 1)], { ...claim, ...memory }), older);
  assert.equal(supersededLeases([...hostile, ...older], claim), []);
  const twice = { ...claim, previous: older[0]!.subnets, former: [older[0]!.subnets] };
  assert.equal(supersededLeases(older, twice), [older[0]!]);
  const others = older.map((lease) => ({ ...lease, ...claimOf(2).value }));
  assert.equal(supersededLeases(others, { ...claim, ...memory }), [], 'another node has them now');
});

test('a remembered lease that cannot be read is still ours, unless the subnet is somebody’s', () => {
  const entry = (subnet: string) => ({ ownerId: `/p/subnets/${subnet}`, subnets: { 4: prefix(subnet) } });
  const [own, former, ...others] = ['10.5.8.0/24', '10.5.9.0/24', '10.5.8.0/25', '10.6.1.0/24'].map(entry);
  const memory = {
    previous: own!.subnets,
    former: [prefix('10.6.1.0/24'), prefix('10.5.9.0/24')].map((each) => ({ 4: each })),
  };
  const malformed = [{ ownerId: '/p/subnets/x' }, ...others, former!, own!];
  const find = (leases: Lease[], entries: typeof malformed, more: Partial<LeaseRequest> = memory) =>
    unreadableLease(leases, entries, { ...claimOf(1), ...more })?.ownerId;
  assert.is(find([], malformed), own!.ownerId);
  assert.is(find([], malformed, {}), undefined);
  assert.is(find([], [...others, former!]), former!.ownerId);
  assert.is(find([leaseOf('10.5.9.0/24', 1)], malformed), undefined, 'a readable one is there');
  assert.is(find([leaseOf('10.5.8.0/24', 2)], [own!]), undefined, 'somebody has it under another key');
});

test('a changed public address: name and memory together are proof, the name alone is not', () => {
  const leases = [leaseOf('10.5.8.0/24', 77, 'node-1')];
  assert.is(choose(claimOf(1, { previous: { 4: prefix('10.5.8.0/24') } }), leases), 'kept 10.5.8.0/24');
  assert.is(choose(claimOf(1), leases), 'new 10.5.1.0/24');
  assert.is(currentLease(leases, claimOf(1)), undefined);
});

test('the previous subnet, where it is free and allowed', () => {
  const previous = (text: string) => ({ previous: { 4: prefix(text) } });
  assert.is(choose(claimOf(1, previous('10.5.77.0/24')), []), 'previous 10.5.77.0/24');
  assert.is(choose(claimOf(1, previous('10.5.77.0/24')), [leaseOf('10.5.77.0/24', 2)]), 'new 10.5.1.0/24');
  assert.is(choose(claimOf(1, previous('10.5.77.0/24')), [leaseOf('10.5.76.0/22', 2)]), 'new 10.5.1.0/24');
  assert.is(choose(claimOf(1, previous('10.6.77.0/24')), []), 'new 10.5.1.0/24');
});

test('a younger lease does not keep a node from the subnet that it had until just now', () => {
  const aged = (subnet: string, n: number, seniority: string): Lease => ({ ...leaseOf(subnet, n), seniority });
  const claim = claimOf(1, { previous: { 4: prefix('10.5.77.0/24') }, previousAge: '50' });
  assert.is(choose(claim, [aged('10.5.77.128/25', 2, '51'), aged('10.5.76.0/23', 3, '100')]), 'previous 10.5.77.0/24');
  assert.is(choose(claim, [aged('10.5.77.128/25', 2, '49')]), 'new 10.5.1.0/24');
  assert.is(choose(claim, [aged('10.5.77.0/24', 2, '51')]), 'new 10.5.1.0/24', 'its key is there');
});

test('a random one of the first hundred free; of more after lost races', () => {
  assert.is(choose(claimOf(1), []), 'new 10.5.1.0/24');
  assert.is(choose(claimOf(1), [], last), 'new 10.5.100.0/24');
  assert.is(choose(claimOf(1), [], last, 1), 'new 10.5.200.0/24');
  assert.is(choose(claimOf(1), [], last, 30), 'new 10.5.255.0/24');
  assert.is(choose(claimOf(1), [leaseOf('10.5.1.0/24', 2), leaseOf('10.5.2.0/23', 3)]), 'new 10.5.4.0/24');
  assert.is(choose(claimOf(1), [leaseOf('10.5.1.128/25', 2)]), 'new 10.5.2.0/24', 'a smaller one in the way');
  assert.is(choose(claimOf(1), [leaseOf('10.0.0.0/9', 2), leaseOf('10.4.0.0/16', 3)].slice(1)), 'new 10.5.1.0/24');
});

test('no subnet is free', () => {
  const small = parseNetworkConfig('{"Network":"10.5.0.0/28"}', backends);
  const taken = ['10.5.0.4/30', '10.5.0.8/30', '10.5.0.12/30'].map((text, i) => leaseOf(text, 10 + i));
  assert.throws(
    () => choose(claimOf(1, { config: small }), taken),
    (error: unknown) => error instanceof NoFreeSubnetError && /every \/30/.test(error.message),
  );
  assert.is(choose(claimOf(1, { config: small }), taken.slice(1)), 'new 10.5.0.4/30');
});

test('a subnet that peers refuse is not taken; the oldest of several that overlap is', () => {
  const lease = (subnet: string, n: number): Lease => ({ ...leaseOf(subnet, n), seniority: String(n) });
  const held = (...leases: Parameters<typeof heldSubnets>[1]) =>
    heldSubnets(config, leases).map(({ subnets }) => formatSubnets(subnets));
  assert.equal(
    held(lease('10.5.0.0/16', 1), lease('10.0.0.0/8', 2), lease('10.6.1.0/24', 3)),
    [],
    'not in the network',
  );
  assert.equal(held(lease('10.5.9.128/25', 10), lease('10.5.9.0/24', 9), lease('10.5.9.0/25', 100)), ['10.5.9.0/24']);
  assert.equal(held(lease('10.5.0.0/17', 50), lease('10.5.9.0/24', 9)), ['10.5.9.0/24'], 'the younger is the wide one');
  assert.equal(
    held(lease('10.5.0.0/17', 5), lease('10.5.9.0/24', 9)),
    ['10.5.0.0/17', '10.5.9.0/24'],
    'its key is there',
  );
  const singles = Array.from({ length: 300 }, (_, n) => lease(`10.5.${n & 255}.${1 + (n >> 8)}/32`, n + 1));
  assert.is(held(...singles).length, 256, 'no more than the network has subnets');
  assert.is(held(...singles, lease('10.5.7.0/24', 999)).length, 257);
  const malformed = (subnet: string) => ({ ownerId: `/p/${subnet}`, subnets: { 4: prefix(subnet) } });
  assert.equal(held(malformed('10.5.8.0/23'), lease('10.5.9.0/24', 9)), ['10.5.9.0/24']);
  assert.equal(held(malformed('10.5.6.0/23'), { ownerId: '/p/x' }), ['10.5.6.0/23']);
  // A refused family of a lease takes nothing, though the other one is its own.
  const dual = parseNetworkConfig(
    '{"EnableIPv6":true,"Network":"10.5.0.0/16","IPv6Network":"fd00:5::/48","Backend":{"Type":"vxlan"}}',
    backends,
  );
  const wide = { ...lease('10.5.1.0/24', 1), subnets: { 4: prefix('10.5.1.0/24'), 6: prefix('fd00:5::/48') } };
  assert.equal(heldSubnets(dual, [wide]), [{ ownerId: wide.ownerId, subnets: { 4: prefix('10.5.1.0/24') } }]);
  const taken = heldSubnets(config, [lease('10.5.0.0/16', 1), lease('10.5.1.0/24', 2)]).map(({ subnets }) => subnets);
  const choice = chooseSubnet(claimOf(9), [], taken, first);
  assert.equal(choice, { how: 'new', subnets: { 4: prefix('10.5.2.0/24') } });
});

test('both families are chosen, each free', () => {
  const dual = parseNetworkConfig(
    '{"EnableIPv6":true,"Network":"10.5.0.0/16","IPv6Network":"fd00:5::/48","Backend":{"Type":"vxlan"}}',
    backends,
  );
  assert.is(choose(claimOf(1, { config: dual }), []), 'new 10.5.1.0/24 fd00:5:0:1::/64');
  assert.is(choose(claimOf(1, { config: dual }), [leaseOf('10.5.1.0/24', 2)]), 'new 10.5.2.0/24 fd00:5:0:1::/64');
});

test('property: a chosen subnet overlaps no other and is allowed', () => {
  const random = randomStream(11);
  const configs: NetworkConfig[] = ['10.5.0.0/16', '10.5.0.0/22', '172.16.0.0/12'].map((network) =>
    parseNetworkConfig(JSON.stringify({ Network: network }), backends),
  );
  for (const one of configs) {
    const leases: Lease[] = [];
    for (;;) {
      let choice: ReturnType<typeof chooseSubnet>;
      try {
        choice = chooseSubnet(
          claimOf(200, { config: one, further: true }),
          leases,
          leases.map((l) => l.subnets),
          random,
        );
      } catch (error) {
        assert.instance(error, NoFreeSubnetError);
        break;
      }
      if (choice.how === 'kept') throw new Error('kept');
      const subnet = choice.subnets[4]!;
      assert.not.ok(leases.some((lease) => prefixesOverlap(lease.subnets[4]!, subnet)));
      leases.push(leaseOf(`${formatAddress(subnet.address)}/${subnet.length}`, 1));
      if (leases.length >= 300) break;
    }
    const count = Math.min(300, 2 ** (24 - one.networks[4]!.network.length) - 1);
    assert.is(leases.length, count, 'every subnet but the first is given out');
  }
});

test('a lost lease is ours unless the config no longer allows it, or an older lease overlaps', () => {
  const lost = { ...leaseOf('10.5.7.0/24', 1), seniority: '20' };
  const isOurs = (lease?: Partial<Lease>, request: Partial<LeaseRequest> = {}): boolean => {
    const others = lease ? [{ ...leaseOf('10.5.9.0/24', 2), ...lease }] : [];
    return isLostOurs(claimOf(1, { lost, ...request }), others);
  };
  const overlapping = (seniority: string, subnet = '10.5.7.128/25'): Partial<Lease> => ({
    seniority,
    ownerId: subnet,
    subnets: { 4: prefix(subnet) },
  });
  assert.ok(isOurs());
  assert.ok(isOurs({ publicAddresses: { 4: publicAddress(1) }, node: 'node-1' }));
  assert.ok(isOurs(overlapping('21')));
  assert.not.ok(isOurs(overlapping('19')));
  assert.ok(isOurs(overlapping('19', '10.5.0.0/16')), 'peers refuse that one');
  assert.ok(isOurs({ ownerId: lost.ownerId }), 'somebody was faster');
  assert.not.ok(isOurs(undefined, { further: true }));
  assert.not.ok(isOurs(undefined, { config: parseNetworkConfig('{"Network":"10.6.0.0/16"}', backends) }));
  assert.not.ok(isLostOurs(claimOf(1), []));
});

test.run();
