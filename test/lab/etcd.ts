/** A real etcd that may be stopped, killed, frozen, and given another's data: in a namespace, or on this machine's loopback. */

import { readFileSync, rmSync, statSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { type RunOptions, run, runAsync, type Service } from './commands.ts';
import { Scratch } from './scratch.ts';
import { waitFor } from './wait.ts';

/** PEM files. */
export interface KeyPair {
  readonly certFile: string;
  readonly keyFile: string;
}

/** An etcd that speaks TLS to its clients. */
export interface EtcdTls {
  readonly caFile: string;
  readonly server: KeyPair;
  /** etcdctl's; etcd then wants a certificate of every client. */
  readonly client?: KeyPair;
}

/** The peer URL of an etcd of one member: nobody else is in its namespace. */
const lonelyPeerUrl = 'http://127.0.0.1:2380';

export interface EtcdOptions {
  /** Stops it at the latest when it is removed. */
  readonly scratch: Scratch;
  /** For its data and its log. */
  readonly folder: string;
  /** The name of its network namespace; this process's namespace by default. */
  readonly namespace?: string;
  readonly name?: string;
  /** The URL that clients connect to. */
  readonly endpoint: string;
  /** The URLs that it listens at; its endpoint by default. */
  readonly listenUrls?: readonly string[];
  /** The URL that members hear of each other by. */
  readonly peerUrl?: string;
  /** All members' URLs by their names; this one alone by default. */
  readonly members?: Readonly<Record<string, string>>;
  /** An election may take ten times as long. */
  readonly heartbeatMs?: number;
  readonly tls?: EtcdTls;
  /** Further arguments. */
  readonly args?: readonly string[];
}

export class Etcd {
  readonly endpoint: string;
  readonly logFile: string;
  readonly #options: EtcdOptions;
  readonly #dataDir: string;
  readonly #name: string;
  readonly #peerUrl: string;
  readonly #members: string;
  #tls: EtcdTls | undefined;
  #service: Service | undefined;
  /** The length of the log that earlier runs wrote. */
  #logStart = 0;

  constructor(options: EtcdOptions) {
    const { endpoint, folder, name = 'one', peerUrl = lonelyPeerUrl, members = { [name]: peerUrl } } = options;
    this.#options = options;
    this.#tls = options.tls;
    this.endpoint = endpoint;
    this.logFile = join(folder, 'etcd.log');
    this.#dataDir = join(folder, 'etcd-data');
    this.#name = name;
    this.#peerUrl = peerUrl;
    this.#members = Object.entries(members)
      .map(([member, url]) => `${member}=${url}`)
      .join(',');
  }

  get pid(): number {
    return this.#service!.pid;
  }

  /** From the next start on it speaks TLS by these; its endpoint has to say https already. */
  useTls(tls: EtcdTls): void {
    this.#tls = tls;
  }

  get #log(): string {
    return readFileSync(this.logFile).subarray(this.#logStart).toString();
  }

  /** Starts it, on its old data if it ran before. @param further arguments */
  launch(...further: string[]): void {
    const { scratch, endpoint, listenUrls = [endpoint], heartbeatMs = 20, namespace, args = [] } = this.#options;
    const tls = this.#tls;
    const argv = [
      ...['etcd', '--name', this.#name, '--data-dir', this.#dataDir, '--logger', 'zap', '--log-outputs', 'stderr'],
      ...['--listen-client-urls', listenUrls.join(','), '--advertise-client-urls', endpoint],
      ...['--listen-peer-urls', this.#peerUrl, '--initial-advertise-peer-urls', this.#peerUrl],
      ...['--initial-cluster', this.#members],
      ...['--heartbeat-interval', String(heartbeatMs), '--election-timeout', String(10 * heartbeatMs)],
      ...(tls ? ['--cert-file', tls.server.certFile, '--key-file', tls.server.keyFile] : []),
      ...(tls?.client ? ['--client-cert-auth', '--trusted-ca-file', tls.caFile] : []),
      ...args,
      ...further,
    ];
    this.#logStart = statSync(this.logFile, { throwIfNoEntry: false })?.size ?? 0;
    this.#service = scratch.start(argv, { namespace, logFile: this.logFile });
  }

  /** Resolves once it answers; one of several members answers once they have a leader. */
  async answers(): Promise<void> {
    await waitFor('etcd to answer', () => {
      if (!this.#service!.alive) throw new Error(`etcd has ended:\n${this.#log.slice(-2000)}`);
      return this.#log.includes('serving client traffic');
    });
  }

  async start(...further: string[]): Promise<void> {
    this.launch(...further);
    await this.answers();
  }

  /** Ends it by the signal and waits for its end. */
  async stop(signal: NodeJS.Signals = 'SIGKILL'): Promise<void> {
    await this.#service?.stop(signal);
  }

  freeze(): void {
    process.kill(this.pid, 'SIGSTOP');
  }

  thaw(): void {
    process.kill(this.pid, 'SIGCONT');
  }

  #ctl(words: readonly string[]): [argv: string[], options: RunOptions] {
    const { namespace } = this.#options;
    const tls = this.#tls;
    const argv = [
      ...['etcdctl', '--endpoints', this.endpoint, '--command-timeout', '5s'],
      ...(tls ? ['--cacert', tls.caFile] : []),
      ...(tls?.client ? ['--cert', tls.client.certFile, '--key', tls.client.keyFile] : []),
      ...words,
    ];
    return [argv, { namespace, environment: etcdctlEnvironment }];
  }

  /** Runs etcdctl and gives its output. */
  ctl(...words: string[]): string {
    return run(...this.#ctl(words));
  }

  async ctlAsync(...words: string[]): Promise<string> {
    return await runAsync(...this.#ctl(words));
  }

  /** Writes a value that is too long for a command line. */
  putLong(key: string, value: string): void {
    const [argv, options] = this.#ctl(['put', key]);
    run(argv, { ...options, stdin: value });
  }

  /** Runs etcdctl's commands of a transaction. */
  transact(commands: string): void {
    const [argv, options] = this.#ctl(['txn']);
    run(argv, { ...options, stdin: commands });
  }

  /** Writes a backup of all that it holds. */
  save(file: string): void {
    this.ctl('snapshot', 'save', file);
  }

  /** Gives it, while it is stopped, the data of a backup: as the same member of the same cluster. */
  restore(file: string): void {
    this.wipe();
    const same = ['--data-dir', this.#dataDir, '--name', this.#name, '--initial-cluster', this.#members];
    this.ctl('snapshot', 'restore', file, ...same, '--initial-advertise-peer-urls', this.#peerUrl);
  }

  /** Takes all data from it, while it is stopped. */
  wipe(): void {
    rmSync(this.#dataDir, { recursive: true, force: true });
  }

  /** Ends it, frozen or not, and removes its data. */
  async remove(): Promise<void> {
    if (this.#service?.alive) {
      this.thaw();
      await this.stop();
    }
    this.wipe();
  }
}

export const etcdctlEnvironment = { PATH: process.env['PATH'] ?? '', ETCDCTL_API: '3' };

/** A TCP port that is free now. */
export const freePort = (): Promise<number> =>
  new Promise((resolve, reject) => {
    const server = createServer();
    server.on('error', reject);
    server.listen(0, '127.0.0.1', () => {
      const address = server.address();
      server.close(() => resolve(typeof address === 'object' && address ? address.port : 0));
    });
  });

/** The first of so many TCP ports in a row that are free now. */
export async function freePorts(count: number): Promise<number> {
  const isFree = (port: number): Promise<boolean> =>
    new Promise((resolve) => {
      const server = createServer();
      server.on('error', () => resolve(false));
      server.listen(port, '127.0.0.1', () => server.close(() => resolve(true)));
    });
  for (;;) {
    const first = await freePort();
    const further = Array.from({ length: count - 1 }, (_, i) => first + 1 + i);
    if ((await Promise.all(further.map(isFree))).every(Boolean)) return first;
  }
}

export interface LoopbackEtcdOptions extends Pick<EtcdOptions, 'tls' | 'args' | 'heartbeatMs'> {
  /** For its data; a new one below the system's temporary folder by default. */
  readonly folder?: string;
}

/** Starts an etcd on this machine's loopback, at ports of its own. The caller removes it. */
export async function startEtcd(options: LoopbackEtcdOptions = {}): Promise<Etcd> {
  const { tls, folder } = options;
  const scratch = new Scratch('etcd', folder === undefined ? {} : { folder });
  const [clientPort, peerPort] = [await freePort(), await freePort()];
  const listen = `${tls ? 'https' : 'http'}://127.0.0.1:${clientPort}`;
  const etcd = new Etcd({
    ...options,
    scratch,
    folder: scratch.folder,
    // A certificate is for the name.
    endpoint: tls ? `https://localhost:${clientPort}` : listen,
    listenUrls: [listen],
    peerUrl: `http://127.0.0.1:${peerPort}`,
  });
  try {
    await etcd.start();
  } catch (error) {
    await etcd.remove();
    throw error;
  }
  return etcd;
}
