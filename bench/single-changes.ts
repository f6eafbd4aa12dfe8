/**
 * Single changes of peers, one after the other: a peer comes, gets another MAC, leaves. weftd and the one that it is
 * compared with run at the same time, on a host each, in clusters of their own in one etcd. The changes alternate between
 * the two clusters, so that a busy machine slows both alike, and neither works while the other is measured.
 */

import { execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { etcdPrefix } from '../test/lab/cluster.ts';
import { KernelWitness } from '../test/lab/kernel-witness.ts';
import { enterNamespace, ipBatch } from '../test/lab/namespaces.ts';
import { waitFor } from '../test/lab/wait.ts';
import { NodeFiles } from '../test/lab/weftd.ts';
import type { BenchHost } from './host.ts';
import { PeerStore, peerOf } from './many-peers.ts';
import { type Contender, contendersOf, networkConfig, nowMs, Running, sleep } from './peers.ts';
import { quantile } from './sample.ts';

const hub = '172.31.255.1';
const prefixes = [etcdPrefix, '/other/network'];

/** weftd returns the memory of its start within 15 s. */
const seconds = { settle: 20, idle: 10 };
/** Of each kind. */
const changes = 100;
/** Between a change and the next of the same cluster. */
const pauseMs = 40;

const kinds = ['add', 'MAC', 'delete'] as const;
type Kind = (typeof kinds)[number];

/** A contender on a host of its own. */
class Side {
  readonly name: string;
  readonly latencies: Record<Kind, number[]> = { add: [], MAC: [], delete: [] };
  readonly store: PeerStore;
  readonly #running: Running;
  readonly #events: KernelWitness;

  private constructor(name: string, store: PeerStore, running: Running, events: KernelWitness) {
    this.name = name;
    this.store = store;
    this.#running = running;
    this.#events = events;
  }

  /** On the `i`th host. The peers are in the store already. */
  static async start(host: BenchHost, contender: Contender, i: number, store: PeerStore, count: number): Promise<Side> {
    const { name } = contender;
    const namespace = host.scratch.addNamespace(`side${i}-${host.scratch.namespaces.length}`);
    execFileSync('ip', ['link', 'add', `side${i}`, 'type', 'veth', 'peer', 'name', 'eth0', 'netns', namespace]);
    ipBatch(undefined, [`link set side${i} master hub`, `link set side${i} up`]);
    ipBatch(namespace, [`addr add 172.31.0.${i + 1}/16 dev eth0`, 'link set eth0 up', `route add default via ${hub}`]);
    const files = new NodeFiles(join(host.folder, `single-${name}-${count}`));
    for (const folder of [files.runDir, files.stateDir]) mkdirSync(folder, { recursive: true });
    enterNamespace(namespace);
    try {
      const events = await new KernelWitness('events').begun();
      const argv = contender.argv(store.endpoint, files, prefixes[i]);
      const side = new Side(name, store, new Running(host, argv, files.logFile, ''), events);
      await side.#sees(`new route ${peerOf(count - 1).subnet}/24`, 0, 120_000);
      return side;
    } finally {
      enterNamespace(host.namespace);
    }
  }

  /** @returns when the kernel told it, on the monotonic clock */
  async #sees(what: string, from: number, deadlineMs = 20_000): Promise<number> {
    const { service } = this.#running;
    const { ms } = await waitFor(
      `"${what}" of ${this.name}`,
      () => {
        if (!service.alive) throw new Error(readFileSync(service.logFile, 'utf8').slice(-2000));
        return this.#events.lines.slice(from).find((line) => line.what === what);
      },
      { deadlineMs, intervalMs: 3 },
    );
    return ms;
  }

  async change(kind: Kind, n: number, edition: number): Promise<void> {
    const peer = peerOf(n, kind === 'MAC' ? edition : 0);
    const what = {
      add: `new route ${peer.subnet}/24`,
      MAC: `new neighbour ${peer.mac}`,
      delete: `deleted route ${peer.subnet}/24`,
    }[kind];
    const from = this.#events.lines.length;
    const callMs = nowMs();
    await (kind === 'delete' ? this.store.removePeer(peer) : this.store.putPeers([peer]));
    this.latencies[kind].push((await this.#sees(what, from)) - callMs);
  }

  cpuMs(): number {
    return this.#running.cpuMs();
  }

  megabytes(field: string): number {
    return this.#running.megabytes(field);
  }

  async stop(): Promise<void> {
    await this.#running.stop();
    this.#events.stop();
    this.store.close();
  }
}

type Figures = Map<string, readonly number[]>;

/** The figures of all sides, by name. */
async function measure(sides: readonly Side[], count: number): Promise<Figures> {
  const figures = new Map<string, readonly number[]>();
  const note = (name: string, of: (side: Side, i: number) => number): void => void figures.set(name, sides.map(of));
  await sleep(seconds.settle * 1000);
  note('memory after rest, MB', (side) => side.megabytes('VmRSS'));
  note('memory, peak of the start, MB', (side) => side.megabytes('VmHWM'));
  const idle = sides.map((side) => side.cpuMs());
  await sleep(seconds.idle * 1000);
  note('idle, CPU ms a second', (side, i) => (side.cpuMs() - idle[i]!) / seconds.idle);
  for (const kind of kinds) {
    const before = sides.map((side) => side.cpuMs());
    for (let n = 0; n < changes; n++) {
      // The first one in half of the changes.
      for (const side of n % 2 === 0 ? sides : sides.toReversed()) {
        await side.change(kind, count + n, 1);
        await sleep(pauseMs / sides.length);
      }
    }
    note(`${kind}, median ms`, (side) => quantile(side.latencies[kind], 0.5));
    note(`${kind}, p99 ms`, (side) => quantile(side.latencies[kind], 0.99));
    note(`${kind}, CPU ms`, (side, i) => (side.cpuMs() - before[i]!) / changes);
  }
  const all = sides.map(({ latencies }) => Object.values(latencies).flat());
  note('one change, median ms', (_, i) => quantile(all[i]!, 0.5));
  note('one change, p99 ms', (_, i) => quantile(all[i]!, 0.99));
  note('one change, slowest ms', (_, i) => Math.max(...all[i]!));
  const cpu = kinds.map((kind) => figures.get(`${kind}, CPU ms`)!);
  note('one change, CPU ms', (_, i) => cpu.reduce((sum, each) => sum + each[i]!, 0) / kinds.length);
  note('memory after the changes, MB', (side) => side.megabytes('VmRSS'));
  return figures;
}

function formatFigures(count: number, names: readonly string[], figures: Figures): string {
  const width = Math.max(...[...figures.keys()].map((name) => name.length));
  const row = (head: string, cells: readonly string[]): string =>
    head.padEnd(width) + cells.map((cell) => cell.padStart(12)).join('');
  const ratioOf = ([mine, theirs]: readonly number[]): string[] =>
    mine === undefined || theirs === undefined ? [] : [theirs === 0 ? '–' : (mine / theirs).toFixed(2)];
  return [
    row(`single changes, ${count} peers`, [...names, ...(names.length > 1 ? ['ratio'] : [])]),
    ...[...figures].map(([name, values]) =>
      row(name, [...values.map((value) => value.toFixed(2)), ...ratioOf(values)]),
    ),
  ].join('\n');
}

async function round(host: BenchHost, server: PeerStore, count: number): Promise<string> {
  const sides: Side[] = [];
  try {
    for (const [i, contender] of contendersOf(host).entries()) {
      const store = server.at(prefixes[i]!);
      await store.putConfig(networkConfig);
      await store.removeAllPeers();
      const peers = Array.from({ length: count + changes }, (_, n) => peerOf(n));
      // The etcd leases of those that come later are had before, too.
      await store.putPeers(peers);
      for (const peer of peers.slice(count)) await store.removePeer(peer);
      sides.push(await Side.start(host, contender, i, store, count));
    }
    const figures = await measure(sides, count);
    return formatFigures(
      count,
      sides.map(({ name }) => name),
      figures,
    );
  } finally {
    for (const side of sides) await side.stop();
    for (const i of sides.keys()) execFileSync('ip', ['link', 'del', `side${i}`]);
  }
}

/** As `benchPeers`; WEFT_BENCH_PEERS=1000,1000 for two rounds. */
export async function benchSingleChanges(host: BenchHost, counts: readonly number[]): Promise<string> {
  ipBatch(undefined, ['link add hub type bridge', `addr add ${hub}/16 dev hub`, 'link set hub up']);
  const server = await PeerStore.startAt(hub);
  try {
    const tables: string[] = [];
    for (const count of counts) tables.push(await round(host, server, count));
    return tables.join('\n\n');
  } finally {
    await server.stop();
    execFileSync('ip', ['link', 'del', 'hub']);
  }
}
