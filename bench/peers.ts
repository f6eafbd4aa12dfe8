/**
 * weftd with many peers, beside plain netlink as the lower bound, and beside flanneld if WEFT_TEST_FLANNELD names one: time
 * of a cold start and of a restart, memory, time and CPU time of changes.
 *
 * The peers are leases in flannel's format in a real etcd, without hosts.
 */

import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { EtcdConnection } from '../cluster/etcd/connection.ts';
import { type NetlinkRequest, openNetlink } from '../linux/netlink/connection.ts';
import { getLink } from '../linux/netlink/link.ts';
import { newFdbEntry, newNeighbour } from '../linux/netlink/neighbour.ts';
import { newRoute } from '../linux/netlink/route.ts';
import { clock } from '../linux/sys.ts';
import { sys } from '../linux/sys-bun.ts';
import { parseAddress } from '../net/address.ts';
import { parseMac } from '../net/mac.ts';
import { parsePrefix } from '../net/prefix.ts';
import { freePort, TestEtcd } from '../test/lab/etcd.ts';
import { waitFor } from '../test/lab/wait.ts';
import type { BenchHost } from './host.ts';
import { quantile } from './sample.ts';

const prefix = '/coreos.com/network';
const networkConfig = { Network: '10.0.0.0/8', SubnetLen: 24, Backend: { Type: 'vxlan' } };
const flanneld = process.env['WEFT_TEST_FLANNELD'];

const nowMs = (): number => sys.clock_gettime(clock.CLOCK_MONOTONIC);
const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

interface Peer {
  readonly subnet: string;
  readonly host: string;
  readonly mac: string;
}

const byte = (value: number): number => value & 255;
const hex = (value: number): string => byte(value).toString(16).padStart(2, '0');

/** The peer of that number; with another MAC for each `edition`. */
const peerOf = (i: number, edition = 0): Peer => ({
  subnet: `10.${100 + (i >> 8)}.${byte(i)}.0`,
  host: `172.16.${i >> 8}.${byte(i)}`,
  mac: `02:${hex(edition)}:00:${hex(i >> 16)}:${hex(i >> 8)}:${hex(i)}`,
});

const keyOf = ({ subnet }: Peer): string => `${prefix}/subnets/${subnet}-24`;
const leaseOf = ({ host, mac }: Peer): string =>
  JSON.stringify({ PublicIP: host, PublicIPv6: null, BackendType: 'vxlan', BackendData: { VNI: 1, VtepMAC: mac } });

/** etcd, used from outside the contenders. */
class Etcd {
  readonly server: TestEtcd;
  readonly endpoint: string;
  readonly #connection: EtcdConnection;
  readonly #leases = new Map<string, string>();

  private constructor(server: TestEtcd) {
    this.server = server;
    this.endpoint = server.endpoint;
    this.#connection = new EtcdConnection({
      etcd: { endpoints: [server.endpoint], prefix } as never,
      clock: {
        nowMs: () => Date.now(),
        setTimer: (callback, delayMs) => {
          const timer = setTimeout(callback, delayMs);
          return { cancel: () => clearTimeout(timer) };
        },
      },
      random: () => 0,
      timeoutMs: 30_000,
    });
  }

  /** In memory if possible, so that the disk's sync is not measured. */
  static async start(): Promise<Etcd> {
    const folder = mkdtempSync(join(existsSync('/dev/shm') ? '/dev/shm' : tmpdir(), 'weft-bench-etcd-'));
    const [client, peer] = [`http://127.0.0.1:${await freePort()}`, `http://127.0.0.1:${await freePort()}`];
    const args = [
      ...['--data-dir', join(folder, 'data'), '--name', 'bench', '--logger', 'zap', '--log-outputs', 'stderr'],
      ...['--listen-client-urls', client, '--advertise-client-urls', client],
      ...['--listen-peer-urls', peer, '--initial-advertise-peer-urls', peer, '--initial-cluster', `bench=${peer}`],
    ];
    const server = new TestEtcd(client, folder, args, {});
    await server.start();
    return new Etcd(server);
  }

  /** Writes keys, a hundred per transaction, each with an etcd lease of its own if `leased`. */
  async put(entries: readonly (readonly [key: string, value: string])[], leased = true): Promise<void> {
    for (let at = 0; at < entries.length; at += 100) {
      const some = entries.slice(at, at + 100);
      await this.#connection.call('write', some[0]![0], async ({ client }) => {
        if (leased) {
          const missing = some.filter(([key]) => !this.#leases.has(key));
          const grants = await Promise.all(missing.map(() => client.leaseClient.leaseGrant({ TTL: 86_400 })));
          for (const [i, [key]] of missing.entries()) this.#leases.set(key, grants[i]!.ID);
        }
        const success = some.map(([key, value]) => ({
          request_put: { key: Buffer.from(key), value: Buffer.from(value), lease: this.#leases.get(key) ?? '0' },
        }));
        return await client.kv.txn({ success });
      });
    }
  }

  async putPeers(peers: readonly Peer[]): Promise<void> {
    await this.put(peers.map((peer) => [keyOf(peer), leaseOf(peer)]));
  }

  /** Deletes the key, or all keys with this prefix. */
  async remove(key: string, range = false): Promise<void> {
    const end = Buffer.from(key);
    end[end.length - 1]! += 1;
    await this.#connection.call('delete', key, ({ client }) =>
      client.kv.deleteRange({ key: Buffer.from(key), ...(range ? { range_end: end } : {}) }),
    );
  }

  async stop(): Promise<void> {
    this.#connection.close();
    await this.server.remove();
  }
}

/** The events that a witness reported. */
class Witness {
  readonly lines: { readonly ms: number; readonly what: string }[] = [];
  readonly #child: ChildProcess;
  #rest = '';

  constructor(...args: string[]) {
    const path = new URL('../test/lab/kernel-witness.main.ts', import.meta.url).pathname;
    this.#child = spawn(process.execPath, [path, ...args], { stdio: ['ignore', 'pipe', 'inherit'] });
    this.#child.stdout!.setEncoding('utf8').on('data', (chunk: string) => {
      const lines = (this.#rest + chunk).split('\n');
      this.#rest = lines.pop()!;
      for (const line of lines) {
        const space = line.indexOf(' ');
        this.lines.push({ ms: Number(line.slice(0, space)), what: line.slice(space + 1) });
      }
    });
  }

  async begun(): Promise<this> {
    await waitFor('the witness to begin', () => this.lines.length > 0);
    this.lines.length = 0;
    return this;
  }

  stop(): void {
    this.#child.kill('SIGKILL');
  }
}

interface Contender {
  readonly name: string;
  readonly argv: (endpoint: string, folder: string) => string[];
}

const weftd: Contender = {
  name: 'weftd',
  argv: (endpoint, folder) => [
    new URL('../dist/bin/weftd', import.meta.url).pathname,
    ...['--node', 'bench', '--etcd-endpoints', endpoint, '--iface', 'eth0', '--log-format', 'text'],
    ...['--run-dir', join(folder, 'run'), '--state-dir', join(folder, 'state')],
    ...['--subnet-file', join(folder, 'subnet.env'), '--ip-masq=false'],
  ],
};

const flannel: Contender = {
  name: 'flanneld',
  argv: (endpoint, folder) => [
    flanneld!,
    `-etcd-endpoints=${endpoint}`,
    '-iface=eth0',
    `-subnet-file=${join(folder, 'subnet.env')}`,
    '-ip-masq=false',
  ],
};

/** A running contender. */
class Running {
  readonly startMs: number;
  readonly child: ChildProcess;

  constructor(contender: Contender, endpoint: string, folder: string, notifySocket: string) {
    const log = openSync(join(folder, 'log'), 'a');
    const [program, ...args] = contender.argv(endpoint, folder);
    this.startMs = nowMs();
    this.child = spawn(program!, args, {
      env: { PATH: process.env['PATH'], NOTIFY_SOCKET: notifySocket },
      stdio: ['ignore', log, log],
    });
  }

  /** User and system time so far. */
  cpuMs(): number {
    const fields = readFileSync(`/proc/${this.child.pid}/stat`, 'utf8').split(') ')[1]!.split(' ');
    // In hundredths of a second: USER_HZ is 100 on every machine in question.
    return (Number(fields[11]) + Number(fields[12])) * 10;
  }

  /** A field of proc(5)'s status, in megabytes. */
  megabytes(field: string): number {
    return (
      Number(new RegExp(`^${field}:\\s+(\\d+)`, 'm').exec(readFileSync(`/proc/${this.child.pid}/status`, 'utf8'))![1]) /
      1000
    );
  }

  async stop(): Promise<void> {
    const ended = new Promise((resolve) => this.child.once('exit', resolve));
    this.child.kill('SIGTERM');
    // flanneld with thousands of peers sometimes never ends.
    const timer = setTimeout(() => this.child.kill('SIGKILL'), 5000);
    await ended;
    clearTimeout(timer);
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
  ['idle, CPU per second', 'ms', 1],
  ['one change, from its call, median', 'ms', 2],
  ['one change, from its call, p99', 'ms', 2],
  ['one change, from its return, median', 'ms', 2],
  ['one change, from its return, p99', 'ms', 2],
  ['one change, CPU', 'ms', 2],
  ['1 % changes a second, CPU per second', 'ms', 1],
];

/** weftd returns the start's memory within 15 s. */
const seconds = { settle: 20, idle: 10, churn: 8 };
const changes = 100;

class PeersBench {
  readonly #host: BenchHost;
  readonly #etcd: Etcd;
  readonly #events: Witness;
  readonly #ready: Witness;
  readonly #notifySocket: string;

  constructor(host: BenchHost, etcd: Etcd, events: Witness, ready: Witness, notifySocket: string) {
    this.#host = host;
    this.#etcd = etcd;
    this.#events = events;
    this.#ready = ready;
    this.#notifySocket = notifySocket;
  }

  static async open(host: BenchHost): Promise<PeersBench> {
    execFileSync('ip', ['-batch', '-'], {
      input:
        'link add eth0 type veth peer name far0\nlink set far0 up\naddr add 172.31.0.1/16 dev eth0\nlink set eth0 up\nroute add default via 172.31.0.2\n',
    });
    const etcd = await Etcd.start();
    const notifySocket = join(host.folder, 'notify.sock');
    const [events, ready] = [new Witness('events'), new Witness('ready', notifySocket)];
    await Promise.all([events.begun(), ready.begun()]);
    await etcd.put([[`${prefix}/config`, JSON.stringify(networkConfig)]], false);
    return new PeersBench(host, etcd, events, ready, notifySocket);
  }

  async close(): Promise<void> {
    this.#events.stop();
    this.#ready.stop();
    await this.#etcd.stop();
    execFileSync('ip', ['link', 'del', 'eth0']);
  }

  async fill(count: number): Promise<void> {
    await this.#etcd.remove(`${prefix}/subnets/`, true);
    await this.#etcd.putPeers(Array.from({ length: count }, (_, i) => peerOf(i)));
  }

  /** The same entries in the cheapest way, into a device of the same kind. */
  floor(count: number): number {
    execFileSync('ip', ['-batch', '-'], {
      input: 'link add floor type vxlan id 99 dev eth0 dstport 8999 nolearning\nlink set floor up\n',
    });
    const connection = openNetlink(sys);
    try {
      const { index } = connection.get(getLink({ name: 'floor' }))!;
      const peers = Array.from({ length: count }, (_, i) => {
        const { subnet, host, mac } = peerOf(i);
        // Not the contenders' subnets, so that late events of the witness do not count for them.
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

  #start(contender: Contender, folder: string): Running {
    this.#events.lines.length = 0;
    this.#ready.lines.length = 0;
    return new Running(contender, this.#etcd.endpoint, folder, this.#notifySocket);
  }

  async #becomesReady(running: Running, folder: string): Promise<number> {
    const line = await waitFor(
      'READY=1',
      () => {
        if (running.child.exitCode !== null) throw new Error(readFileSync(join(folder, 'log'), 'utf8').slice(-2000));
        return this.#ready.lines.find(({ what }) => what.includes('READY=1'));
      },
      { deadlineMs: 60_000 },
    );
    return line.ms - running.startMs;
  }

  /** The time when each of these routes first appeared. */
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
    const folder = join(this.#host.folder, `${contender.name}-${count}`);
    for (const name of ['', 'run', 'state']) mkdirSync(join(folder, name), { recursive: true });
    const figures: Figures = {};
    let running = this.#start(contender, folder);
    try {
      const subnets = new Set(Array.from({ length: count }, (_, i) => `${peerOf(i).subnet}/24`));
      const made = await this.#routesMade(subnets);
      figures['cold start, CPU'] = running.cpuMs();
      figures['cold start, all programmed'] = Math.max(...made.values()) - running.startMs;
      figures['cold start, ready'] = await this.#becomesReady(running, folder);
      await sleep(seconds.settle * 1000);

      const idleMs = running.cpuMs();
      await sleep(seconds.idle * 1000);
      figures['idle, CPU per second'] = (running.cpuMs() - idleMs) / seconds.idle;
      figures['memory, resident'] = running.megabytes('VmRSS');
      figures['memory, of its own'] = running.megabytes('RssAnon');

      await this.#changeOneByOne(running, count, figures);
      await this.#churn(running, count, figures);
      // The last change must reach the kernel, too.
      await sleep(1000);
      figures['memory, peak'] = running.megabytes('VmHWM');
      await running.stop();

      running = this.#start(contender, folder);
      figures['restart, ready'] = await this.#becomesReady(running, folder);
      figures['restart, CPU'] = running.cpuMs();
      await sleep(3000);
      figures['restart, kernel changes'] = this.#events.lines.length;
      await running.stop();
    } finally {
      if (running.child.exitCode === null && running.child.signalCode === null) running.child.kill('SIGKILL');
    }
    execFileSync('ip', ['link', 'del', 'flannel.1']);
    rmSync(folder, { recursive: true });
    return figures;
  }

  /** New peers, one at a time. */
  async #changeOneByOne(running: Running, count: number, figures: Figures): Promise<void> {
    const fromCall: number[] = [];
    const fromReturn: number[] = [];
    const added = Array.from({ length: changes }, (_, i) => peerOf(count + i));
    // Their etcd leases are made beforehand.
    await this.#etcd.putPeers(added);
    await this.#routesMade(new Set(added.map(({ subnet }) => `${subnet}/24`)));
    for (const peer of added) await this.#etcd.remove(keyOf(peer));
    await sleep(2000);
    const beforeMs = running.cpuMs();
    for (const peer of added) {
      const from = this.#events.lines.length;
      const callMs = nowMs();
      await this.#etcd.putPeers([peer]);
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
    for (const peer of added) await this.#etcd.remove(keyOf(peer));
    await sleep(1000);
  }

  /** A hundredth of the peers gets another MAC each second. */
  async #churn(running: Running, count: number, figures: Figures): Promise<void> {
    const total = Math.round((count / 100) * seconds.churn);
    const startMs = nowMs();
    const cpuMs = running.cpuMs();
    for (let i = 0; i < total; i++) {
      await this.#etcd.putPeers([peerOf(Math.floor((i * count) / total), 1)]);
      await sleep(Math.max(0, startMs + ((i + 1) * seconds.churn * 1000) / total - nowMs()));
    }
    figures['1 % changes a second, CPU per second'] = ((running.cpuMs() - cpuMs) * 1000) / (nowMs() - startMs);
  }
}

const cell = (value: number | undefined, unit: string, digits: number): string =>
  (value === undefined ? '–' : `${value.toFixed(digits)}${unit && ` ${unit}`}`).padStart(13);

/** One table: a row per figure, a pair of columns per number of peers. */
function formatTable(
  counts: readonly number[],
  floors: readonly number[],
  figures: readonly Map<string, Figures>[],
): string {
  const width = Math.max(...rows.map(([name]) => name.length));
  const both = flanneld !== undefined;
  const heads = counts.map(
    (count) => `${count} peers`.padStart(13) + (both ? `${'flanneld'.padStart(13)}${'ratio'.padStart(8)}` : ''),
  );
  const lines = rows.map(([name, unit, digits]) => {
    const cells = figures.map((of) => {
      const [mine, theirs] = [of.get('weftd')![name], of.get('flanneld')?.[name]];
      const ratio = mine !== undefined && theirs ? (mine / theirs).toFixed(2) : '–';
      return cell(mine, unit, digits) + (both ? cell(theirs, unit, digits) + ratio.padStart(8) : '');
    });
    return name.padEnd(width) + cells.join('');
  });
  const floorCells = floors.map((ms) => cell(ms, 'ms', 1) + (both ? ' '.repeat(21) : ''));
  return [
    'weftd'.padEnd(width) + heads.join(''),
    ...lines,
    'the same by plain netlink'.padEnd(width) + floorCells.join(''),
    ...(both ? [] : ['without flanneld: WEFT_TEST_FLANNELD names none']),
  ].join('\n');
}

/** WEFT_BENCH_PEERS=100,1000 for other numbers. */
export async function benchPeers(host: BenchHost, counts: readonly number[]): Promise<string> {
  const bench = await PeersBench.open(host);
  try {
    const floors: number[] = [];
    const figures: Map<string, Figures>[] = [];
    for (const count of counts) {
      floors.push(Math.min(...[1, 2, 3].map(() => bench.floor(count))));
      const of = new Map<string, Figures>();
      for (const contender of flanneld === undefined ? [weftd] : [weftd, flannel]) {
        await bench.fill(count);
        of.set(contender.name, await bench.contend(contender, count));
      }
      figures.push(of);
    }
    return formatTable(counts, floors, figures);
  } finally {
    await bench.close();
  }
}
