import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import type { Lease, OwnLease } from '../../../../cluster/lease.ts';
import { Disputes } from '../../../../daemon/membership/disputes.ts';
import { address, mac, peer, prefix } from '../overlay/cluster-of.ts';

const test = suite('daemon/membership/disputes');

const own: OwnLease = { ...peer(1), expiresAtMs: undefined };
const stranger = { node: 'stranger', publicAddresses: { 4: address('192.0.2.99') } };
const minuteMs = 60_000;

/** A node's view of its peers over time. */
class Peers {
  nowMs = 0;
  readonly disputes = new Disputes(() => this.nowMs);
  view: readonly Lease[] = [peer(2), peer(3)];

  /** The nodes that the view names, by the leases that the store has now. */
  sees(...leases: Lease[]): string {
    this.view = this.disputes.settle(this.view, leases, own);
    return this.view
      .map(({ node = '?', ownerId }) => `${node} ${ownerId.slice(-7)}`)
      .sort()
      .join(', ');
  }
}

test('a deleted lease stays for two seconds, and for longer if it was deleted ten times', () => {
  const peers = new Peers();
  const both = peers.sees(peer(2), peer(3));
  for (let i = 0; i < 10; i++) {
    assert.is(peers.sees(peer(2)), both);
    peers.nowMs += 1999;
    assert.is(peers.sees(peer(2)), both);
    assert.is(peers.disputes.dueMs, peers.nowMs + 1);
    assert.is(peers.sees(peer(2), peer(3)), both);
    assert.ok(peers.disputes.isEmpty);
  }
  peers.sees(peer(2));
  peers.nowMs += 89_000;
  assert.is(peers.sees(peer(2)), both, 'its node pauses for a minute');
  peers.nowMs += 1000;
  assert.is(peers.sees(peer(2)), 'h2 .2.0-24');
  peers.sees(peer(2), peer(3));
  peers.nowMs += 61 * minuteMs;
  peers.sees(peer(2));
  peers.nowMs += 2000;
  assert.is(peers.sees(peer(2)), 'h2 .2.0-24', 'an hour later all is forgotten');
});

test('a stranger in a lease is believed after twenty minutes, however often he writes, and its own node at once', () => {
  const peers = new Peers();
  const both = peers.sees(peer(2), peer(3));
  for (const told of [stranger, { publicAddresses: stranger.publicAddresses, node: undefined }] as Partial<Lease>[]) {
    const startMs = peers.nowMs;
    while (peers.nowMs - startMs < 19 * minuteMs) {
      peers.nowMs += minuteMs;
      assert.is(peers.sees(peer(2), peer(3, { ...told, backendData: { 4: peers.nowMs } })), both);
    }
    assert.is(peers.sees(peer(2), peer(3)), both);
    assert.ok(peers.disputes.isEmpty);
  }
  peers.sees(peer(2), peer(3, stranger));
  peers.nowMs += 20 * minuteMs;
  assert.is(peers.sees(peer(2), peer(3, stranger)), 'h2 .2.0-24, stranger .3.0-24');
});

test('a stranger who claims a lease within two seconds after its deletion is believed as late', () => {
  const peers = new Peers();
  const both = peers.sees(peer(2), peer(3));
  peers.sees(peer(2));
  peers.nowMs += 500;
  peers.sees(peer(2), peer(3, stranger));
  peers.nowMs += 19 * minuteMs;
  assert.is(peers.sees(peer(2), peer(3, stranger)), both);
  peers.nowMs += minuteMs;
  assert.is(peers.sees(peer(2), peer(3, stranger)), 'h2 .2.0-24, stranger .3.0-24');
});

test('a lease with a stranger in it that is deleted stays for two seconds', () => {
  const peers = new Peers();
  const both = peers.sees(peer(2), peer(3));
  peers.sees(peer(2), peer(3, stranger));
  peers.nowMs += minuteMs;
  assert.is(peers.sees(peer(2)), both);
  peers.nowMs += 2000;
  assert.is(peers.sees(peer(2)), 'h2 .2.0-24');
});

test('a node that changes its address or MAC, and whatever happens to a lease of flannel, is followed at once', () => {
  for (const change of [
    { publicAddresses: stranger.publicAddresses },
    { node: 'renamed' },
    { backendData: { 4: { vni: 1, vtepMac: mac(77) } } },
  ]) {
    const peers = new Peers();
    const changed = peer(3, change);
    peers.sees(peer(2), changed);
    assert.ok(peers.view.includes(changed));
    assert.ok(peers.disputes.isEmpty);
  }
  const peers = new Peers();
  const { node: _, ...flannels } = peer(3, { ofFlannel: true });
  peers.view = [peer(2), flannels];
  assert.is(peers.sees(peer(2), { ...flannels, ...stranger, ofFlannel: false }), 'h2 .2.0-24, stranger .3.0-24');
  peers.view = [peer(2), flannels];
  assert.is(peers.sees(peer(2)), 'h2 .2.0-24');
});

test('a lease of the same node elsewhere ends no dispute, and the subnet of this host always does', () => {
  const peers = new Peers();
  const moved = peer(3, { ownerId: '/p/subnets/10.1.9.0-24', subnets: { 4: prefix('10.1.9.0/24') } });
  assert.is(peers.sees(peer(2), moved), 'h2 .2.0-24, h3 .3.0-24, h3 .9.0-24');
  const taken = peers.disputes.settle(peers.view, [peer(2), moved], { ...own, subnets: peer(3).subnets });
  assert.equal(taken, [peer(2), moved]);
});

test.run();
