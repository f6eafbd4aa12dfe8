/** A thousand peers that exist in etcd only. */

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { type Cluster, etcdPrefix, startCluster } from '../lab/cluster.ts';
import { run } from '../lab/commands.ts';
import type { Host } from '../lab/host.ts';
import { readFdb, readNeighbours, readRoutes } from '../lab/kernel-state.ts';
import { witnessScript } from '../lab/kernel-witness.ts';
import { waitFor } from '../lab/wait.ts';
import { parseExposition } from '../support/exposition.ts';
import { fixture } from '../support/fixture.ts';

const test = suite('scale');
const peerCount = 1000;
const config = '{"Network":"10.0.0.0/8","SubnetLen":24,"SubnetMax":"10.99.0.0","Backend":{"Type":"vxlan"}}';
const cluster = fixture(
  test,
  () => startCluster('scale', { hosts: 1, config }),
  (made) => made.remove(),
);

const hex = (value: number): string => (value & 255).toString(16).padStart(2, '0');

/** A peer in flannel's format; `edition` is in its MAC. */
const peer = (i: number, edition = 0) => ({
  subnet: `10.${100 + (i >> 8)}.${i & 255}.0`,
  mac: `02:${hex(edition)}:00:00:${hex(i >> 8)}:${hex(i)}`,
  host: `172.16.${i >> 8}.${i & 255}`,
});
const all = Array.from({ length: peerCount }, (_, i) => i);

function put(made: Cluster, peers: readonly ReturnType<typeof peer>[]): void {
  for (let at = 0; at < peers.length; at += 100) {
    const puts = peers.slice(at, at + 100).map(({ subnet, mac, host }) => {
      const value = { PublicIP: host, BackendType: 'vxlan', BackendData: { VNI: 1, VtepMAC: mac } };
      return `put ${etcdPrefix}/subnets/${subnet}-24 ${JSON.stringify(JSON.stringify(value))}`;
    });
    // Its own form: comparisons, what to do, what to do otherwise, an empty line after each.
    made.etcd.transact(`\n${puts.join('\n')}\n\n\n`);
  }
}

const remove = (made: Cluster, ...words: string[]): string => made.etcdctl('del', ...words);

/** The peers whose route, neighbour and FDB entry are in the kernel, as text. */
function programmed({ namespace }: Host): string[] {
  const macs = new Map(readNeighbours(namespace).map(({ address, mac }) => [address, mac]));
  const hosts = new Map(readFdb(namespace).map(({ mac, destination }) => [mac, destination]));
  return readRoutes(namespace)
    .filter(({ device }) => device === 'flannel.1')
    .map(({ destination }) => {
      const subnet = destination.split('/')[0]!;
      const mac = macs.get(subnet);
      return `${subnet} ${mac} ${mac && hosts.get(mac)}`;
    })
    .sort();
}

const expected = (peers: readonly ReturnType<typeof peer>[]): string[] =>
  peers.map(({ subnet, mac, host }) => `${subnet} ${mac} ${host}`).sort();

const holds = (host: Host, peers: readonly ReturnType<typeof peer>[]): Promise<unknown> =>
  waitFor(
    `${peers.length} peers`,
    () => {
      assert.equal(programmed(host), expected(peers));
      return true;
    },
    { deadlineMs: 20_000, intervalMs: 100 },
  );

/** How often everything was compared, by weftd's own count. */
function comparisons(host: Host): number {
  const argv = ['curl', '--silent', '--unix-socket', join(host.runDir, 'weftd.sock'), 'http://weftd/metrics'];
  const text = run(argv);
  const family = parseExposition(text).find(({ name }) => name === 'weftd_reconcile_seconds')!;
  return family.samples.find(({ name }) => name.endsWith('_count'))!.value;
}

test('a thousand peers are programmed', async () => {
  const made = cluster();
  put(
    made,
    all.map((i) => peer(i)),
  );
  await holds(
    made.hosts[0]!,
    all.map((i) => peer(i)),
  );
});

test('changes of some peers are followed without a comparison of the rest', async () => {
  const made = cluster();
  const [host] = made.hosts as [Host];
  const others = all.slice(3).map((i) => peer(i));
  // Until the comparison is due that follows the peers before.
  await waitFor('weftd to be at rest', async () => {
    const before = comparisons(host);
    await new Promise((resolve) => setTimeout(resolve, 3000));
    return comparisons(host) === before;
  });
  const before = comparisons(host);
  put(made, [peer(0, 1), peer(peerCount)]);
  await holds(host, [peer(0, 1), peer(1), peer(2), ...others, peer(peerCount)]);
  // One comes that has what another has: that bears on both.
  assert.is(comparisons(host), before);
  remove(made, `${etcdPrefix}/subnets/${peer(peerCount).subnet}-24`);
  put(made, [{ ...peer(1), mac: peer(2).mac }]);
  await waitFor('the clash to be told', () => host.log.includes('has the same MAC'));
  assert.ok(comparisons(host) > before);
  put(made, [peer(0), peer(1)]);
  await holds(
    host,
    all.map((i) => peer(i)),
  );
});

test('a restart changes nothing in the kernel', async () => {
  const made = cluster();
  const [host] = made.hosts as [Host];
  await host.weftd!.stop();
  const logFile = join(made.scratch.folder, 'witness.log');
  const lines = (): string[] => readFileSync(logFile, 'utf8').trim().split('\n');
  const argv = [process.execPath, witnessScript, 'events'];
  const witness = made.scratch.start(argv, { namespace: host.namespace, logFile });
  await waitFor('the witness', () => lines().includes('0.000 begin'));
  host.startWeftd();
  await host.waitForStatus('weftd to be ready', ({ state }) => state === 'running' && comparisons(host) > 0);
  assert.is(host.status().peers.filter((each) => each.programmed).length, peerCount);
  host.ip('route', 'add', '192.0.2.99', 'dev', 'lo');
  // Events come in their order: what came before this one is all that there was.
  await waitFor('the last event', () => lines().length > 1);
  assert.equal(
    lines().map((line) => line.replace(/^\S+ /, '')),
    ['begin', 'new route 192.0.2.99/32'],
  );
  await witness.stop('SIGKILL');
});

test('all peers that leave at once are removed without a trace', async () => {
  const made = cluster();
  const [host] = made.hosts as [Host];
  remove(made, '--prefix', `${etcdPrefix}/subnets/10.10`);
  await waitFor('the last of them to go', () => {
    const { namespace } = host;
    assert.equal(programmed(host), []);
    assert.equal(readFdb(namespace), []);
    assert.equal(readNeighbours(namespace), []);
    return true;
  });
});

test.run();
