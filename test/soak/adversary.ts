/**
 * One host of four is an adversary: it has a node's rights in etcd, with real roles and certificates, and writes at random
 * below `subnets/` and `nodes/`. The containers of the three honest hosts ask each other all the time.
 *
 * What it cannot do, and what is asserted: whatever it writes under other keys, deletes, makes unreadable, or claims for another
 * host, the honest hosts keep their subnets, and no packet between their containers is lost. A node claims a deleted lease
 * again within two seconds, and writes over a stranger in it; its peers keep the way meanwhile (daemon/membership/disputes.ts). A
 * lease that comes back is as old as before, so that nothing which was written meanwhile outdoes it
 * (cluster/etcd/lease-reader.ts). weftd's memory and log stay bounded.
 *
 * What it can do, and no node can prevent, because etcd gives all nodes the same rights:
 * - Impersonate a node: write its lease with its name or its address and another MAC or address. The peers follow, until the
 *   node has written it again: at once three times, then after a minute, and more and more seldom.
 * - Take free subnets, all of them in the end, so that no new node gets one.
 * - Take the lease of a node whose weftd is stopped, suspended, or out of contact with etcd for more than 90 s.
 * - Copy the MAC of a node whose lease is younger than its own: the older lease keeps the MAC, and the node has no way in.
 * - Make records of nodes that do not exist, and delete those of others.
 * The kind of acts `impersonates` is for experiments: WEFT_ADVERSARY_KINDS=around,impersonates.
 */

import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { AdversaryOptions, AdversaryReport } from '../lab/adversary.main.ts';
import { Cluster, etcdPrefix } from '../lab/cluster.ts';
import { run, type Service } from '../lab/commands.ts';
import type { Host } from '../lab/host.ts';
import type { ActKind, Victim } from '../lab/hostile-acts.ts';
import { difference } from '../lab/kernel-state.ts';
import { Mesh } from '../lab/mesh.ts';
import { exampleConfig } from '../lab/project.ts';
import { waitFor } from '../lab/wait.ts';
import { CertificateAuthority } from '../support/certificates.ts';

const honestCount = 3;
const askEveryMs = 50;
const actsPerSecond = 300;
const warmUpMs = 1500;
/** Of each weftd, above what any work takes. */
export const keptMbAtMost = 20;
const samples = 10;
const samplePauseMs = 250;

const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

export interface AttackOptions {
  readonly seed: number;
  readonly durationMs: number;
  readonly kinds: readonly ActKind[];
  readonly log: (line: string) => void;
}

export interface AttackReport {
  readonly acts: number;
  /** Answers of etcd to acts that it refused. */
  readonly refused: Readonly<Record<string, number>>;
  readonly asked: number;
  /** The questions without an answer, by who asked whom, with the time since the attack's start in ms. */
  readonly lost: readonly string[];
  readonly wrong: readonly string[];
  readonly recoveryMs: number;
  /** Of each honest host: by how much weftd's memory has grown, in MB, after collections, and the lines that it logged in the worst minute. */
  readonly grownMb: readonly number[];
  /** The same at rest, when the adversary has ended. */
  readonly keptMb: readonly number[];
  readonly linesPerMinute: readonly number[];
  readonly subnets: { readonly before: readonly string[]; readonly after: readonly string[] };
  /** What differs in the honest hosts' kernels once the adversary's keys are gone. */
  readonly left: readonly string[];
}

const residentMb = (host: Host): number =>
  Number(/^RssAnon:\s+(\d+) kB/m.exec(readFileSync(`/proc/${host.weftd!.pid}/status`, 'utf8'))![1]) / 1024;

async function makeCluster(): Promise<{ cluster: Cluster; optionsOf: (name: string) => string[] }> {
  const cluster = new Cluster('adversary', { tls: true });
  try {
    const authority = new CertificateAuthority(cluster.scratch.makeFolder('tls'), 'authority');
    const names = `DNS:localhost,IP:127.0.0.1,IP:${cluster.underlay.gateway}`;
    cluster.useTls({
      caFile: authority.caFile,
      server: authority.issue('server', { commonName: 'etcd', names }),
      client: authority.issue('root', { commonName: 'root' }),
    });
    await cluster.startEtcd('--bcrypt-cost', '4', '--unsafe-no-fsync');
    cluster.put('config', readFileSync(exampleConfig, 'utf8'));
    const role = ['role', 'grant-permission', 'weft'];
    for (const words of [
      ['user', 'add', 'root:secret'],
      ['user', 'grant-role', 'root', 'root'],
      ['role', 'add', 'weft'],
      [...role, 'read', `${etcdPrefix}/config`],
      [...role, '--prefix=true', 'readwrite', `${etcdPrefix}/subnets/`],
      [...role, '--prefix=true', 'readwrite', `${etcdPrefix}/nodes/`],
      ['user', 'add', 'weft', '--no-password'],
      ['user', 'grant-role', 'weft', 'weft'],
      ['auth', 'enable'],
    ]) {
      cluster.etcdctl(...words);
    }
    const optionsOf = (name: string): string[] => {
      const { certFile, keyFile } = authority.issue(name, { commonName: 'weft' });
      return ['--etcd-cafile', authority.caFile, '--etcd-certfile', certFile, '--etcd-keyfile', keyFile];
    };
    return { cluster, optionsOf };
  } catch (error) {
    cluster.remove();
    throw error;
  }
}

/**
 * Its kernel. A set of the packet filter stays for each length that a peer's subnet has had, and then every handle is another.
 * Without the senders of dropped packets: weftd asks a forged peer through the tunnel, too, and an honest host that a forged
 * lease names forwards that packet, which the next one drops.
 */
const stateOf = (host: Host): string[] =>
  host
    .describe()
    .filter((line) => !/"inner4-\d+"|"chain":"inner-lock4-\d+"|"name":"dropped4"/.test(line))
    .map((line) => line.replace(/"handle":\d+/g, '"handle":0'));

/** As the host's lease tells everybody. */
function victimOf(cluster: Cluster, { name: node, subnet, address }: Host): Victim {
  const name = subnet.replace('/', '-');
  const value = JSON.parse(cluster.get(`subnets/${name}`)) as { BackendData: { VtepMAC: string } };
  return { node, name, publicIp: address, mac: value.BackendData.VtepMAC };
}

/** The most lines within a minute. */
function busiestMinute(log: string): number {
  const times = log.split('\n').flatMap((line) => {
    const at = Date.parse(line.split(' ')[0]!);
    return Number.isNaN(at) ? [] : [at];
  });
  return Math.max(0, ...times.map((from) => times.filter((at) => at >= from && at < from + 60_000).length));
}

const logSince = (log: string, startMs: number): string =>
  log
    .split('\n')
    .filter((line) => !(Date.parse(line.split(' ')[0]!) < startMs))
    .join('\n');

const script = fileURLToPath(new URL('../lab/adversary.main.ts', import.meta.url));

class Adversary {
  readonly #cluster: Cluster;
  readonly #file: string;
  readonly #logFile: string;
  #service: Service | undefined;

  constructor(cluster: Cluster, options: AdversaryOptions) {
    const { folder } = cluster.scratch;
    this.#cluster = cluster;
    this.#file = join(folder, 'adversary.json');
    this.#logFile = join(folder, 'adversary.log');
    writeFileSync(this.#file, JSON.stringify(options));
  }

  get acts(): string[] {
    return readFileSync(this.#logFile, 'utf8').trimEnd().split('\n');
  }

  start(): void {
    const argv = [process.execPath, script, this.#file];
    const namespace = this.#cluster.switchNamespace;
    this.#service = this.#cluster.scratch.start(argv, { namespace, logFile: this.#logFile });
  }

  async stop(): Promise<AdversaryReport> {
    if (!this.#service!.alive) throw new Error(`the adversary has ended: ${this.acts.slice(-20).join('\n')}`);
    await this.#service!.stop('SIGINT');
    return JSON.parse(this.acts.at(-1)!) as AdversaryReport;
  }

  /** Takes everything of its own back. */
  clean(): void {
    run([process.execPath, script, this.#file, 'clean'], { namespace: this.#cluster.switchNamespace });
  }

  /** The acts on honest leases close to a time, for people. */
  near(atMs: number): string {
    const isNear = (line: string): boolean => Math.abs(Date.parse(line.split(' ')[0]!) - atMs) < 150;
    return this.acts
      .filter((line) => isNear(line) && /steals|spoils|impersonates|deletes|revokes/.test(line))
      .map((line) => line.slice('2026-11-28T18:'.length))
      .join('; ');
  }
}

/** Four hosts with containers on three of them. The fourth has left; what it keeps is its rights in etcd. */
async function startHosts(cluster: Cluster, optionsOf: (name: string) => string[]): Promise<Host[]> {
  for (let i = 0; i <= honestCount; i++) {
    const host = cluster.addHost();
    host.startWeftd(...optionsOf(host.name));
    await host.reaches([]);
  }
  for (const host of cluster.hosts) await host.reaches(cluster.hosts);
  const honest = cluster.hosts.slice(0, honestCount);
  for (const host of honest) host.attachPods(1);
  const traitor = cluster.hosts[honestCount]!;
  await traitor.weftd!.stop();
  cluster.etcdctl('del', `${etcdPrefix}/subnets/${traitor.subnet.replace('/', '-')}`);
  for (const host of honest) {
    await host.waitForStatus('host4 to be gone', ({ peers }) => peers.length === honestCount - 1);
  }
  return honest;
}

/** Runs it. The cluster is there before and gone after. @throws where the honest hosts do not reach each other afterwards */
export async function attack({ seed, durationMs, kinds, log }: AttackOptions): Promise<AttackReport> {
  const { cluster, optionsOf } = await makeCluster();
  try {
    const honest = await startHosts(cluster, optionsOf);
    const before = honest.map(({ subnet }) => subnet);
    const kernels = honest.map(stateOf);
    const mesh = new Mesh();
    await mesh.start(cluster, askEveryMs);
    // gRPC under Bun takes no IP address for a TLS server's name: in the switch's namespace etcd has a name.
    const [caFile, certFile, keyFile] = optionsOf('traitor').filter((_, i) => i % 2 === 1) as [string, string, string];
    const victims = honest.map((host) => victimOf(cluster, host));
    const adversary = new Adversary(cluster, {
      ...{ seed, kinds, victims, actsPerSecond, prefix: `${etcdPrefix}/` },
      ...{ endpoint: 'https://localhost:2379', caFile, certFile, keyFile },
    });
    const startMs = Date.now();
    adversary.start();
    // A weftd at rest has given its start's memory back, and not yet taken what any work takes.
    await sleep(warmUpMs);
    const memory = honest.map(residentMb);
    await sleep(durationMs - warmUpMs - samples * samplePauseMs);
    // Between two collections garbage comes and goes: the least of a while is what stays.
    const grownMb = honest.map(() => Number.POSITIVE_INFINITY);
    for (let sample = 0; sample < samples; sample++) {
      await sleep(samplePauseMs);
      for (const [i, host] of honest.entries()) grownMb[i] = Math.min(grownMb[i]!, residentMb(host) - memory[i]!);
    }
    const { acts, refused } = await adversary.stop();
    log(`seed ${seed}: ${acts} acts in ${Date.now() - startMs} ms, ${JSON.stringify(refused)} refused by etcd`);
    const recoveryMs = await mesh.recover();
    const after = honest.map(({ subnet }) => subnet);
    const reports = await mesh.stop();
    const linesPerMinute = honest.map((host) => busiestMinute(logSince(host.log, startMs)));
    adversary.clean();
    // A node whose lease was changed may pause before it writes it back, and some leases are kept for longer.
    const isWhole = kinds.every((kind) => kind === 'around');
    for (const host of isWhole ? honest : []) {
      await host.waitForStatus('the forged leases to go', ({ peers, problems }) => {
        return peers.length === honestCount - 1 && problems.length === 0;
      });
    }
    // What is garbage goes within seconds; what is kept does not.
    const kept = (): number[] => honest.map((host, i) => residentMb(host) - memory[i]!);
    const keptMb = await waitFor('memory to be given back', () => kept().every((mb) => mb <= keptMbAtMost) && kept(), {
      deadlineMs: 30_000,
    }).catch(kept);
    const lost = reports
      .flatMap(({ id, lost }) =>
        Object.entries(lost).flatMap(([other, times]) => times.map((at) => ({ at, way: `${id} → ${other}` }))),
      )
      .filter(({ at }) => at >= startMs)
      .sort((a, b) => a.at - b.at);
    return {
      acts,
      refused,
      asked: reports.reduce((sum, { sent }) => sum + sent, 0),
      lost: lost.map(({ at, way }) => `${at - startMs} ms: ${way}; near: ${adversary.near(at)}`),
      wrong: reports.flatMap(({ wrong }) => wrong),
      recoveryMs,
      grownMb,
      keptMb,
      linesPerMinute,
      subnets: { before, after },
      left: isWhole ? honest.flatMap((host, i) => difference(kernels[i]!, stateOf(host))) : [],
    };
  } catch (error) {
    const logs = cluster.hosts.map((host) => `${host.name}:\n${host.log.slice(-6000)}`).join('\n');
    throw new Error(`Seed ${seed}: ${error instanceof Error ? error.message : error}\n${logs}`);
  } finally {
    cluster.remove();
  }
}
