import { isDeepStrictEqual } from 'node:util';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import type { Lease } from '../../../../cluster/lease.ts';
import { LeaseSet } from '../../../../cluster/lease-set.ts';
import { parseNetworkConfig } from '../../../../cluster/network-config.ts';
import { backends } from '../../../../daemon/backends/map.ts';
import type { VxlanLeaseData } from '../../../../daemon/backends/vxlan.ts';
import { ExternalChoice } from '../../../../daemon/host/external-choice.ts';
import { InterfaceError } from '../../../../daemon/host/external-interface.ts';
import { emptyState, type NodeState } from '../../../../daemon/host/files.ts';
import type { HostState } from '../../../../daemon/host/host-state.ts';
import { RememberedState } from '../../../../daemon/host/remembered-state.ts';
import { IdentityKeeper } from '../../../../daemon/membership/identity.ts';
import type { Identity } from '../../../../daemon/membership/view.ts';
import type { Mac } from '../../../../net/mac.ts';
import { address, mac, peer, prefix } from '../overlay/cluster-of.ts';

const test = suite('daemon/membership/identity');

const config = parseNetworkConfig('{"Network":"10.1.0.0/16","Backend":{"Type":"vxlan"}}', backends);
const macOf = ({ leaseData }: Identity): Mac | undefined => (leaseData[4] as VxlanLeaseData | undefined)?.vtepMac;

/** A host of variables, which counts what is done to it. */
class Host {
  state: NodeState = emptyState;
  written = 0;
  reads = 0;
  locked: string[] = [];
  busy = false;
  up = true;
  settled: HostState | undefined;
  chances = 0;
  nowMs = 0;
  readonly remembered = new RememberedState(
    {
      readState: () => this.state,
      writeState: (state) => {
        this.written++;
        this.state = state;
        return true;
      },
    },
    () => undefined,
  );
  readonly external = new ExternalChoice({
    choice: { names: [], patterns: [], canReach: undefined, publicAddresses: {} },
    peerLock: false,
    remembered: this.remembered,
    storeAddresses: () => [],
  });
  readonly identity = new IdentityKeeper({
    node: 'h1',
    backends,
    external: this.external,
    remembered: this.remembered,
    readHost: () => {
      this.reads++;
      return { links: [], addresses: [], routes: [] };
    },
    hostView: () => ({
      interfaces: [
        { index: 2, name: 'eth0', up: this.up, loopback: false, mtuBytes: 1500, addresses: [address('192.0.2.1')] },
      ],
      defaultRoutes: () => (this.up ? [{ index: 2, source: undefined }] : []),
      lookupRoute: () => undefined,
    }),
    settledHost: () => this.settled,
    randomMacBytes: () => new Uint8Array([2, 0, 0, 0, 0, 100 + this.chances++]),
    monotonic: () => this.nowMs,
    lockDevice: (name) => {
      if (this.busy) throw new Error('busy');
      this.locked.push(name);
    },
  });
}

const ownLease = (changes: Partial<Lease> = {}): Lease =>
  peer(1, { subnets: { 4: prefix('10.1.1.0/24') }, ...changes });

test('a proposal has no effect', () => {
  const host = new Host();
  const one = host.identity.propose(config, LeaseSet.of([]));
  const other = host.identity.propose(config, LeaseSet.of([]));
  assert.not.equal(macOf(one.identity), macOf(other.identity), 'nothing was settled');
  assert.equal([host.written, host.locked, host.state], [0, [], emptyState]);
  assert.equal(one.devices[4], { name: 'flannel.1', mac: macOf(one.identity) });
});

test('an adopted identity is locked, remembered, and stays the same', () => {
  const host = new Host();
  const proposal = host.identity.propose(config, LeaseSet.of([]));
  const identity = host.identity.adopt(proposal);
  assert.equal(identity.publicAddresses, { 4: address('192.0.2.1') });
  assert.equal(host.locked, ['flannel.1']);
  assert.equal(host.state.devices, new Map([['flannel.1', macOf(identity)]]));
  assert.equal(host.state.networks, [prefix('10.1.0.0/16')]);
  assert.equal(macOf(host.identity.propose(config, LeaseSet.of([])).identity), macOf(identity));
  const overwritten = ownLease({ backendData: { 4: { vni: 1, vtepMac: mac(77) } } });
  assert.equal(macOf(host.identity.propose(config, LeaseSet.of([overwritten])).identity), macOf(identity));
  host.identity.adopt(host.identity.propose(config, LeaseSet.of([overwritten])));
  assert.is(host.written, 1, 'the file says so already');
});

test('a lease that copies our MAC does not make us change it; the older lease keeps a MAC that two have', () => {
  const host = new Host();
  const own = ownLease({ seniority: '50' });
  const first = macOf(host.identity.adopt(host.identity.propose(config, LeaseSet.of([own]))));
  assert.equal(first, mac(1));
  const copy = (seniority: string) => peer(9, { backendData: own.backendData, seniority });
  assert.equal(macOf(host.identity.propose(config, LeaseSet.of([copy('51'), own])).identity), first);
  assert.equal(macOf(host.identity.propose(config, LeaseSet.of([copy('100'), own])).identity), first);
  assert.not.equal(macOf(host.identity.propose(config, LeaseSet.of([copy('7'), own])).identity), first);
});

test('a lease that copies our MAC does not make us change it while ours is deleted, or has another node in it', () => {
  const host = new Host();
  const own = ownLease({ seniority: '50' });
  const first = macOf(host.identity.adopt(host.identity.propose(config, LeaseSet.of([own]))));
  const copy = (seniority: string) => peer(9, { backendData: own.backendData, seniority });
  const stranger = peer(8, { ownerId: own.ownerId, subnets: own.subnets, seniority: '50' });
  for (const leases of [[], [stranger]]) {
    assert.equal(
      macOf(host.identity.propose(config, LeaseSet.of([copy('51'), ...leases]), { held: own }).identity),
      first,
    );
    assert.not.equal(
      macOf(host.identity.propose(config, LeaseSet.of([copy('7'), ...leases]), { held: own }).identity),
      first,
    );
  }
});

test('a lease with our address that cannot be ours gives us no MAC', () => {
  const hostile = peer(1, { subnets: { 4: prefix('128.0.0.0/1') }, backendData: { 4: { vni: 1, vtepMac: mac(66) } } });
  assert.not.equal(macOf(new Host().identity.propose(config, LeaseSet.of([hostile])).identity), mac(66));
  // Ours that the config no longer allows, by our memory, has the MAC that the peers know.
  const older = peer(1, { subnets: { 4: prefix('10.9.1.0/24') } });
  const memory = { former: [older.subnets] };
  assert.equal(macOf(new Host().identity.propose(config, LeaseSet.of([hostile, older]), memory).identity), mac(1));
});

test('an older lease that copies our MAC after each change makes us change it a few times at once, and then seldom', () => {
  const host = new Host();
  let own = ownLease({ seniority: '50' });
  let changes = 0;
  const sync = (): void => {
    const copy = peer(9, { backendData: own.backendData, seniority: '7' });
    const { leaseData } = host.identity.adopt(
      host.identity.propose(config, LeaseSet.of([copy, own]), { previous: own.subnets }),
    );
    const data = { 4: leaseData[4] as VxlanLeaseData };
    if (!isDeepStrictEqual(data, own.backendData)) changes++;
    own = { ...own, backendData: data };
  };
  host.identity.adopt(host.identity.propose(config, LeaseSet.of([own]), { previous: own.subnets }));
  for (let i = 0; i < 100; i++) sync();
  assert.is(changes, 3);
  for (let minute = 0; minute < 60; minute++) {
    host.nowMs += 60_000;
    for (let i = 0; i < 10; i++) sync();
  }
  assert.ok(changes <= 10, `${changes} changes`);
});

test('the lease of another node that has our public address is not ours: its MAC stays its own', () => {
  const host = new Host();
  const others = { ...ownLease(), node: 'h2', backendData: { 4: { vni: 1, vtepMac: mac(2) } } };
  assert.not.equal(macOf(host.identity.propose(config, LeaseSet.of([others])).identity), mac(2));
  const { node: _, ...flannels } = others;
  assert.equal(macOf(host.identity.propose(config, LeaseSet.of([flannels])).identity), mac(2));
});

test('a copy of our MAC in an older lease is noticed on a host on which nothing changes', () => {
  const host = new Host();
  const own = ownLease({ seniority: '50' });
  host.settled = { links: [], addresses: [], routes: [] };
  const adopt = (...leases: Lease[]) => host.identity.adopt(host.identity.propose(config, LeaseSet.of(leases)));
  const first = adopt(own, peer(9, { seniority: '7' }));
  assert.is(adopt(own, peer(9, { seniority: '7' })), first);
  const changed = adopt(own, peer(9, { seniority: '7', backendData: own.backendData }));
  assert.not.equal(macOf(changed), macOf(first));
  const written = ownLease({ seniority: '50', backendData: changed.leaseData });
  assert.equal(macOf(adopt(written)), macOf(changed));
  assert.not.equal(macOf(adopt(written, peer(9, { seniority: '7', backendData: changed.leaseData }))), macOf(changed));
});

test('a device that another weftd uses: nothing is remembered', () => {
  const host = new Host();
  host.busy = true;
  assert.throws(() => host.identity.adopt(host.identity.propose(config, LeaseSet.of([]))), /busy/);
  assert.equal([host.written, host.state], [0, emptyState]);
});

test('the host is not read again while nothing has changed', () => {
  const host = new Host();
  const own = ownLease();
  host.settled = { links: [], addresses: [], routes: [] };
  const identity = host.identity.adopt(host.identity.propose(config, LeaseSet.of([own])));
  assert.is(host.identity.propose(config, LeaseSet.of([own, peer(2)])).identity, identity);
  const leases = LeaseSet.of([own, peer(2)]);
  assert.is(host.identity.propose(config, leases).identity, identity);
  const copy = peer(3, { seniority: '7', backendData: identity.leaseData });
  const copied = host.identity.propose(config, leases.with([[undefined, copy]])!).identity;
  assert.is.not(copied, identity, 'a lease that has come has our data');
  assert.is(host.reads, 0);
  assert.is.not(host.identity.propose(config, LeaseSet.of([ownLease()])).identity, identity, 'our lease was written');
  host.settled = undefined;
  host.identity.propose(config, LeaseSet.of([own]));
  assert.is(host.reads, 1);
});

test('without an external interface there is no proposal', () => {
  const host = new Host();
  host.up = false;
  assert.throws(
    () => host.identity.propose(config, LeaseSet.of([])),
    (error: unknown) => error instanceof InterfaceError,
  );
  host.up = true;
  host.external.use(host.identity.propose(config, LeaseSet.of([])).found);
  assert.is(host.external.used?.name, 'eth0');
  assert.is(host.external.problem, undefined);
});

test.run();
