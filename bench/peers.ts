/**
 * weftd with many peers, beside the raw netlink floor, and beside flanneld where WEFT_TEST_FLANNELD names one (or an
 * earlier weftd, see WEFT_BENCH_BEFORE): time from a cold start, from a restart, memory, time and CPU of changes.
 *
 * The peers are leases in flannel's format in a real etcd; nobody is behind them.
 */

import { execFileSync } from 'node:child_process';
import { chmodSync, copyFileSync, mkdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { type NetlinkRequest, openNetlink } from '../linux/netlink/connection.ts';
import { getLink } from '../linux/netlink/link.ts';
import { newFdbEntry, newNeighbour } from '../linux/netlink/neighbour.ts';
import { newRoute } from '../linux/netlink/route.ts';
import { clock } from '../linux/sys.ts';
import { sys } from '../linux/sys-bun.ts';
import { parseAddress } from '../net/address.ts';
import { parseMac } from '../net/mac.ts';
import { parsePrefix } from '../net/prefix.ts';
import { etcdPrefix } from '../test/lab/cluster.ts';
import type { Service } from '../test/lab/commands.ts';
import { flanneldPath } from '../test/lab/flannel.ts';
import { KernelWitness } from '../test/lab/kernel-witness.ts';
import { ipBatch } from '../test/lab/namespaces.ts';
import { program } from '../test/lab/project.ts';
import { waitFor } from '../test/lab/wait.ts';
import { NodeFiles, weftdArguments } from '../test/lab/weftd.ts';
import { type BenchHost, beforeFolder } from './host.ts';
import { PeerStore, peerOf } from './many-peers.ts';
import { quantile } from './sample.ts';

export const networkConfig = { Network: '10.0.0.0/8', SubnetLen: 24, Backend: { Type: 'vxlan' } };

export const nowMs = (): number => sys.clock_gettime(clock.CLOCK_MONOTONIC);
export const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

export interface Contender {
  readonly name: string;
  readonly argv: (endpoint: string, files: NodeFiles, prefix?: string) => string[];
}

const weftdAt = (name: string, path: string): Contender => ({
  name,
  argv: (endpoint, files, prefix = etcdPrefix) => [
    ...[path, ...weftdArguments(files, 'bench', endpoint), '--etcd-prefix', prefix],
    ...['--iface', 'eth0', '--log-format', 'text', '--ip-masq=false'],
  ],
});

const flannel: Contender = {
  name: 'flanneld',
  argv: (endpoint, { subnetFile }, prefix = etcdPrefix) => [
    ...[flanneldPath!, `-etcd-endpoints=${endpoint}`, `-etcd-prefix=${prefix}`, '-iface=eth0'],
    ...[`-subnet-file=${subnetFile}`, '-ip-masq=false'],
  ],
};

/** weftd and the one that it is compared with, if there is one. Copied for the reason that host.ts gives. */
export function contendersOf({ folder }: BenchHost): readonly Contender[] {
  const install = (name: string, from: string): Contender => {
    const copy = join(folder, `${name}.copy`);
    copyFileSync(from, copy);
    chmodSync(copy, 0o755);
    return weftdAt(name, copy);
  };
  const weftd = install('weftd', program('weftd'));
  if (beforeFolder !== undefined) return [weftd, install('before', join(beforeFolder, 'weftd'))];
  return flanneldPath === undefined ? [weftd] : [weftd, flannel];
}

/** A contender that runs. */
export class Running {
  readonly startMs: number;
  readonly service: Service;

  constructor(host: BenchHost, argv: readonly string[], logFile: string, notifySocket: string) {
    const environment = { PATH: process.env['PATH'] ?? '', NOTIFY_SOCKET: notifySocket };
    this.startMs = nowMs();
    this.service = host.scratch.start(argv, { logFile, environment });
  }

  /** User and system time so far. */
  cpuMs(): number {
    const fields = readFileSync(`/proc/${this.service.pid}/stat`, 'utf8').split(') ')[1]!.split(' ');
    // In hundredths of a second: USER_HZ is 100 on all that Linux runs on here.
    return (Number(fields[11]) + Number(fields[12])) * 10;
  }

  /** A field of proc(5)'s status, in megabytes. */
  megabytes(field: string): number {
    const status = readFileSync(`/proc/${this.service.pid}/status`, 'utf8');
    return Number(new RegExp(`^${field}:\\s+(\\d+)`, 'm').exec(status)![1]) / 1000;
  }

  async stop(): Promise<void> {
    // flanneld with thousands of peers has been seen never to end.
    await this.service.stop('SIGTERM', 5000);
  }
}

type Figures = Record<string, number>;

const rows: readonly (readonly [name: string, unit: string, digits: number])[] = [
  ['cold start, all programmed', 'ms', 0],
  ['cold start, ready', 'ms', 0],
  ['cold start, CPU', 'ms', 0],
  ['restart, ready', 'ms', 0],
  ['restart, CPU', 'ms', 0],
  ['restart, kernel changes', '', 0],
  ['memory, resident', 'MB', 1],
  ['memory, of its own', 'MB', 1],
  ['memory, peak', 'MB', 1],
  ['idle, CPU a second', 'ms', 1],
  ['one change, from its call, median', 'ms', 2],
  ['one change, from its call, p99', 'ms', 2],
  ['one change, from its return, median', 'ms', 2],
  ['one change, from its return, p99', 'ms', 2],
  ['one change, CPU', 'ms', 2],
  ['1 % changes a second, CPU a second', 'ms', 1],
];

/** weftd returns the memory of its start within 15 s. */
const seconds = { settle: 20, idle: 10, churn: 8 };
const changes = 100;

class PeersBench {
  readonly #host: BenchHost;
  readonly #store: PeerStore;
  readonly #events: KernelWitness;
  readonly #ready: KernelWitness;
  readonly #notifySocket: string;

  constructor(host: BenchHost, store: PeerStore, events: KernelWitness, ready: KernelWitness, notifySocket: string) {
    this.#host = host;
    this.#store = store;
    this.#events = events;
    this.#ready = ready;
    this.#notifySocket = notifySocket;
  }

  static async open(host: BenchHost): Promise<PeersBench> {
    ipBatch(undefined, [
      'link add eth0 type veth peer name far0',
      'link set far0 up',
      'addr add 172.31.0.1/16 dev eth0',
      'link set eth0 up',
      'route add default via 172.31.0.2',
    ]);
    const store = await PeerStore.start();
    const notifySocket = join(host.folder, 'notify.sock');
    const [events, ready] = [new KernelWitness('events'), new KernelWitness('ready', notifySocket)];
    await Promise.all([events.begun(), ready.begun()]);
    await store.putConfig(networkConfig);
    return new PeersBench(host, store, events, ready, notifySocket);
  }

  async close(): Promise<void> {
    this.#events.stop();
    this.#ready.stop();
    await this.#store.stop();
    execFileSync('ip', ['link', 'del', 'eth0']);
  }

  async fill(count: number): Promise<void> {
    await this.#store.removeAllPeers();
    await this.#store.putPeers(Array.from({ length: count }, (_, i) => peerOf(i)));
  }

  /** The same entries by the cheapest way that there is, into a device of the same kind. */
  floor(count: number): number {
    ipBatch(undefined, ['link add floor type vxlan id 99 dev eth0 dstport 8999 nolearning', 'link set floor up']);
    const connection = openNetlink(sys);
    try {
      const { index } = connection.get(getLink({ name: 'floor' }))!;
      const peers = Array.from({ length: count }, (_, i) => {
        const { subnet, host, mac } = peerOf(i);
        // Others than the contenders', so that what the witness tells late is not taken for theirs.
        return {
          subnet: parsePrefix(`${subnet.replace('10.', '11.')}/24`)!,
          host: parseAddress(host)!,
          mac: parseMac(mac)!,
        };
      });
      const requests: NetlinkRequest[] = [];
      for (const { subnet, host, mac } of peers) {
        requests.push(
          newNeighbour({ index, address: subnet.address, mac }),
          newFdbEntry({ index, mac, destination: host }),
          newRoute({ destination: subnet, gateway: subnet.address, oif: index, onlink: true }, 'replace'),
        );
      }
      const start = nowMs();
      connection.execute(requests);
      return nowMs() - start;
    } finally {
      connection.close();
      execFileSync('ip', ['link', 'del', 'floor']);
    }
  }

  #start(contender: Contender, files: NodeFiles): Running {
    this.#events.lines.length = 0;
    this.#ready.lines.length = 0;
    const argv = contender.argv(this.#store.endpoint, files);
    return new Running(this.#host, argv, files.logFile, this.#notifySocket);
  }

  async #becomesReady({ service, startMs }: Running): Promise<number> {
    const line = await waitFor(
      'READY=1',
      () => {
        if (!service.alive) throw new Error(readFileSync(service.logFile, 'utf8').slice(-2000));
        return this.#ready.lines.find(({ what }) => what.includes('READY=1'));
      },
      { deadlineMs: 60_000 },
    );
    return line.ms - startMs;
  }

  /** When each of these routes was made, for the first time. */
  async #routesMade(subnets: ReadonlySet<string>, from = 0): Promise<Map<string, number>> {
    const made = new Map<string, number>();
    let at = from;
    await waitFor(
      `${subnets.size} routes`,
      () => {
        for (; at < this.#events.lines.length; at++) {
          const { ms, what } = this.#events.lines[at]!;
          const [change, kind, subnet = ''] = what.split(' ');
          if (change === 'new' && kind === 'route' && subnets.has(subnet) && !made.has(subnet)) made.set(subnet, ms);
        }
        return made.size === subnets.size;
      },
      { deadlineMs: 120_000, intervalMs: 5 },
    );
    return made;
  }

  async contend(contender: Contender, count: number): Promise<Figures> {
    const files = new NodeFiles(join(this.#host.folder, `${contender.name}-${count}`));
    for (const folder of [files.runDir, files.stateDir]) mkdirSync(folder, { recursive: true });
    const figures: Figures = {};
    let running = this.#start(contender, files);
    try {
      const subnets = new Set(Array.from({ length: count }, (_, i) => `${peerOf(i).subnet}/24`));
      const made = await this.#routesMade(subnets);
      figures['cold start, CPU'] = running.cpuMs();
      figures['cold start, all programmed'] = Math.max(...made.values()) - running.startMs;
      figures['cold start, ready'] = await this.#becomesReady(running);
      await sleep(seconds.settle * 1000);

      const idleMs = running.cpuMs();
      await sleep(seconds.idle * 1000);
      figures['idle, CPU a second'] = (running.cpuMs() - idleMs) / seconds.idle;
      figures['memory, resident'] = running.megabytes('VmRSS');
      figures['memory, of its own'] = running.megabytes('RssAnon');

      await this.#changeOneByOne(running, count, figures);
      await this.#churn(running, count, figures);
      // The last changes have to reach the kernel, too.
      await sleep(1000);
      figures['memory, peak'] = running.megabytes('VmHWM');
      await running.stop();

      running = this.#start(contender, files);
      figures['restart, ready'] = await this.#becomesReady(running);
      figures['restart, CPU'] = running.cpuMs();
      await sleep(3000);
      figures['restart, kernel changes'] = this.#events.lines.length;
      await running.stop();
    } finally {
      await running.service.stop('SIGKILL');
    }
    execFileSync('ip', ['link', 'del', 'flannel.1']);
    rmSync(files.folder, { recursive: true });
    return figures;
  }

  /** New peers, one at a time. */
  async #changeOneByOne(running: Running, count: number, figures: Figures): Promise<void> {
    const fromCall: number[] = [];
    const fromReturn: number[] = [];
    const added = Array.from({ length: changes }, (_, i) => peerOf(count + i));
    // Their etcd leases are had before.
    await this.#store.putPeers(added);
    await this.#routesMade(new Set(added.map(({ subnet }) => `${subnet}/24`)));
    for (const peer of added) await this.#store.removePeer(peer);
    await sleep(2000);
    const beforeMs = running.cpuMs();
    for (const peer of added) {
      const from = this.#events.lines.length;
      const callMs = nowMs();
      await this.#store.putPeers([peer]);
      const returnMs = nowMs();
      const subnet = `${peer.subnet}/24`;
      const madeMs = (await this.#routesMade(new Set([subnet]), from)).get(subnet)!;
      fromCall.push(madeMs - callMs);
      fromReturn.push(madeMs - returnMs);
      await sleep(40);
    }
    figures['one change, CPU'] = (running.cpuMs() - beforeMs) / changes;
    figures['one change, from its call, median'] = quantile(fromCall, 0.5);
    figures['one change, from its call, p99'] = quantile(fromCall, 0.99);
    figures['one change, from its return, median'] = quantile(fromReturn, 0.5);
    figures['one change, from its return, p99'] = quantile(fromReturn, 0.99);
    for (const peer of added) await this.#store.removePeer(peer);
    await sleep(1000);
  }

  /** A hundredth of the peers gets another MAC each second. */
  async #churn(running: Running, count: number, figures: Figures): Promise<void> {
    const total = Math.round((count / 100) * seconds.churn);
    const startMs = nowMs();
    const cpuMs = running.cpuMs();
    for (let i = 0; i < total; i++) {
      await this.#store.putPeers([peerOf(Math.floor((i * count) / total), 1)]);
      await sleep(Math.max(0, startMs + ((i + 1) * seconds.churn * 1000) / total - nowMs()));
    }
    figures['1 % changes a second, CPU a second'] = ((running.cpuMs() - cpuMs) * 1000) / (nowMs() - startMs);
  }
}

const cell = (value: number | undefined, unit: string, digits: number): string =>
  (value === undefined ? '–' : `${value.toFixed(digits)}${unit && ` ${unit}`}`).padStart(13);

/** One table: a row a figure, a pair of columns a number of peers. */
function formatTable(
  counts: readonly number[],
  floors: readonly number[],
  figures: readonly Map<string, Figures>[],
  other: string | undefined,
): string {
  const width = Math.max(...rows.map(([name]) => name.length));
  const both = other !== undefined;
  const heads = counts.map(
    (count) => `${count} peers`.padStart(13) + (both ? `${other.padStart(13)}${'ratio'.padStart(8)}` : ''),
  );
  const lines = rows.map(([name, unit, digits]) => {
    const cells = figures.map((of) => {
      const [mine, theirs] = [of.get('weftd')![name], other === undefined ? undefined : of.get(other)?.[name]];
      const ratio = mine !== undefined && theirs ? (mine / theirs).toFixed(2) : '–';
      return cell(mine, unit, digits) + (both ? cell(theirs, unit, digits) + ratio.padStart(8) : '');
    });
    return name.padEnd(width) + cells.join('');
  });
  const floorCells = floors.map((ms) => cell(ms, 'ms', 1) + (both ? ' '.repeat(21) : ''));
  return [
    'weftd'.padEnd(width) + heads.join(''),
    ...lines,
    'the same by raw netlink'.padEnd(width) + floorCells.join(''),
    ...(both ? [] : ['flanneld is left out: WEFT_TEST_FLANNELD names none']),
  ].join('\n');
}

/** WEFT_BENCH_PEERS=100,1000 for other numbers; 5000,5000 for two rounds. */
export async function benchPeers(host: BenchHost, counts: readonly number[]): Promise<string> {
  const contenders = contendersOf(host);
  const bench = await PeersBench.open(host);
  try {
    const floors: number[] = [];
    const figures: Map<string, Figures>[] = [];
    for (const [i, count] of counts.entries()) {
      floors.push(Math.min(...[1, 2, 3].map(() => bench.floor(count))));
      const of = new Map<string, Figures>();
      // Of several rounds with one number of peers, each contender is the first in half of them.
      for (const contender of i % 2 === 0 ? contenders : contenders.toReversed()) {
        await bench.fill(count);
        of.set(contender.name, await bench.contend(contender, count));
      }
      figures.push(of);
    }
    return formatTable(counts, floors, figures, contenders[1]?.name);
  } finally {
    await bench.close();
  }
}
