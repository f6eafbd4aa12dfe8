import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { allocate, candidates } from '../../../ipam/allocator.ts';
import { parseRange, type RangeConfiguration, type RangeSet } from '../../../ipam/ranges.ts';
import { formatAddress, parseAddress } from '../../../net/address.ts';
import { formatPrefix } from '../../../net/prefix.ts';
import { refused } from '../cni/refused.ts';
import { createMemoryStore, type MemoryStore } from './memory-store.ts';

const test = suite('ipam/allocator');

const setOf = (...ranges: RangeConfiguration[]): RangeSet => ranges.map((range) => parseRange(range, 'x'));
const range = (subnet: string, rangeStart?: string, rangeEnd?: string, gateway?: string): RangeConfiguration => ({
  subnet,
  ...(rangeStart ? { rangeStart } : {}),
  ...(rangeEnd ? { rangeEnd } : {}),
  ...(gateway ? { gateway } : {}),
});
const small = setOf(range('10.0.0.0/29'));

const take = (store: MemoryStore, sets: RangeSet[], containerId: string, requested: string[] = [], ifname = 'eth0') =>
  allocate(
    store,
    sets,
    requested.map((text) => parseAddress(text)!),
    { containerId, ifname },
  ).map(({ address, gateway }) => `${formatPrefix(address)} ${formatAddress(gateway)}`);

const order = (set: RangeSet, last?: string): string[] =>
  Array.from(candidates(set, last === undefined ? undefined : parseAddress(last)), ([, address]) =>
    formatAddress(address),
  );

test('candidates come in order, starting after the last given address', () => {
  assert.equal(order(small), ['10.0.0.2', '10.0.0.3', '10.0.0.4', '10.0.0.5', '10.0.0.6']);
  assert.equal(order(small, '10.0.0.4'), ['10.0.0.5', '10.0.0.6', '10.0.0.2', '10.0.0.3', '10.0.0.4']);
  assert.equal(order(small, '10.0.0.6'), ['10.0.0.2', '10.0.0.3', '10.0.0.4', '10.0.0.5', '10.0.0.6']);
  assert.equal(order(small, '10.9.0.1'), order(small), 'a stale one is as none');
  const two = setOf(range('10.0.0.0/30'), range('10.0.1.0/30', '10.0.1.1', '10.0.1.2', '10.0.1.2'));
  assert.equal(order(two), ['10.0.0.2', '10.0.1.1']);
  assert.equal(order(two, '10.0.0.2'), ['10.0.1.1', '10.0.0.2']);
  assert.equal(order(two, '10.0.1.1'), ['10.0.0.2', '10.0.1.1']);
});

test('addresses are given round robin, after a release and around the end too', () => {
  const store = createMemoryStore();
  assert.equal(take(store, [small], 'a'), ['10.0.0.2/29 10.0.0.1']);
  assert.equal(take(store, [small], 'b'), ['10.0.0.3/29 10.0.0.1']);
  store.release(parseAddress('10.0.0.3')!, { containerId: 'b', ifname: 'eth0' });
  assert.equal(take(store, [small], 'c'), ['10.0.0.4/29 10.0.0.1']);
  take(store, [small], 'd');
  take(store, [small], 'e');
  assert.equal(take(store, [small], 'f'), ['10.0.0.3/29 10.0.0.1'], 'the last that is free');
  refused(() => take(store, [small], 'g'), 100, /no IP addresses available in range set 10\.0\.0\.1-10\.0\.0\.6/);
});

test('the last given address is found if all others are taken', () => {
  const store = createMemoryStore();
  for (const id of ['a', 'b', 'c', 'd', 'e']) take(store, [small], id);
  store.release(parseAddress('10.0.0.6')!, { containerId: 'e', ifname: 'eth0' });
  assert.equal(take(store, [small], 'f'), ['10.0.0.6/29 10.0.0.1']);
});

test('IPv4 and IPv6 are allocated the same way', () => {
  const store = createMemoryStore();
  const sets = [setOf(range('10.0.0.0/24')), setOf(range('fd00::/64'))];
  assert.equal(take(store, sets, 'a'), ['10.0.0.2/24 10.0.0.1', 'fd00::2/64 fd00::1']);
  assert.equal(take(store, sets, 'a', [], 'eth1'), ['10.0.0.3/24 10.0.0.1', 'fd00::3/64 fd00::1']);
});

test('a second ADD of an attachment is refused, whatever it asks for', () => {
  const store = createMemoryStore();
  take(store, [small], 'a');
  refused(() => take(store, [small], 'a'), 102, /already holds 10\.0\.0\.2 for its interface "eth0"/);
  refused(() => take(store, [small], 'a', ['10.0.0.5']), 102, /duplicate allocation/);
  assert.is(store.held.size, 1);
});

test('requested addresses are given, or refused as a whole', () => {
  const store = createMemoryStore({ '10.0.0.5': 'x/eth0' });
  const sets = [setOf(range('10.0.0.0/29')), setOf(range('10.0.1.0/24'), range('10.0.2.0/24'))];
  assert.equal(take(store, sets, 'a', ['10.0.2.9', '10.0.0.4']), ['10.0.0.4/29 10.0.0.1', '10.0.2.9/24 10.0.2.1']);
  assert.equal(take(store, sets, 'b', ['10.0.1.7']), ['10.0.0.6/29 10.0.0.1', '10.0.1.7/24 10.0.1.1']);
  const before = new Map(store.held);
  refused(() => take(store, sets, 'c', ['10.0.0.1']), 101, /10\.0\.0\.1 is the subnet's gateway/);
  refused(() => take(store, sets, 'c', ['10.0.0.5']), 101, /10\.0\.0\.5 is taken/);
  refused(
    () => take(store, sets, 'c', ['10.0.1.8', '10.7.0.1']),
    101,
    /failed to allocate all requested IPs: 10\.7\.0\.1/,
  );
  refused(
    () => take(store, sets, 'c', ['10.0.1.8', '10.0.1.9']),
    101,
    /failed to allocate all requested IPs: 10\.0\.1\.9/,
  );
  assert.equal(store.held, before, 'nothing stays of what was refused');
});

test('a full later set frees the addresses of earlier sets', () => {
  const store = createMemoryStore({ '10.0.1.2': 'x/eth0' });
  refused(() => take(store, [small, setOf(range('10.0.1.0/30'))], 'a'), 100, /10\.0\.1\.1-10\.0\.1\.2/);
  assert.equal([...store.held.keys()], ['10.0.1.2']);
});

test.run();
