/** A second store behind the ports: one without expiry, release, liveness or memory. */

import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import type { LeaseValue } from '../../../../cluster/lease.ts';
import { backends } from '../../../../daemon/backends/map.ts';
import { emptyState } from '../../../../daemon/host/files.ts';
import { Membership } from '../../../../daemon/membership/membership.ts';
import { NoLeaseError } from '../../../../daemon/membership/own-lease.ts';
import type { ClusterView, Identity } from '../../../../daemon/membership/view.ts';
import { openLogger } from '../../../../daemon/report/log.ts';
import { Metrics } from '../../../../daemon/report/metrics.ts';
import { Problems } from '../../../../daemon/report/problems.ts';
import { MemoryCluster } from '../../../support/memory-store.ts';
import { address, mac, peer, prefix } from '../overlay/cluster-of.ts';
import { proposalOf } from './proposal.ts';

const test = suite('daemon/membership with a store in memory');

const subnet = (n: number) => ({ 4: prefix(`10.1.${n}.0/24`) });
const valueOfHost = (n: number): LeaseValue => {
  const { publicAddresses, backendType, backendData, node } = peer(n);
  return { publicAddresses, backendType, backendData, node: node! };
};

/** Host 1 of such a cluster. */
class Site {
  readonly cluster = new MemoryCluster();
  nowMs = 0;
  identity: Identity = { publicAddresses: { 4: address('192.0.2.1') }, leaseData: { 4: { vni: 1, vtepMac: mac(1) } } };
  readonly lines: string[] = [];
  readonly problems: Problems;
  readonly membership: Membership;

  constructor() {
    this.cluster.configText = '{"Network":"10.1.0.0/16","Backend":{"Type":"vxlan"}}';
    const logger = openLogger({ level: 'info', format: 'text', write: (line) => this.lines.push(line), now: () => 0 });
    this.problems = new Problems(logger, () => 0);
    this.membership = new Membership({
      config: this.cluster.configSource(),
      store: this.cluster.storeOf('h1'),
      logger,
      problems: this.problems,
      metrics: new Metrics({ version: '', runtime: '', monotonic: () => 0 }),
      node: 'h1',
      version: '1',
      backends,
      renewMarginMs: 3_600_000,
      previous: undefined,
      remembered: { current: emptyState, setSubnets: () => undefined },
      now: () => this.nowMs,
      monotonic: () => this.nowMs,
      random: () => 0,
      withdraw: () => {},
      formerSubnets: { use: () => ({ by: 'nobody', gateways: [] }), remove: () => {} },
      hostNetworks: () => [],
      identity: { propose: (config) => proposalOf(this.identity, config), adopt: ({ identity }) => identity },
    });
  }

  /** Of the peers, by node. */
  async peers(): Promise<string[]> {
    return (await this.view()).peers.all.map(({ node }) => node ?? '').sort();
  }

  async view(): Promise<ClusterView> {
    const view = await this.membership.sync();
    assert.ok(view);
    return view;
  }

  async refusal(): Promise<NoLeaseError> {
    try {
      await this.membership.sync();
    } catch (error) {
      if (error instanceof NoLeaseError) return error;
      throw error;
    }
    throw new Error('it has a lease');
  }
}

test('membership waits for its node and its subnet, then holds a lease that it never renews', async () => {
  const site = new Site();
  assert.is((await site.refusal()).code, 'none');
  site.cluster.makeNode('h1');
  const waiting = await site.refusal();
  assert.is(waiting.code, 'waiting');
  assert.is(waiting.message, 'Node "h1" has no subnet yet');
  assert.is(site.membership.view, undefined);
  site.cluster.giveSubnet('h1', subnet(1));
  const { own } = await site.view();
  assert.equal(own.subnets, subnet(1));
  assert.is(own.expiresAtMs, undefined);
  assert.is(site.membership.renewalDelayMs, Number.POSITIVE_INFINITY);
  assert.is(site.membership.memoryDelayMs, Number.POSITIVE_INFINITY);
  assert.is(site.cluster.valueOfNode('h1')?.node, 'h1');
});

test('peers are followed by their changes', async () => {
  const site = new Site();
  site.cluster.makeNode('h1', subnet(1));
  site.cluster.makeNode('h2', subnet(2), valueOfHost(2));
  // In the first list the lease that it led to is missing.
  await site.view();
  const before = await site.view();
  assert.is((await site.view()).peers, before.peers, 'nothing has changed');
  site.cluster.makeNode('h3', subnet(3), valueOfHost(3));
  const after = await site.view();
  assert.equal(
    after.peers.changesSince(before.peers)?.map(([was, is]) => [was?.node, is?.node]),
    [[undefined, 'h3']],
  );
  const { removed, added } = after.peers.differenceTo(before.peers);
  assert.equal([removed.length, added.length], [0, 1]);
  // A node of Weft's that is gone may come back at once; so its way stays for a moment.
  site.cluster.removeNode('h2');
  assert.equal(await site.peers(), ['h2', 'h3']);
  site.nowMs += 2000;
  assert.equal(await site.peers(), ['h3']);
});

test('only changes of this node are written', async () => {
  const site = new Site();
  site.cluster.makeNode('h1', subnet(1));
  const { own } = await site.view();
  assert.is((await site.view()).own, own);
  site.identity = { ...site.identity, publicAddresses: { 4: address('192.0.2.77') } };
  assert.equal((await site.view()).own.publicAddresses[4], address('192.0.2.77'));
  assert.equal(site.cluster.valueOfNode('h1')?.publicAddresses[4], address('192.0.2.77'));
});

test('this node is made anew with another subnet: membership takes the new subnet', async () => {
  const site = new Site();
  site.cluster.makeNode('h1', subnet(1));
  const { own } = await site.view();
  site.cluster.makeNode('h1', subnet(9));
  const after = await site.view();
  assert.equal(after.own.subnets, subnet(9));
  assert.is.not(after.own.ownerId, own.ownerId);
  assert.is(site.lines.filter((line) => line.includes('lease lost')).length, 1);
});

test('the store is away, or has lost its past: the last good view stays', async () => {
  const site = new Site();
  site.cluster.makeNode('h1', subnet(1));
  for (const n of [2, 3]) site.cluster.makeNode(`h${n}`, subnet(n), valueOfHost(n));
  const view = await site.view();
  site.cluster.isUp = false;
  await site.membership.sync().then(
    () => assert.unreachable(),
    (error: Error) => assert.is(error.message, 'Cannot list the leases: no answer'),
  );
  assert.is(site.membership.view, view);
  site.cluster.isUp = true;
  site.cluster.loseAllBut('h1');
  assert.equal(await site.peers(), ['h2', 'h3']);
  assert.match(site.problems.list()[0]!, /^the cluster has lost leases, those of h2, h3; the way there is kept/);
  site.nowMs += 60_000;
  site.cluster.makeNode('h2', subnet(2), valueOfHost(2));
  assert.equal(await site.peers(), ['h2', 'h3']);
  assert.match(site.problems.list()[0]!, /^the cluster has lost leases, those of h3;/);
  site.nowMs += 24 * 3_600_000;
  assert.equal(await site.peers(), ['h2']);
  assert.equal(site.problems.list(), []);
});

test('a missing config is reported with its place', async () => {
  const site = new Site();
  site.cluster.configText = undefined;
  assert.is(await site.membership.sync(), undefined);
  assert.match(site.problems.list()[0]!, /^No network config in the cluster at "\/net-conf.json"; write one/);
  site.cluster.configText = '{"Network":1}';
  await site.membership.sync();
  assert.match(site.problems.list()[0]!, /\(file "\/net-conf.json"\); waiting for a better one$/);
});

test.run();
