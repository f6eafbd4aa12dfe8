import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { LeaseSet } from '../../../../cluster/lease-set.ts';
import type { ClusterStore, NodeRecord, Published } from '../../../../cluster/store.ts';
import { Condition } from '../../../../daemon/answers/condition.ts';
import { FiguresSource } from '../../../../daemon/answers/figures.ts';
import { Loop } from '../../../../daemon/loop.ts';
import type { Membership } from '../../../../daemon/membership/membership.ts';
import type { ClusterView } from '../../../../daemon/membership/view.ts';
import type { DataPath, ReconcileResult } from '../../../../daemon/overlay/data-path.ts';
import { Bell } from '../../../../daemon/pace/bell.ts';
import { openLogger } from '../../../../daemon/report/log.ts';
import { Metrics } from '../../../../daemon/report/metrics.ts';
import { Problems } from '../../../../daemon/report/problems.ts';
import { Progress } from '../../../../daemon/report/progress.ts';
import { makeTasks, type Tasks } from '../../../../daemon/tasks/all.ts';
import { waitFor } from '../../../lab/wait.ts';
import { address, peer, vxlan } from '../overlay/cluster-of.ts';

const test = suite('daemon/loop');

const never = new Promise<never>(() => {});
const turn = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, 60));

/** Nothing to do, and nothing that is due. */
const still: ReconcileResult = {
  changes: 0,
  retryDelayMs: Number.POSITIVE_INFINITY,
  rulesAgainMs: Number.POSITIVE_INFINITY,
  identityChanged: false,
  addressChanged: false,
  complete: true,
};

/** A loop on an etcd and a kernel of promises. */
class Site {
  readonly now = (): number => performance.now();
  sync: () => Promise<ClusterView | undefined> = async () => undefined;
  view: ClusterView | undefined;
  reconciled = 0;
  ruleLooks = 0;
  complete = true;
  followed: ReconcileResult | undefined;
  publish: () => Promise<Published | undefined> = async () => undefined;
  readonly records: string[] = [];
  readonly problems = new Problems(
    openLogger({ level: 'error', format: 'text', write: () => {}, now: () => 0 }),
    this.now,
  );
  readonly progress = new Progress(this.now());
  readonly tasks: Tasks;
  readonly loop: Loop;
  readonly condition: Condition;
  readonly figures: FiguresSource;

  constructor() {
    const store: Pick<ClusterStore, 'kind' | 'health' | 'liveness' | 'reconnect'> = {
      kind: 'etcd',
      health: () => ({ endpoints: [], connected: true, lastContactMs: 5000, error: undefined }),
      liveness: {
        count: () => never,
        living: () => never,
        list: () => never,
        publish: async () => {
          this.records.push('begun');
          const published = await this.publish();
          this.records.push('written');
          return published ?? {};
        },
        withdraw: async () => void this.records.push('withdrawn'),
      },
      reconnect() {},
    };
    const dataPath: Pick<DataPath, 'follow' | 'reconcile' | 'disturb' | 'healedTotal' | 'interfaceProblem' | 'state'> =
      {
        healedTotal: 0,
        state: undefined,
        interfaceProblem: undefined,
        follow: () => this.followed,
        disturb() {},
        reconcile: () => {
          this.reconciled++;
          return { ...still, complete: this.complete };
        },
      };
    const site = this;
    const membership: Pick<Membership, 'view' | 'sync' | 'renewalDelayMs' | 'memoryDelayMs'> = {
      get view() {
        return site.view;
      },
      renewalDelayMs: 1e9,
      memoryDelayMs: 1e9,
      sync: async () => {
        site.view = await site.sync();
        return site.view;
      },
    };
    const parts = {
      store,
      dataPath,
      membership,
      filter: {
        ensure: () => {
          this.ruleLooks++;
          return { changes: 0, againMs: 60_000 };
        },
        peerLock: () => ({ enabled: false, droppedPackets: 0, droppedBytes: 0 }),
        tellDropped() {},
      },
      lifelines: { hasNames: false, refresh: async () => false },
      lockRenewal: { run() {}, everyMs: 10_000, firstMs: 1000 },
      logger: openLogger({ level: 'error', format: 'text', write: () => {}, now: () => 0 }),
      problems: this.problems,
      metrics: new Metrics({ version: '', runtime: '', monotonic: this.now }),
      progress: this.progress,
      node: 'h1',
      version: '',
      now: this.now,
      random: () => 0,
      attachments: { count: () => undefined, addresses: () => [] },
    };
    this.tasks = makeTasks({
      ...parts,
      threadTime: () => 0,
      isSetUp: () => false,
      releaseMemory() {},
      collectGarbage() {},
      memoryBytes: () => undefined,
      deadlineMs: 100,
    });
    this.loop = new Loop({ ...parts, tasks: this.tasks.all, changed: new Bell() });
    this.condition = new Condition({ ...parts, activities: () => this.loop.activities });
    this.figures = new FiguresSource({
      ...parts,
      condition: this.condition,
      paths: undefined,
      readProcess: () => undefined,
    });
  }

  wakeAll(): void {
    this.tasks.syncCluster.heard();
    this.tasks.network.ring();
  }

  async stop(): Promise<void> {
    this.progress.stop();
    this.loop.stop();
    await this.tasks.publishNode.withdraw();
  }

  readonly running: ClusterView = {
    config: { networks: {}, backend: vxlan } as unknown as ClusterView['config'],
    backend: vxlan,
    own: { ...peer(1), expiresAtMs: undefined },
    age: peer(1),
    formerSubnets: [],
    peers: LeaseSet.of([peer(2)]),
  };
}

test('a loop that runs is alive, and ready once the data path is there', async () => {
  const site = new Site();
  site.loop.start();
  assert.is(site.condition.readiness(), 'starting');
  site.problems.report('etcd', 'Cannot reach etcd');
  assert.is(site.condition.readiness(), 'Cannot reach etcd');
  await waitFor('an answer of etcd', () => site.condition.readiness() === 'starting');
  site.sync = async () => site.running;
  await turn();
  site.wakeAll();
  await waitFor('the loop to be ready', () => site.condition.readiness() === undefined);
  assert.ok(site.reconciled > 0);
  assert.is(site.condition.health(), undefined);
  assert.is((await site.figures.read()).ready, true);
  await site.stop();
  assert.is(site.condition.readiness(), 'stopping');
});

test('a call to etcd that never ends is reported, and repairs go on meanwhile', async () => {
  const site = new Site();
  site.loop.start();
  await turn();
  site.view = site.running;
  site.sync = () => never;
  await turn();
  site.wakeAll();
  await turn();
  await waitFor('the loop to be stuck', () => site.condition.health() !== undefined);
  assert.match(site.condition.health()!, /^"following etcd" has not ended for \d+ s$/);
  const before = site.reconciled;
  site.tasks.mendNetwork.heard();
  await waitFor('the data path to be mended', () => site.reconciled > before);
  await site.stop();
});

test('a failure while a change was followed is tried again soon, even if nothing was changed', async () => {
  const site = new Site();
  site.sync = async () => site.running;
  site.loop.start();
  await waitFor('the loop to be ready', () => site.condition.readiness() === undefined);
  await turn();
  site.followed = { ...still, retryDelayMs: 50, rulesAgainMs: 50 };
  const [before, looksBefore] = [site.reconciled, site.ruleLooks];
  site.tasks.syncCluster.heard();
  await waitFor('another try', () => site.reconciled > before, { deadlineMs: 5000 });
  await waitFor('another look at the packet filter', () => site.ruleLooks > looksBefore, { deadlineMs: 5000 });
  await site.stop();
});

test('the packet filter is looked after though no container can be started', async () => {
  const site = new Site();
  site.complete = false;
  site.sync = async () => site.running;
  site.loop.start();
  await waitFor('a comparison', () => site.reconciled > 0);
  await turn();
  const before = site.ruleLooks;
  site.tasks.mendFilter.heard();
  await waitFor('a look at the packet filter', () => site.ruleLooks > before, { deadlineMs: 5000 });
  assert.is(site.condition.readiness(), 'starting');
  await site.stop();
});

test('another host’s record under our name, and one that somebody forges, are problems until they are gone', async () => {
  const site = new Site();
  site.view = site.running;
  site.progress.noteSync(true);
  const told = async (published: Published): Promise<readonly string[]> => {
    site.publish = async () => published;
    await site.tasks.publishNode.run();
    return site.problems.list();
  };
  const conflict = { publicAddresses: { 4: address('192.0.2.66') } } as unknown as NodeRecord;
  assert.equal(await told({ conflict }), [
    'Another host, at 192.0.2.66, has the name "h1", too; give one of them another name with --node',
  ]);
  assert.equal(await told({ isForged: true }), [
    'Somebody writes the record of "h1" in etcd; weftd writes it back; see who has the rights of a node there',
  ]);
  assert.equal(await told({}), []);
});

test('a node that stops while it publishes its record withdraws it afterwards', async () => {
  for (const ends of [true, false]) {
    const site = new Site();
    site.sync = async () => site.running;
    let write = (): void => {};
    const written = new Promise<undefined>((resolve) => {
      write = () => resolve(undefined);
    });
    site.publish = () => written;
    site.loop.start();
    await waitFor('the record to be on its way', () => site.records.length === 1);
    const stopped = site.stop();
    await new Promise((resolve) => setTimeout(resolve, 20));
    assert.equal(site.records, ['begun']);
    if (ends) write();
    await stopped;
    assert.equal(site.records, ends ? ['begun', 'written', 'withdrawn'] : ['begun', 'withdrawn']);
  }
});

test('another host with the name of this one is reported, and whether it has the public address, too', async () => {
  for (const [host, pattern] of [
    [
      peer(7),
      /^Another host, at 192\.0\.2\.7 2001:db8::7, has the name "h1", too; give one of them another name with --node$/,
    ],
    [
      peer(1),
      /^Another host has the name "h1" and the public address 192\.0\.2\.1 2001:db8::1, too, so that both use one subnet, and their containers the same addresses; give one of them another name with --node, and an address of its own with --public-ip or --iface$/,
    ],
  ] as const) {
    const site = new Site();
    site.sync = async () => site.running;
    const { publicAddresses, backendType } = host;
    const conflict = { node: 'h1', version: '', publicAddresses, backendType, startedAtMs: 0, health: 'ok' };
    site.publish = async () => ({ conflict });
    site.loop.start();
    await waitFor('the problem', () => site.problems.has('node name'));
    assert.match(site.problems.list()[0]!, pattern);
    await site.stop();
  }
});

test('a node whose subnet is another’s is not ready', async () => {
  const site = new Site();
  site.sync = async () => site.running;
  site.loop.start();
  await waitFor('it to be ready', () => site.condition.readiness() === undefined);
  site.sync = async () => ({ ...site.running, takenBy: peer(7) });
  site.problems.report('lost subnet', "This node's subnet is now another's");
  site.wakeAll();
  await waitFor('it not to be ready', () => site.condition.readiness() !== undefined);
  assert.is(site.condition.readiness(), "This node's subnet is now another's");
  await site.stop();
});

test.run();
