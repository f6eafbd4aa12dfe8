/**
 * A cluster under random faults and constant traffic: four hosts, three containers on each, all of which ask all others
 * ten times a second. What may be lost, and when, follows from the faults: where the hosts' network itself was cut, and
 * for a moment where a tunnel device was taken away. Nothing else. The faults are drawn from a seed.
 */

import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type Cluster, etcdPrefix, startCluster } from '../lab/cluster.ts';
import { runAsync, type Service } from '../lab/commands.ts';
import type { Host } from '../lab/host.ts';
import type { MeshLine, MeshReport } from '../lab/mesh.main.ts';
import { waitFor } from '../lab/wait.ts';
import { randomStream } from '../support/random.ts';

const hostCount = 4;
const podsPerHost = 3;
const meshPort = 7010;
const askEveryMs = 100;
const meshScript = fileURLToPath(new URL('../lab/mesh.main.ts', import.meta.url));

/** How long a fault of each kind lasts, in milliseconds: at least and at most. */
const kinds = {
  'etcd killed': [1000, 5000],
  'etcd frozen': [1000, 6000],
  'weftd killed': [0, 3000],
  'weftd frozen, and etcd compacted': [1000, 4000],
  'port down': [1000, 3000],
  'cut one way': [1000, 4000],
  'device deleted': [0, 0],
  'lease deleted': [0, 0],
  'rules flushed': [0, 0],
} as const satisfies Record<string, readonly [number, number]>;

type FaultKind = keyof typeof kinds;
const kindNames = Object.keys(kinds) as FaultKind[];

export interface Fault {
  readonly kind: FaultKind;
  /** Since the beginning. */
  readonly atMs: number;
  readonly forMs: number;
  /** Whom it befalls, by index; of a cut, who is not heard. */
  readonly host: number;
  /** Of a cut, who does not hear. */
  readonly other: number;
}

const isEtcds = ({ kind }: Fault): boolean => kind === 'etcd killed' || kind === 'etcd frozen';
const isWeftds = ({ kind }: Fault): boolean => kind === 'weftd killed' || kind === 'weftd frozen, and etcd compacted';
const isPorts = ({ kind }: Fault): boolean => kind === 'port down';
/** Whether both are under way at some time, or less than `marginMs` lies between them. */
const near = (a: Fault, b: Fault, marginMs: number): boolean =>
  a.atMs < b.atMs + b.forMs + marginMs && b.atMs < a.atMs + a.forMs + marginMs;

/** How long after etcd is back, or reachable again, weftd may take until it knows the cluster. */
const settleMs = 5000;

/**
 * Whether the fault may come beside those before it. Any may, but that nothing is stopped twice, and that what only a
 * weftd that knows the cluster can mend is not broken while there is none.
 */
function fits(fault: Fault, before: readonly Fault[]): boolean {
  const sameHost = before.filter(({ host }) => host === fault.host);
  if (isEtcds(fault) && before.some((other) => isEtcds(other) && near(fault, other, settleMs))) return false;
  if (isWeftds(fault) && sameHost.some((other) => isWeftds(other) && near(fault, other, 1000))) return false;
  if (isPorts(fault) && sameHost.some((other) => isPorts(other) && near(fault, other, 1000))) return false;
  const { kind } = fault;
  // What is done in etcd needs it.
  if (kind === 'weftd frozen, and etcd compacted' && before.some((other) => isEtcds(other) && near(fault, other, 1000)))
    return false;
  if (kind === 'cut one way') return !before.some((other) => other.kind === kind && near(fault, other, 500));
  const needsWeftd = kind === 'device deleted' || kind === 'lease deleted';
  if (!needsWeftd) return true;
  if (sameHost.some((other) => (isWeftds(other) || isPorts(other)) && near(fault, other, settleMs))) return false;
  if (kind === 'lease deleted') {
    // Whoever starts just then finds no lease, and knows of none.
    return !before.some((other) => (isEtcds(other) || isWeftds(other)) && near(fault, other, settleMs));
  }
  // A weftd that was started while etcd was away knows nothing of the cluster until etcd is back.
  return !sameHost.some(
    (killed) =>
      killed.kind === 'weftd killed' &&
      before.some((other) => {
        const away = isEtcds(other) || (isPorts(other) && other.host === fault.host);
        return away && near(killed, other, settleMs) && near(fault, other, settleMs);
      }),
  );
}

/** Faults for so long, one each few seconds. The same for the same seed. */
export function planFaults(seed: number, durationMs: number): Fault[] {
  const random = randomStream(seed);
  const between = (least: number, most: number): number => Math.round(least + random() * (most - least));
  const index = (count: number): number => Math.floor(random() * count);
  const faults: Fault[] = [];
  for (let atMs = 1000; atMs < durationMs; atMs += between(1500, 5000)) {
    for (let attempt = 0; attempt < 10; attempt++) {
      const kind = kindNames[index(kindNames.length)]!;
      const [least, most] = kinds[kind];
      const forMs = between(least, most);
      const host = index(hostCount);
      const other = (host + 1 + index(hostCount - 1)) % hostCount;
      const fault = { kind, atMs, forMs, host, other };
      if (!fits(fault, faults)) continue;
      faults.push(fault);
      break;
    }
  }
  return faults;
}

export function formatFault({ kind, atMs, forMs, host, other }: Fault): string {
  const whom = kind.startsWith('etcd') ? '' : ` host${host + 1}${kind === 'cut one way' ? ` → host${other + 1}` : ''}`;
  return `${(atMs / 1000).toFixed(1).padStart(6)} s  ${kind}${whom}${forMs > 0 ? ` for ${(forMs / 1000).toFixed(1)} s` : ''}`;
}

/** When packets between which hosts may be lost. */
interface Window {
  readonly fromMs: number;
  readonly toMs: number;
  /** All ways to and from one, or those between two. */
  readonly hosts: readonly number[];
  readonly because: string;
  /** The fault's end; what is lost later is part of its grace. */
  readonly endMs: number;
}

/** A question asked just before a fault is answered during it. */
const leadMs = 150;
/** After a cut the hosts look for each other's MAC, once a second. */
const cutGraceMs = 2000;
/** What is promised is a second; a busy machine gets half of one more. */
const healMs = 1500;

const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

class Breaker {
  readonly windows: Window[] = [];
  readonly done: { readonly fault: Fault; readonly fromMs: number; readonly toMs: number }[] = [];
  readonly #cluster: Cluster;

  constructor(cluster: Cluster) {
    this.#cluster = cluster;
  }

  async apply(fault: Fault): Promise<void> {
    const fromMs = Date.now();
    await this.#steps(fault, this.#cluster.hosts[fault.host]!);
    const toMs = Date.now();
    this.done.push({ fault, fromMs, toMs });
    const because = formatFault(fault).trim();
    const allow = (graceMs: number, ...hosts: number[]): void =>
      void this.windows.push({ fromMs: fromMs - leadMs, toMs: toMs + graceMs, endMs: toMs, hosts, because });
    if (fault.kind === 'port down') allow(cutGraceMs, fault.host);
    else if (fault.kind === 'cut one way') allow(cutGraceMs, fault.host, fault.other);
    else if (fault.kind === 'device deleted') allow(healMs, fault.host);
  }

  async #steps({ kind, forMs, host: index, other }: Fault, host: Host): Promise<void> {
    const cluster = this.#cluster;
    const { switchNamespace } = cluster;
    const port = (...words: string[]) => runAsync(['ip', '-n', switchNamespace, 'link', 'set', 'dev', ...words]);
    switch (kind) {
      case 'etcd killed':
        await cluster.stopEtcd('SIGKILL');
        await sleep(forMs);
        return await cluster.startEtcd();
      case 'etcd frozen':
        cluster.etcd.freeze();
        await sleep(forMs);
        cluster.etcd.thaw();
        return;
      case 'weftd killed': {
        const { weftd } = host;
        if (!weftd!.alive) throw new Error(`weftd on ${host.name} has ended by itself:\n${host.log.slice(-4000)}`);
        await weftd!.stop('SIGKILL');
        await sleep(forMs);
        host.startWeftd('--ip-masq');
        return;
      }
      case 'weftd frozen, and etcd compacted': {
        const { pid } = host.weftd!;
        process.kill(pid, 'SIGSTOP');
        try {
          let revision = '';
          for (let i = 0; i < 3; i++) {
            const answer = await cluster.etcd.ctlAsync('put', `${etcdPrefix}/soak`, String(i), '-w', 'json');
            revision = String((JSON.parse(answer) as { header: { revision: number } }).header.revision);
          }
          await cluster.etcd.ctlAsync('compact', revision);
          await sleep(forMs);
        } finally {
          process.kill(pid, 'SIGCONT');
        }
        return;
      }
      case 'port down':
        await port(host.name, 'down');
        await sleep(forMs);
        await port(host.name, 'up');
        return;
      case 'cut one way': {
        const element = `{ "${host.name}" . "${cluster.hosts[other]!.name}" }`;
        const set = (verb: string) =>
          runAsync(['nft', verb, 'element', 'bridge', 'soak', 'cut', element], { namespace: switchNamespace });
        await set('add');
        await sleep(forMs);
        await set('delete');
        return;
      }
      case 'device deleted':
        await runAsync(['ip', '-n', host.namespace, 'link', 'del', 'flannel.1']);
        return;
      case 'lease deleted':
        await cluster.etcd.ctlAsync('del', this.#leaseKeys[index]!);
        return;
      case 'rules flushed':
        await runAsync(['nft', 'flush', 'ruleset'], { namespace: host.namespace });
        return;
    }
  }

  #leaseKeys: string[] = [];

  async prepare(): Promise<void> {
    const { hosts, switchNamespace } = this.#cluster;
    this.#leaseKeys = hosts.map((host) => host.status().lease!.key);
    const rules = [
      'add table bridge soak',
      'add set bridge soak cut { type ifname . ifname; }',
      'add chain bridge soak forward { type filter hook forward priority 0; }',
      'add rule bridge soak forward iifname . oifname @cut drop',
    ];
    await runAsync(['nft', '-f', '-'], { namespace: switchNamespace, stdin: `${rules.join('\n')}\n` });
  }
}

/** The programs that ask and answer. */
class Mesh {
  readonly #services = new Map<string, Service>();

  async start(cluster: Cluster): Promise<void> {
    const pods = cluster.hosts.flatMap((host) => host.pods);
    const file = join(cluster.scratch.folder, 'mesh.json');
    writeFileSync(file, JSON.stringify(Object.fromEntries(pods.map(({ name, address }) => [name, address]))));
    for (const { name, namespace } of pods) {
      const argv = [process.execPath, meshScript, name, String(meshPort), String(askEveryMs), file];
      const logFile = join(cluster.scratch.folder, `mesh-${name}.log`);
      this.#services.set(name, cluster.scratch.start(argv, { namespace, logFile }));
    }
    await this.#allAnswer('all containers to reach each other', Date.now(), 20_000);
  }

  #lastLine<T>(name: string): T | undefined {
    const lines = readFileSync(this.#services.get(name)!.logFile, 'utf8').split('\n');
    const line = lines.at(-2);
    return line ? (JSON.parse(line) as T) : undefined;
  }

  async #allAnswer(what: string, sinceMs: number, deadlineMs: number): Promise<void> {
    await waitFor(
      what,
      () => {
        for (const [name, { alive }] of this.#services) {
          if (!alive) throw new Error(`the traffic of ${name} has ended`);
          const line = this.#lastLine<MeshLine>(name);
          if (!line || line.at < sinceMs) throw new Error(`${name} says nothing`);
          if (line.silent.length > 0) throw new Error(`${name} does not hear of ${line.silent.join(', ')}`);
        }
        return true;
      },
      { deadlineMs, intervalMs: 100 },
    );
  }

  /** How long it takes until nobody waits for anybody. */
  async recover(): Promise<number> {
    const startMs = Date.now();
    await this.#allAnswer('all containers to reach each other again', startMs, 15_000);
    return Date.now() - startMs;
  }

  async stop(): Promise<MeshReport[]> {
    await Promise.all([...this.#services.values()].map((service) => service.stop('SIGINT')));
    return [...this.#services.keys()].map((name) => this.#lastLine<MeshReport>(name)!);
  }
}

export interface SoakReport {
  readonly sent: number;
  readonly received: number;
  /** Questions without an answer that no fault explains: who asked whom, when, and what was under way or just before. */
  readonly unexplained: readonly string[];
  readonly wrong: readonly string[];
  /** From the last fault's end until everybody heard of everybody. */
  readonly recoveryMs: number;
  /** For how long after a cut the last question was lost that nothing else explains. */
  readonly longestTailMs: number;
  /** For how long the ways of a host were gone after its device was deleted, each time. */
  readonly heals: readonly { readonly fault: string; readonly ms: number }[];
  /** Subnets at the beginning and at the end. */
  readonly subnets: { readonly before: readonly string[]; readonly after: readonly string[] };
}

const hostOf = (pod: string): number => Number(/^host(\d+)-/.exec(pod)![1]) - 1;

function touches({ hosts }: Window, a: number, b: number): boolean {
  return hosts.length === 1 ? hosts[0] === a || hosts[0] === b : hosts.includes(a) && hosts.includes(b);
}

export interface SoakOptions {
  readonly seed: number;
  readonly durationMs: number;
  readonly log: (line: string) => void;
}

/** Runs it. The cluster is there before and gone after. @throws where the cluster is not well afterwards */
export async function soak({ seed, durationMs, log }: SoakOptions): Promise<SoakReport> {
  const faults = planFaults(seed, durationMs);
  log(`${faults.length} faults in ${durationMs / 1000} s, from seed ${seed}:`);
  for (const fault of faults) log(`  ${formatFault(fault)}`);
  const cluster = await startCluster('soak', { hosts: hostCount, arguments: ['--ip-masq'] });
  try {
    for (const host of cluster.hosts) host.attachPods(podsPerHost);
    const breaker = new Breaker(cluster);
    await breaker.prepare();
    const before = cluster.hosts.map(({ subnet }) => subnet);
    const mesh = new Mesh();
    await mesh.start(cluster);

    const startMs = Date.now();
    const under: Promise<void>[] = [];
    let failure: unknown;
    for (const fault of faults) {
      await sleep(Math.max(0, startMs + fault.atMs - Date.now()));
      if (failure !== undefined) break;
      under.push(
        breaker.apply(fault).catch((error: unknown) => {
          failure ??= error;
        }),
      );
    }
    await Promise.all(under);
    if (failure !== undefined) throw failure;
    const recoveryMs = await mesh.recover();
    for (const host of cluster.hosts) await host.reaches(cluster.hosts);
    const reports = await mesh.stop();
    const after = cluster.hosts.map(({ subnet }) => subnet);
    return { ...judge(reports, breaker, startMs), recoveryMs, subnets: { before, after } };
  } catch (error) {
    const logs = cluster.hosts.map((host) => `${host.name}:\n${host.log.slice(-3000)}`).join('\n');
    throw new Error(`Seed ${seed}: ${error instanceof Error ? error.message : error}\n${logs}`);
  } finally {
    cluster.remove();
  }
}

function judge(reports: readonly MeshReport[], breaker: Breaker, startMs: number) {
  const unexplained: string[] = [];
  const heals = new Map<Window, number>();
  let longestTailMs = 0;
  for (const { id, lost } of reports) {
    for (const [other, times] of Object.entries(lost)) {
      const [a, b] = [hostOf(id), hostOf(other)];
      for (const at of times) {
        // Not all were there at once.
        if (at < startMs) continue;
        const windows = breaker.windows.filter(
          (window) => a !== b && touches(window, a, b) && window.fromMs <= at && at <= window.toMs,
        );
        // What a single window explains tells how long that fault lasted.
        if (windows.length === 1) {
          const window = windows[0]!;
          if (!window.because.includes('device')) longestTailMs = Math.max(longestTailMs, at - window.endMs);
          heals.set(window, Math.max(heals.get(window) ?? 0, at - window.fromMs - leadMs + askEveryMs));
        }
        if (windows.length > 0) continue;
        const near = breaker.done
          .filter(({ fromMs, toMs }) => fromMs - 500 <= at && at <= toMs + 3000)
          .map(({ fault }) => formatFault(fault).trim().replace(/\s+/g, ' '));
        unexplained.push(
          `${((at - startMs) / 1000).toFixed(2)} s: ${id} → ${other}; near: ${near.join(', ') || 'nothing'}`,
        );
      }
    }
  }
  const total = (key: 'sent' | 'received'): number => reports.reduce((sum, report) => sum + report[key], 0);
  return {
    sent: total('sent'),
    received: total('received'),
    unexplained: unexplained.sort((x, y) => Number.parseFloat(x) - Number.parseFloat(y)),
    wrong: reports.flatMap((report) => report.wrong),
    longestTailMs,
    heals: [...heals]
      .filter(([{ because }]) => because.includes('device deleted'))
      .map(([{ because }, ms]) => ({ fault: because, ms })),
  };
}
