/** Peers' changes followed one by one must come to what a comparison of everything would. */

import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import type { Lease } from '../../../../cluster/lease.ts';
import { differenceOf, type LeaseChange, patchList, sumOf } from '../../../../cluster/lease-set.ts';
import type { OwnBackend } from '../../../../daemon/backends/map.ts';
import { type EventInterest, subjectOf } from '../../../../daemon/host/events.ts';
import { deriveDesired, narrowToPeers, type Overlay } from '../../../../daemon/overlay/desired.ts';
import { formatOperation, plan } from '../../../../daemon/overlay/plan.ts';
import { newFdbEntry, newNeighbour } from '../../../../linux/netlink/neighbour.ts';
import { newRoute } from '../../../../linux/netlink/route.ts';
import { NetlinkWriter } from '../../../../linux/netlink/wire.ts';
import { bytesOf, decodeMessages } from '../../../support/netlink-messages.ts';
import { randomStream } from '../../../support/random.ts';
import { address, dualStack, mac, macs, overlay, peer, prefix, vxlan } from './cluster-of.ts';
import { formatState, SimulatedKernel } from './simulated-kernel.ts';

const test = suite('daemon/overlay/follow');

const host = (): SimulatedKernel =>
  new SimulatedKernel({
    devices: [{ name: 'eth0', index: 2, kind: undefined, up: true, mac: mac(250), mtuBytes: 1500 }],
  });

function reconcile(kernel: SimulatedKernel, of: Overlay) {
  const desired = deriveDesired(of);
  for (const operation of plan(desired.state, kernel.dump()).operations) kernel.apply(operation);
  return desired;
}

test('a peer that comes, changes and goes takes the steps that are its own', () => {
  const kernel = host();
  const of = overlay();
  const desired = reconcile(kernel, of);
  const follow = (removed: Lease[], added: Lease[]): string[] => {
    const changes = desired.table.change(removed, added)!;
    const narrowed = narrowToPeers(desired.state, changes);
    const { operations } = plan(narrowed.desired, narrowed.actual);
    for (const operation of operations) kernel.apply(operation);
    return operations.map(formatOperation);
  };
  assert.equal(follow([], [peer(4)]), [
    'set neighbour "10.1.4.0" (02:00:00:00:00:04) on "flannel.1"',
    'set FDB entry "02:00:00:00:00:04" to "192.0.2.4" on "flannel.1"',
    'set route "10.1.4.0/24" via "10.1.4.0" on "flannel.1"',
  ]);
  assert.is(desired.state.routes.length, 3);
  const [two] = of.peers;
  const changed = peer(2, { backendData: macs(22, 122) });
  assert.equal(follow([two!], [changed]), [
    'set neighbour "10.1.2.0" (02:00:00:00:00:16) on "flannel.1"',
    'set FDB entry "02:00:00:00:00:16" to "192.0.2.2" on "flannel.1"',
    'remove FDB entry "02:00:00:00:00:02" to "192.0.2.2" on "flannel.1"',
  ]);
  assert.equal(follow([changed], []), [
    'remove route "10.1.2.0/24" via "10.1.2.0" on "flannel.1"',
    'remove FDB entry "02:00:00:00:00:16" to "192.0.2.2" on "flannel.1"',
    'remove neighbour "10.1.2.0" (02:00:00:00:00:16) on "flannel.1"',
  ]);
});

test('what bears on another peer is not told from the changed ones alone', () => {
  const shared = (n: number) => peer(n, { backendData: macs(3, 103) });
  const table = (peers: Lease[]) => deriveDesired(overlay({ peers })).table;
  assert.is(table([peer(2), peer(3)]).change([], [shared(4)]), undefined, 'a MAC that another has');
  const [two, three] = [peer(2), peer(3)];
  const same = peer(5, { subnets: two.subnets });
  assert.is(table([two, three]).change([], [same]), undefined, 'a subnet that another has');
  const contested = table([two, same, three]);
  assert.ok(contested.change([three], []), 'one that has nothing to do with it');
  assert.is(contested.change([two], []), undefined, 'its going leaves the subnet to the other');
  assert.is(table([two]).change([peer(2)], []), undefined, 'one that is not known');
});

const backends: readonly OwnBackend[] = [
  vxlan,
  { ...vxlan, directRouting: true },
  { type: 'host-gw' },
  { type: 'ipip', directRouting: true },
  { type: 'gre', key: 7 },
];

test('property: following changes comes to what a comparison of everything comes to', () => {
  let followed = 0;
  for (let seed = 1; seed <= 150; seed++) {
    const stream = randomStream(seed);
    const random = (below: number): number => Math.floor(stream() * below);
    const backend = backends[random(backends.length)]!;
    const lease = (n: number): Lease =>
      peer(n, {
        backendType: random(8) === 0 ? 'other' : backend.type,
        publicAddresses: { 4: address(`192.0.2.${random(6) === 0 ? 20 : n}`), 6: address(`2001:db8::${n}`) },
        backendData: random(6) === 0 ? macs(30 + random(2), 130 + random(2)) : macs(n, n + 100),
      });
    const of = (peers: readonly Lease[]): Overlay =>
      overlay({
        ...(seed % 2 === 0 && backend.type !== 'ipip' ? dualStack : {}),
        backend,
        peers,
        isNeighbour: (a) => a.bytes.at(-1)! % 2 === 0,
      });
    const kernel = host();
    let peers: readonly Lease[] = [2, 3, 4, 5].map(lease);
    let desired = reconcile(kernel, of(peers));
    for (let round = 0; round < 12; round++) {
      const changes: LeaseChange[] = [];
      for (let i = 0; i <= random(3); i++) {
        const was = patchList(peers, changes)![random(8)];
        const taken = new Set(patchList(peers, changes)!.map(({ ownerId }) => ownerId));
        const free = [2, 3, 4, 5, 6, 7, 8].filter((n) => !taken.has(peer(n).ownerId));
        if (was) changes.push([was, random(2) === 0 ? undefined : { ...lease(2), ...was, ...randomValue(lease(9)) }]);
        else if (free.length > 0) changes.push([undefined, lease(free[random(free.length)]!)]);
      }
      const next = patchList(peers, changes)!;
      const { removed, added } = sumOf(changes);
      const difference = differenceOf(peers, next);
      assert.equal(new Set(removed), new Set(difference.removed));
      assert.equal(new Set(added), new Set(difference.added));
      const changed = desired.table.change(removed, added);
      if (changed) {
        followed++;
        const narrowed = narrowToPeers(desired.state, changed);
        for (const operation of plan(narrowed.desired, narrowed.actual).operations) kernel.apply(operation);
        const whole = deriveDesired(of(next));
        assert.equal(plan(whole.state, kernel.dump()).operations.map(formatOperation), [], `seed ${seed}`);
        assert.equal(plan(desired.state, kernel.dump()).operations.map(formatOperation), [], `seed ${seed}`);
        const problems = (peersOf: typeof whole.peers) =>
          peersOf.map(({ peer: { ownerId }, problem }) => [ownerId, problem]);
        assert.equal(problems(desired.peers).sort(), problems(whole.peers).sort(), `seed ${seed}`);
      } else {
        desired = reconcile(kernel, of(next));
      }
      peers = next;
    }
    assert.ok(formatState(kernel.dump()).length > 0);
  }
  assert.ok(followed > 300, `${followed}`);
});

/** What a lease says, without what it is. */
const randomValue = ({ backendType, publicAddresses, backendData }: Lease) => ({
  backendType,
  publicAddresses,
  backendData,
});

test('events of our own doing are nobody’s business, nor entries that are as they should be', () => {
  const interest: EventInterest = {
    indexes: new Set([2, 7]),
    tunnels: new Set([7]),
    names: new Set(['flannel.1']),
    networks: [prefix('10.1.0.0/16')],
    port: 77,
    expects: (_, isThere) => isThere,
  };
  const event = (request: ReturnType<typeof newRoute>, port: number, type = request.type) => {
    const writer = new NetlinkWriter();
    const start = writer.beginMessage(type, 0, 1);
    request.encodeBody(writer);
    writer.endMessage(start);
    const bytes = bytesOf(writer);
    new DataView(bytes.buffer).setUint32(12, port, true);
    return subjectOf(decodeMessages(bytes)[0]!, interest);
  };
  const route = (oif: number) =>
    newRoute({ destination: prefix('10.1.2.0/24'), gateway: address('10.1.2.0'), oif, onlink: true });
  assert.is(event(route(7), 77), undefined, 'ours');
  assert.is(event(route(7), 78), 'entry');
  assert.is(event(route(7), 0), 'entry', "the kernel's own");
  assert.is(event(route(2), 78), 'host', 'another way into the network');
  const elsewhere = newRoute({ destination: prefix('10.9.0.0/16'), gateway: address('192.0.2.9'), oif: 9 });
  assert.is(event(elsewhere, 78), undefined);
  const neighbour = (index: number) => newNeighbour({ index, address: address('10.1.2.0'), mac: mac(2) });
  assert.is(event(neighbour(7), 78), 'entry');
  assert.is(event(neighbour(7), 77), undefined);
  assert.is(event(neighbour(2), 78), undefined, "the external interface's own neighbours");
  const fdb = newFdbEntry({ index: 7, mac: mac(2), destination: address('192.0.2.2') });
  assert.is(event(fdb, 0), undefined, 'it is there, and should be');
  assert.is(event(fdb, 0, fdb.type + 1), 'entry', 'it is gone, and should not be');
});

test.run();
