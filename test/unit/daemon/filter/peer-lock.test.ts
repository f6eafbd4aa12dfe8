import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import type { Lease } from '../../../../cluster/lease.ts';
import { LeaseSet } from '../../../../cluster/lease-set.ts';
import { parseNetworkConfig } from '../../../../cluster/network-config.ts';
import { backends } from '../../../../daemon/backends/map.ts';
import type { FilterView } from '../../../../daemon/filter/part.ts';
import { lockContent, type PeerLock, peerLocking } from '../../../../daemon/filter/peer-lock.ts';
import { desiredTable, formatStructure } from '../../../lab/filter-rules.ts';
import { address, type OwnBackend, peer } from '../overlay/cluster-of.ts';
import { settings } from './settings-of.ts';

const test = suite('daemon/filter/peer-lock');

test('peers are no part of the structure; the rest of the lock is', () => {
  const lock = settings.lock!;
  assert.is(formatStructure({ ...settings, lock: { ...lock, peers: [] } }), formatStructure(settings));
  assert.is.not(
    formatStructure({ ...settings, lock: { ...lock, outer: { 4: { ...lock.outer[4]!, vni: 1 } } } }),
    formatStructure(settings),
  );
  assert.is.not(formatStructure({ ...settings, lock: undefined }), formatStructure(settings));
});

test('the lock has peers of its families only, and its port for a while', () => {
  assert.equal(
    desiredTable(settings).sets.map(({ name, elements }) => [
      name,
      elements.map((key) => [...(key as Uint8Array)].join('.')),
    ]),
    [
      ['locked-port', ['33.24']],
      ['peers4', ['192.0.2.2', '192.0.2.3', '192.0.2.2']],
      ['dropped4', []],
    ],
  );
  assert.equal(desiredTable({ ...settings, lock: undefined }).sets, []);
});

const sets = (outer: PeerLock['outer']) =>
  lockContent({ ...settings.lock!, outer }).sets.map(({ name, timeoutMs, elements }) => [
    name,
    timeoutMs,
    elements().map((key) => [...key].join('.')),
  ]);
const rulesIn = (outer: PeerLock['outer']): number[] =>
  lockContent({ ...settings.lock!, outer })
    .chains()
    .flatMap(({ base, rules }) => (base ? [rules.length] : []));

test('tunnels without ports are locked by their IP protocol', () => {
  const peers = ['peers4', undefined, ['192.0.2.2', '192.0.2.3', '192.0.2.2']];
  const dropped = ['dropped4', 600_000, []];
  assert.equal(sets({ 4: { ipProtocol: 4 } }), [['locked-protocol', 30_000, ['4']], peers, dropped]);
  assert.equal(sets({ 4: { ipProtocol: 47, key: 7 } }), [['locked-protocol', 30_000, ['47']], peers, dropped]);
  // A key may be in one of two places; by IPv6 none and 0 are the same.
  assert.equal(rulesIn({ 4: { ipProtocol: 4 } }), [1, 1]);
  assert.equal(rulesIn({ 4: { ipProtocol: 47 } }), [1, 1]);
  assert.equal(rulesIn({ 4: { ipProtocol: 47, key: 7 } }), [2, 2]);
  assert.equal(rulesIn({ 4: { ipProtocol: 47, key: 0 }, 6: { ipProtocol: 47 } }), [5, 2]);
  assert.equal(rulesIn({ 4: { ipProtocol: 47, key: 'any' } }), [1, 1]);
});

const part = peerLocking({ lifeMs: 30_000 });
const config = parseNetworkConfig('{"Network":"10.1.0.0/16","Backend":{"Type":"vxlan"}}', backends);
const hostGateway = parseNetworkConfig('{"Network":"10.1.0.0/16","Backend":{"Type":"host-gw"}}', backends);
const view = (peers: readonly Lease[], of = config): FilterView => ({
  config: of,
  backend: of.backend as OwnBackend,
  own: peer(1),
  peers: LeaseSet.of(peers),
  formerSubnets: [],
});
const bytes = (...texts: string[]) => texts.map((text) => address(text).bytes);

test('it wants what the backend’s packets look like, and the peers that run the same backend', () => {
  const wanted = part.wants(view([peer(2), peer(3, { backendType: 'host-gw' })]))!;
  assert.equal([wanted.name, wanted.family], [part.name, 'inet']);
  assert.equal(
    wanted.sets.map(({ name, elements }) => [name, elements()]),
    [
      ['locked-port', [new Uint8Array([0x21, 0x18])]],
      ['peers4', bytes('192.0.2.2')],
      ['dropped4', []],
    ],
  );
  assert.equal(
    wanted.chains().map(({ name, rules }) => [name, rules.length]),
    [
      ['peer-lock', 1],
      ['peer-lock-out', 1],
      // Of the sender, then the drop.
      ['peer-lock-drop', 2],
    ],
  );
  // Packets that travel as they are cannot be told from others.
  assert.is(part.wants(view([peer(2)], hostGateway)), undefined);
  assert.equal(part.changes!(view([peer(2)], hostGateway), [peer(2)], []), []);
});

test('peers that come and go; an address stays as long as somebody has it', () => {
  const change = (peers: readonly Lease[], added: readonly Lease[], removed: readonly Lease[]) =>
    part.changes!(view(peers), added, removed)!.filter(({ set }) => set === 'peers4');
  const to = (added: Uint8Array[], removed: Uint8Array[]) => [{ family: 'inet', set: 'peers4', added, removed }];
  assert.equal(change([peer(2), peer(3)], [peer(3)], []), to(bytes('192.0.2.3'), []));
  assert.equal(change([peer(2)], [], [peer(3)]), to([], bytes('192.0.2.3')));
  // Its host's new lease has it, then another host's.
  const same = peer(4, { publicAddresses: peer(3).publicAddresses });
  assert.equal(change([peer(2), same], [same], [peer(3)]), to(bytes('192.0.2.3'), []));
  assert.equal(change([peer(2), same], [], [peer(3)]), []);
  assert.equal(change([peer(2)], [], [peer(3, { backendType: 'host-gw' })]), []);
});

test('the peers of a content advance with changes that were followed; the next look compares them', () => {
  const made = peerLocking({ lifeMs: 1000 });
  const setOf = (of: FilterView) => made.wants(of)!.sets.find(({ name }) => name === 'peers4')!;
  const before = view([peer(2)]);
  const set = setOf(before);
  assert.is(setOf(before).source, set.source);
  const after = view([peer(2), peer(3)]);
  made.followed!(after);
  assert.equal(set.elements(), bytes('192.0.2.2', '192.0.2.3'));
  assert.is.not(setOf(after).source, set.source);
  assert.is.not(setOf(before).source, set.source, 'a view that was not followed');
});

test('an address that no peer can have is never admitted', () => {
  const texts = ['127.0.0.1', '224.0.0.1', '255.255.255.255', '240.0.0.1', '0.0.0.0', '169.254.1.1', '192.0.2.1'];
  const bad = texts.map((text, i) => peer(10 + i, { publicAddresses: { 4: address(text) } }));
  const wanted = part.wants(view([peer(2), ...bad]))!;
  assert.equal(wanted.sets.find(({ name }) => name === 'peers4')!.elements(), bytes('192.0.2.2'));
  assert.equal(part.changes!(view([peer(2), ...bad]), bad, []), []);
  const [change] = part.changes!(view([peer(2), peer(3), ...bad]), [...bad, peer(3)], bad)!;
  assert.equal(change, { family: 'inet', set: 'peers4', added: bytes('192.0.2.3'), removed: [] });
});

test.run();
