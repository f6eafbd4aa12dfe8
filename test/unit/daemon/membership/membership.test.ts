import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import type { Lease, LeaseValue, OwnLease } from '../../../../cluster/lease.ts';
import { LeaseSet } from '../../../../cluster/lease-set.ts';
import type {
  Acquired,
  ClusterStore,
  ConfigSource,
  Known,
  LeaseMemory,
  LeaseRequest,
  MalformedEntry,
  Updated,
} from '../../../../cluster/store.ts';
import { backends } from '../../../../daemon/backends/map.ts';
import { InterfaceError } from '../../../../daemon/host/external-interface.ts';
import type { Proposal } from '../../../../daemon/membership/identity.ts';
import { Membership } from '../../../../daemon/membership/membership.ts';
import type { ClusterView, Identity } from '../../../../daemon/membership/view.ts';
import { openLogger } from '../../../../daemon/report/log.ts';
import { Metrics } from '../../../../daemon/report/metrics.ts';
import { Problems } from '../../../../daemon/report/problems.ts';
import { address, mac, peer } from '../overlay/cluster-of.ts';
import { proposalOf } from './proposal.ts';

const test = suite('daemon/membership/membership');

const vxlanConfig = '{"Network":"10.1.0.0/16","Backend":{"Type":"vxlan"}}';
const hourMs = 3_600_000;

const unused = (): never => {
  throw new Error('not asked for here');
};

/** An etcd of variables. What it was asked for is in `calls`. */
class FakeCluster {
  config: string | undefined = vxlanConfig;
  leases: Lease[] = [peer(2)];
  malformed: MalformedEntry[] = [];
  calls: string[] = [];
  mark = '1';
  nowMs = 0;
  clockStepMs = 0;
  chance = 0;
  remembered: LeaseMemory | undefined;
  readonly written: LeaseMemory[] = [];
  lifeMs = 24 * hourMs;
  renew: Updated | undefined;
  superseded: Lease[] = [];
  identity: Identity = { publicAddresses: { 4: address('192.0.2.1') }, leaseData: { 4: { vni: 1, vtepMac: mac(1) } } };
  identityError: Error | undefined;
  used = false;
  readonly lines: string[] = [];
  readonly problems: Problems;
  readonly membership: Membership;

  constructor(remembered?: LeaseMemory) {
    this.remembered = remembered;
    const logger = openLogger({ level: 'info', format: 'text', write: (line) => this.lines.push(line), now: () => 0 });
    this.problems = new Problems(logger, () => 0);
    this.membership = new Membership({
      config: this.source,
      store: this.store(),
      logger,
      problems: this.problems,
      metrics: new Metrics({ version: '', runtime: '', monotonic: () => 0 }),
      node: 'h1',
      version: '1',
      backends,
      renewMarginMs: hourMs,
      previous: undefined,
      now: () => this.nowMs + this.clockStepMs,
      monotonic: () => this.nowMs,
      random: () => this.chance,
      memory: { read: () => this.remembered, write: (memory) => void this.written.push(memory) },
      isInUse: () => this.used,
      identity: {
        propose: (config): Proposal => {
          if (this.identityError) throw this.identityError;
          return proposalOf(this.identity, config);
        },
        adopt: ({ identity }) => identity,
      },
    });
  }

  own(claim: Pick<LeaseRequest, 'value'>): OwnLease {
    return { ...peer(1), ...claim.value, expiresAtMs: this.nowMs + this.clockStepMs + this.lifeMs };
  }

  private put(own: OwnLease): void {
    this.leases = [...this.leases.filter(({ ownerId }) => ownerId !== own.ownerId), own];
  }

  private readonly source: ConfigSource = {
    kind: 'etcd',
    path: '/p/config',
    place: 'etcd key "/p/config"',
    read: async () => (this.config === undefined ? undefined : { text: this.config, version: '1' }),
    watch: unused,
  };

  private store(): ClusterStore {
    const renew = async (own: OwnLease, value: LeaseValue): Promise<Updated> => {
      this.calls.push(own.ownerId === '/p/subnets/10.1.1.0-24' ? 'renew' : `renew ${own.ownerId}`);
      if (this.renew) return this.renew;
      const renewed = { ...own, ...value, expiresAtMs: this.nowMs + this.clockStepMs + this.lifeMs };
      this.put(renewed);
      return { state: 'held', own: renewed };
    };
    return {
      kind: 'etcd',
      place: '/p',
      scope: undefined,
      list: async ({ mark = this.mark, promised }: Known = {}) => ({
        leases: LeaseSet.of(this.leases),
        malformed: this.malformed,
        continuity:
          mark === this.mark &&
          (promised === undefined || [...this.leases, ...this.malformed].some(({ ownerId }) => ownerId === promised))
            ? 'same'
            : 'lost',
        mark: this.mark,
      }),
      acquire: async (request): Promise<Acquired> => {
        this.calls.push(request.previous ? 'claim again' : 'claim');
        const own = this.own(request);
        this.put(own);
        const how = request.previous ? 'previous' : 'new';
        return { state: 'have', own, how, lostRaces: 0, superseded: this.superseded };
      },
      holds: (own, listed) => own.ownerId === listed.ownerId,
      update: renew,
      keepAlive: renew,
      release: async (lease) => {
        this.calls.push(`release ${lease.ownerId}`);
        return true;
      },
      watch: unused,
      health: unused,
      close: unused,
    };
  }
}

test('claims once, and then leaves what is right alone', async () => {
  const cluster = new FakeCluster();
  const view = await cluster.membership.sync();
  assert.is(view!.own.ownerId, '/p/subnets/10.1.1.0-24');
  assert.equal(
    view!.peers.all.map(({ ownerId }) => ownerId),
    ['/p/subnets/10.1.2.0-24'],
  );
  await cluster.membership.sync();
  assert.equal(cluster.calls, ['claim']);
});

test('renews in time, and says what changed at once', async () => {
  const cluster = new FakeCluster();
  await cluster.membership.sync();
  assert.is(cluster.membership.renewalDelayMs, 23 * hourMs);
  cluster.nowMs = 23 * hourMs;
  await cluster.membership.sync();
  assert.is(cluster.membership.renewalDelayMs, 23 * hourMs);
  cluster.identity = { ...cluster.identity, publicAddresses: { 4: address('192.0.2.77') } };
  const view = await cluster.membership.sync();
  assert.equal(view!.own.publicAddresses[4], address('192.0.2.77'));
  assert.equal(cluster.calls, ['claim', 'renew', 'renew']);
});

test('a margin longer than the lease does not make it renew without end', async () => {
  const cluster = new FakeCluster();
  cluster.lifeMs = 10_000;
  await cluster.membership.sync();
  assert.is(cluster.membership.renewalDelayMs, 5000);
});

test('a reservation is never renewed', async () => {
  const cluster = new FakeCluster();
  cluster.own = (claim) => ({ ...peer(1), ...claim.value, reservation: true, expiresAtMs: undefined });
  await cluster.membership.sync();
  assert.is(cluster.membership.renewalDelayMs, Number.POSITIVE_INFINITY);
});

test('a lease that is gone or taken is claimed again', async () => {
  const cluster = new FakeCluster();
  await cluster.membership.sync();
  cluster.leases = [peer(2)];
  await cluster.membership.sync();
  cluster.renew = { state: 'lost', how: 'taken', holder: peer(9) };
  cluster.identity = { ...cluster.identity, leaseData: { 4: { vni: 1, vtepMac: mac(9) } } };
  await cluster.membership.sync();
  assert.equal(cluster.calls, ['claim', 'claim again', 'renew', 'claim again']);
  assert.ok(cluster.lines.some((line) => line.includes('its key is no longer in etcd')));
  assert.ok(cluster.lines.some((line) => line.includes('it is taken by "h9"')));
});

test('no config, a bad one, an unknown backend: waits, says what is wrong, keeps the last good one', async () => {
  const cluster = new FakeCluster();
  cluster.config = undefined;
  assert.is(await cluster.membership.sync(), undefined);
  assert.match(
    cluster.problems.list()[0]!,
    /^No network config in etcd at "\/p\/config"; write one: weftctl config set/,
  );
  cluster.config = '{"Network":"10.1.0.0/16"}';
  assert.is(await cluster.membership.sync(), undefined);
  assert.match(cluster.problems.list()[0]!, /weftd cannot run backend "udp"; it runs vxlan, host-gw/);
  cluster.config = vxlanConfig;
  assert.ok(await cluster.membership.sync());
  assert.equal(cluster.problems.list(), []);
  for (const bad of ['{', '{"Network":"10.1.0.0/99"}', undefined]) {
    cluster.config = bad;
    assert.is((await cluster.membership.sync())!.config.backend.type, 'vxlan');
    assert.match(cluster.problems.list()[0]!, /the last good one stays in force/);
  }
  assert.equal(cluster.calls, ['claim']);
});

test('another config: claims under it; an older lease is given back unless something uses it', async () => {
  const cluster = new FakeCluster();
  await cluster.membership.sync();
  const old = peer(8, { node: 'h1', publicAddresses: {} });
  cluster.superseded = [old];
  cluster.leases.push(old);
  cluster.config = '{"Network":"10.0.0.0/8","Backend":{"Type":"vxlan"}}';
  const view = await cluster.membership.sync();
  assert.not(view!.peers.all.includes(old));
  cluster.used = true;
  cluster.config = vxlanConfig;
  await cluster.membership.sync();
  assert.equal(cluster.calls, [
    'claim',
    'claim again',
    `release ${old.ownerId}`,
    'claim again',
    `renew ${old.ownerId}`,
  ]);
  // Renewed in time while it is in use, and given back when nothing uses it any more.
  await cluster.membership.sync();
  cluster.nowMs = cluster.membership.renewalDelayMs;
  await cluster.membership.sync();
  cluster.used = false;
  await cluster.membership.sync();
  assert.equal(
    cluster.calls.slice(5).filter((call) => call.endsWith(old.ownerId)),
    [`renew ${old.ownerId}`, `release ${old.ownerId}`],
  );
  assert.is(cluster.lines.filter((line) => line.includes('containers have its addresses')).length, 1);
});

test('another config that allows the lease asks nothing of etcd; of many nodes each takes it up at its own time', async () => {
  const cluster = new FakeCluster();
  cluster.leases = Array.from({ length: 500 }, (_, i) => peer(i % 250, { ownerId: `/p/subnets/${i}` }));
  cluster.chance = 0.5;
  const first = await cluster.membership.sync();
  cluster.config = '{"Network":"10.0.0.0/15","SubnetLen":24,"Backend":{"Type":"vxlan"}}';
  cluster.own = (claim) => ({ ...peer(1), ...claim.value, expiresAtMs: undefined });
  assert.is((await cluster.membership.sync())!.config, first!.config, 'not yet');
  const delayMs = cluster.membership.renewalDelayMs;
  assert.ok(delayMs > 400 && delayMs <= 501, String(delayMs));
  cluster.nowMs += delayMs;
  assert.is((await cluster.membership.sync())!.config.networks[4]!.network.length, 15);
  assert.equal(cluster.calls, ['claim', 'claim again'], 'the lease of 10.1.1.0/24 lies outside of that one');
  cluster.config = '{"Network":"10.0.0.0/14","SubnetLen":24,"Backend":{"Type":"vxlan"}}';
  await cluster.membership.sync();
});

test('a lease lost together with many others is claimed at its own time, alone at once', async () => {
  const cluster = new FakeCluster();
  cluster.leases = Array.from({ length: 200 }, (_, i) => peer(i + 2));
  cluster.chance = 0.5;
  await cluster.membership.sync();
  const peers = cluster.leases.filter(({ ownerId }) => ownerId !== peer(1).ownerId);
  cluster.leases = peers;
  await cluster.membership.sync();
  assert.equal(cluster.calls, ['claim', 'claim again']);
  cluster.leases = [];
  assert.is((await cluster.membership.sync())!.peers.size, 200);
  assert.is(cluster.membership.renewalDelayMs, 200);
  assert.is(cluster.calls.length, 2);
  cluster.nowMs += 200;
  assert.is((await cluster.membership.sync())!.peers.size, 200);
  assert.equal(cluster.calls.slice(2), ['claim again']);
});

test('nodes that were started together do not renew together', async () => {
  const cluster = new FakeCluster();
  cluster.chance = 0.5;
  await cluster.membership.sync();
  assert.is(cluster.membership.renewalDelayMs, 22.75 * hourMs);
});

const keysOf = (view: ClusterView | undefined): string[] => view!.peers.all.map(({ ownerId }) => ownerId).sort();

test('an etcd begun anew, or restored: peers stay until they claim again, somebody else does, or a lease is over', async () => {
  const cluster = new FakeCluster();
  cluster.leases = [2, 3, 4, 5].map((n) => peer(n));
  const all = keysOf(await cluster.membership.sync());
  cluster.leases = [];
  assert.equal(keysOf(await cluster.membership.sync()), all);
  assert.equal(cluster.calls, ['claim', 'claim again']);
  assert.match(cluster.problems.list()[0]!, /^etcd has lost leases, those of h2, h3, h4, h5; the way there is kept/);

  // Ours is there; the other number says that it is not the same etcd.
  cluster.leases = [peer(2), ...cluster.leases];
  cluster.mark = '2';
  assert.equal(keysOf(await cluster.membership.sync()), all);
  cluster.leases = [peer(2), peer(3, { ownerId: '/p/subnets/new', node: 'h9' }), ...cluster.leases.slice(1)];
  assert.equal(keysOf(await cluster.membership.sync()), [
    peer(2).ownerId,
    peer(4).ownerId,
    peer(5).ownerId,
    '/p/subnets/new',
  ]);
  cluster.leases = cluster.leases.slice(1);
  await cluster.membership.sync();
  cluster.nowMs = 1000;
  assert.equal(
    keysOf(await cluster.membership.sync()),
    [peer(4).ownerId, peer(5).ownerId, '/p/subnets/new'],
    'h2 has left',
  );
  cluster.nowMs = 24 * hourMs;
  assert.equal(keysOf(await cluster.membership.sync()), ['/p/subnets/new']);
  assert.equal(cluster.problems.list(), []);
});

test('a node of Weft’s whose lease is gone has a second to claim it again; flannel’s does not', async () => {
  const cluster = new FakeCluster();
  const { node: _, ...flannels } = peer(3, { ofFlannel: true });
  cluster.leases = [peer(2), flannels];
  const all = keysOf(await cluster.membership.sync());
  const [own] = cluster.leases.filter(({ node }) => node === 'h1');
  cluster.leases = [own!];
  assert.equal(keysOf(await cluster.membership.sync()), [peer(2).ownerId]);
  assert.is(cluster.membership.renewalDelayMs, 1000, 'then it is looked again');

  cluster.nowMs = 900;
  cluster.leases = [own!, peer(2), flannels];
  assert.equal(keysOf(await cluster.membership.sync()), all);
  assert.ok(cluster.membership.renewalDelayMs > 1000);

  cluster.leases = [own!, flannels];
  await cluster.membership.sync();
  cluster.nowMs = 1900;
  assert.equal(keysOf(await cluster.membership.sync()), [flannels.ownerId]);
  assert.equal(keysOf(await cluster.membership.sync()), [flannels.ownerId]);

  cluster.leases = [own!, flannels, peer(2)];
  await cluster.membership.sync();
  cluster.leases = [own!, flannels, peer(2, { ownerId: '/p/subnets/10.1.9.0-24', subnets: peer(9).subnets })];
  assert.equal(
    keysOf(await cluster.membership.sync()),
    [flannels.ownerId, '/p/subnets/10.1.9.0-24'],
    'another at once',
  );
  assert.equal(cluster.problems.list(), []);
});

test('what the last weftd knew counts where etcd has lost it: by its number, its revision, or our own lease', async () => {
  const first = new FakeCluster();
  first.leases = [2, 3].map((n) => peer(n));
  const all = keysOf(await first.membership.sync());
  assert.equal(first.written, [], 'not before the kernel is seen to');
  first.membership.remember(true);
  const [memory] = first.written;
  assert.equal(
    memory!.peers.map(({ lease, untilMs }) => [lease.ownerId, untilMs]),
    [2, 3].map((n) => [peer(n).ownerId, 24 * hourMs]),
  );
  assert.is(memory!.own, peer(1).ownerId);
  for (const lose of [
    (cluster: FakeCluster) => (cluster.mark = '2'),
    (cluster: FakeCluster) => (cluster.remembered = { ...memory!, mark: '9' }),
    () => undefined,
  ]) {
    const second = new FakeCluster(memory);
    lose(second);
    const cluster = new FakeCluster(second.remembered);
    cluster.mark = second.mark;
    cluster.nowMs = hourMs;
    cluster.leases = [];
    assert.equal(keysOf(await cluster.membership.sync()), all);
    assert.match(cluster.problems.list()[0]!, /^etcd has lost leases, those of h2, h3;/);
    cluster.membership.remember(true);
    assert.is(cluster.written[0]!.peers[0]!.untilMs, 24 * hourMs, 'the promise is no longer for that');
    cluster.nowMs = 24 * hourMs;
    assert.equal(keysOf(await cluster.membership.sync()), []);
  }
});

test('what the last weftd knew does not count where etcd is as it was, or our own lease was over by then', async () => {
  const first = new FakeCluster();
  first.leases = [2, 3].map((n) => peer(n));
  await first.membership.sync();
  first.membership.remember(true);
  const [memory] = first.written;
  const own = first.leases.find(({ ownerId }) => ownerId === peer(1).ownerId)!;
  const there = new FakeCluster(memory);
  there.leases = [own, peer(3)];
  assert.equal(keysOf(await there.membership.sync()), [peer(3).ownerId]);
  const late = new FakeCluster(memory);
  late.leases = [];
  late.nowMs = 24 * hourMs;
  assert.equal(keysOf(await late.membership.sync()), []);
});

test('the memory is written when something has changed, not more often than the cluster is large, and each hour', async () => {
  const cluster = new FakeCluster();
  cluster.leases = Array.from({ length: 100 }, (_, i) => peer(i + 2));
  const counts: number[] = [];
  const sync = async (): Promise<void> => {
    await cluster.membership.sync();
    counts.push(cluster.written.length);
  };
  await sync();
  assert.is(cluster.membership.memoryDelayMs, 2000);
  cluster.nowMs += 2000;
  await sync();
  cluster.leases = [...cluster.leases.slice(1)];
  await sync();
  cluster.nowMs += 3000;
  await sync();
  cluster.leases = [...cluster.leases.slice(1)];
  await sync();
  cluster.membership.remember(true);
  assert.is(cluster.written.length, 3, 'at the end');
  cluster.nowMs += hourMs;
  await sync();
  assert.equal(counts, [0, 1, 1, 2, 2, 4]);
  assert.is(cluster.written.length, 4);
});

test('a lease that somebody has made unreadable: a peer’s stays what it was, our own is written again', async () => {
  const cluster = new FakeCluster();
  const view = await cluster.membership.sync();
  cluster.malformed = [peer(2).ownerId, view!.own.ownerId].map((ownerId) => ({
    ownerId,
    reason: 'its value is not JSON',
  }));
  cluster.leases = [];
  assert.equal(keysOf(await cluster.membership.sync()), [peer(2).ownerId]);
  assert.equal(cluster.calls, ['claim', 'renew']);
  cluster.malformed = [];
  await cluster.membership.sync();
  cluster.nowMs = 1000;
  assert.equal(keysOf(await cluster.membership.sync()), []);
});

test('a clock set back, or ahead, does not put renewal off', async () => {
  const cluster = new FakeCluster();
  await cluster.membership.sync();
  for (const clockStepMs of [-1000 * hourMs, 1000 * hourMs]) {
    cluster.clockStepMs = clockStepMs;
    assert.is(cluster.membership.renewalDelayMs, 23 * hourMs);
  }
});

test('a malformed lease is reported by its key', async () => {
  const cluster = new FakeCluster();
  cluster.malformed = [{ ownerId: '/p/subnets/x', reason: 'its value is not JSON' }];
  await cluster.membership.sync();
  assert.equal(cluster.problems.list(), ['Cannot read lease "/p/subnets/x", which is skipped: its value is not JSON']);
});

test('a failure leaves the view as it was', async () => {
  const cluster = new FakeCluster();
  const view = await cluster.membership.sync();
  cluster.identityError = new InterfaceError('gone');
  await cluster.membership.sync().then(
    () => assert.unreachable(),
    (error) => assert.instance(error, InterfaceError),
  );
  assert.is(cluster.membership.view, view);
});

test.run();
