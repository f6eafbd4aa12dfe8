/** Faults of a cluster, drawn from a seed, and how they are done. */

import { type Cluster, etcdPrefix } from '../lab/cluster.ts';
import { runAsync } from '../lab/commands.ts';
import type { Host } from '../lab/host.ts';
import { randomStream } from '../support/random.ts';

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
  /** The index of the host that it hits; of a cut, the host that is not heard. */
  readonly host: number;
  /** Of a cut, the host that does not hear. */
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
  // A change in etcd needs etcd.
  if (kind === 'weftd frozen, and etcd compacted' && before.some((other) => isEtcds(other) && near(fault, other, 1000)))
    return false;
  if (kind === 'cut one way') return !before.some((other) => other.kind === kind && near(fault, other, 500));
  const needsWeftd = kind === 'device deleted' || kind === 'lease deleted';
  if (!needsWeftd) return true;
  if (sameHost.some((other) => (isWeftds(other) || isPorts(other)) && near(fault, other, settleMs))) return false;
  if (kind === 'lease deleted') {
    // A weftd that starts just then finds no lease, and remembers none.
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
export function planFaults(seed: number, durationMs: number, hostCount: number): Fault[] {
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
export interface Window {
  readonly fromMs: number;
  readonly toMs: number;
  /** All ways to and from one, or those between two. */
  readonly hosts: readonly number[];
  readonly because: string;
  /** The fault's end; later losses are within its grace. */
  readonly endMs: number;
}

/** A question asked just before a fault is answered during it. */
export const leadMs = 150;
/** After a cut the hosts look for each other's MAC, once a second. */
const cutGraceMs = 2000;
/** The promise is a second; a busy machine gets half a second more. */
const healMs = 1500;

const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

export class Breaker {
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
