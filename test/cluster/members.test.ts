/**
 * An etcd of three members: one killed, frozen or cut off from the others, its leader moved, its majority gone. weftd
 * continues with those that answer, reports if none does, and misses nothing.
 */

import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { Cluster } from '../lab/cluster.ts';
import { run } from '../lab/commands.ts';
import { Etcd, etcdctlEnvironment } from '../lab/etcd.ts';
import type { Host } from '../lab/host.ts';
import { exampleConfig } from '../lab/project.ts';
import { waitFor } from '../lab/wait.ts';
import { fixture } from '../support/fixture.ts';

const test = suite('members of etcd');

/** One member, on a host of its own. */
class Member {
  readonly host: Host;
  readonly etcd: Etcd;

  constructor(host: Host, all: readonly Host[]) {
    const url = ({ address }: Host, port: number): string => `http://${address}:${port}`;
    this.host = host;
    this.etcd = new Etcd({
      scratch: host.scratch,
      folder: host.folder,
      namespace: host.namespace,
      name: host.name,
      endpoint: url(host, 2379),
      peerUrl: url(host, 2380),
      members: Object.fromEntries(all.map((other) => [other.name, url(other, 2380)])),
      heartbeatMs: 50,
    });
    this.etcd.launch();
  }

  get endpoint(): string {
    return this.etcd.endpoint;
  }

  /** Drops packets between members, in both directions; clients are still served. */
  isolate(): void {
    const rules = `table inet isolated {
      chain in { type filter hook input priority 0; tcp dport 2380 drop; tcp sport 2380 drop; }
      chain out { type filter hook output priority 0; tcp dport 2380 drop; tcp sport 2380 drop; }
    }`;
    run(['nft', '-f', '-'], { namespace: this.host.namespace, stdin: rules });
  }

  join(): void {
    run(['nft', 'delete', 'table', 'inet', 'isolated'], { namespace: this.host.namespace });
  }
}

interface Made {
  readonly cluster: Cluster;
  readonly members: readonly Member[];
  readonly node: Host;
}

/** etcdctl by way of these members. */
function ctl(members: readonly Member[], ...words: string[]): string {
  const endpoints = members.map(({ endpoint }) => endpoint).join(',');
  const argv = ['etcdctl', '--endpoints', endpoints, '--command-timeout', '3s', ...words];
  return run(argv, { namespace: made().cluster.switchNamespace, environment: etcdctlEnvironment });
}

async function setUp(): Promise<Made> {
  const cluster = new Cluster('etcds');
  try {
    const hosts = [cluster.addHost(), cluster.addHost(), cluster.addHost()];
    const members = hosts.map((host) => new Member(host, hosts));
    const config = readFileSync(exampleConfig, 'utf8');
    for (const { etcd } of members) await etcd.answers();
    members[0]!.etcd.ctl('put', '/coreos.com/network/config', config);
    const node = cluster.addHost();
    const times = { WEFTD_TEST_ETCD_TIMEOUT_MS: '1500', WEFTD_TEST_ETCD_HEARTBEAT_MS: '500' };
    const environment = { ...process.env, ...times } as Record<string, string>;
    node.startWeftdWith({ environment }, '--etcd-endpoints', members.map(({ endpoint }) => endpoint).join(','));
    await node.reaches([]);
    return { cluster, members, node };
  } catch (error) {
    const logs = cluster.hosts.map((host) => {
      const log = join(host.folder, 'etcd.log');
      return existsSync(log) ? readFileSync(log, 'utf8').slice(-1000) : host.log;
    });
    cluster.remove();
    throw new Error(`${error instanceof Error ? error.message : error}\n${logs.join('\n')}`);
  }
}

const made = fixture(test, setUp, ({ cluster }) => cluster.remove());

let peers = 0;

/** A new lease, written by way of these members, is programmed by weftd; how long that takes, in milliseconds. */
async function follows(by: readonly Member[]): Promise<number> {
  const { node } = made();
  const number = ++peers;
  const address = `192.168.77.${100 + number}`;
  const mac = `02:00:00:00:01:${number.toString(16).padStart(2, '0')}`;
  const value = { PublicIP: address, BackendType: 'vxlan', BackendData: { VNI: 1, VtepMAC: mac } };
  const key = `/coreos.com/network/subnets/10.244.${200 + number}.0-24`;
  await waitFor('a lease to be written', () => ctl(by, 'put', key, JSON.stringify(value)).includes('OK'));
  const startMs = performance.now();
  await waitFor(`${address} to be programmed`, () => node.ip('route').includes(`10.244.${200 + number}.0/24`), {
    deadlineMs: 20_000,
  });
  return Math.round(performance.now() - startMs);
}

/** No peer known so far is lost, and weftd is the same process. */
function isWhole(): void {
  const { node } = made();
  assert.ok(node.weftd?.alive, node.log);
  const routes = node.ip('route');
  for (let number = 1; number <= peers; number++) assert.ok(routes.includes(`10.244.${200 + number}.0/24`), routes);
}

for (const [what, harm, mend] of [
  ['killed', ({ etcd }: Member) => etcd.stop('SIGKILL'), async ({ etcd }: Member) => etcd.launch()],
  ['frozen', async ({ etcd }: Member) => etcd.freeze(), async ({ etcd }: Member) => etcd.thaw()],
  ['cut off from the others', async (member: Member) => member.isolate(), async (member: Member) => member.join()],
] as const) {
  test(`each member ${what} in turn, among them the leader and the one that weftd talks to`, async () => {
    const { members } = made();
    const delays: number[] = [];
    for (const member of members) {
      await harm(member);
      try {
        delays.push(await follows(members.filter((other) => other !== member)));
        isWhole();
      } finally {
        await mend(member);
      }
      await waitFor('the member to be back', () => ctl([member], 'get', 'x') === '', { deadlineMs: 20_000 });
    }
    console.log(`\n  ${what}: a change is followed after ${delays.join(', ')} ms`);
  });
}

test('the leader changes: nothing is lost', async () => {
  const { members } = made();
  const statuses = JSON.parse(ctl(members, 'endpoint', 'status', '-w', 'json')) as {
    Endpoint: string;
    Status: { leader: number; header: { member_id: number } };
  }[];
  // Numbers beyond what JSON can hold: those in hexadecimal are in the list of members.
  const leader = statuses.find(({ Status }) => Status.leader === Status.header.member_id)!.Endpoint;
  const list = ctl(members, 'member', 'list').trim().split('\n');
  const next = list.find((line) => !line.includes(leader))!.split(',')[0]!;
  ctl(
    members.filter(({ endpoint }) => endpoint === leader),
    'move-leader',
    next,
  );
  await follows(members);
  isWhole();
});

test('without a majority weftd says so and keeps everything; it follows all changes when the majority is back', async () => {
  const { members, node } = made();
  const [one, two, three] = members as [Member, Member, Member];
  await Promise.all([one, two].map(({ etcd }) => etcd.stop('SIGKILL')));
  // Each with its own reason: two are not there, one has no leader.
  await node.waitForStatus(
    'weftd to say so of each member',
    ({ problems }) =>
      problems.some(
        (problem) =>
          members.every(({ endpoint }) => problem.includes(endpoint)) &&
          /refused/.test(problem) &&
          /no leader|no answer in time/.test(problem),
      ),
    { deadlineMs: 20_000 },
  );
  assert.is(node.status().etcd.connected, false);
  isWhole();
  one.etcd.launch();
  await follows([one, three]);
  isWhole();
  two.etcd.launch();
  await waitFor('all of them', () => ctl([two], 'get', 'x') === '', { deadlineMs: 20_000 });
  await node.waitForStatus('the problem to be over', ({ problems }) => problems.length === 0, { deadlineMs: 20_000 });
});

test.run();
