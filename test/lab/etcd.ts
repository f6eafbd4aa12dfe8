/** A real etcd of one member, with a folder and ports of its own, for tests that stop, kill and freeze it. */

import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { waitFor } from './wait.ts';

export interface EtcdOptions {
  /** PEM files: etcd then speaks TLS to clients. */
  readonly tls?: { readonly caFile: string; readonly certFile: string; readonly keyFile: string };
  /** Further command line arguments. */
  readonly args?: readonly string[];
  /** The address clients connect to; 127.0.0.1 unless told. */
  readonly host?: string;
}

/** A TCP port that is free now. */
export const freePort = (host = '127.0.0.1'): Promise<number> =>
  new Promise((resolve, reject) => {
    const server = createServer();
    server.on('error', reject);
    server.listen(0, host, () => {
      const address = server.address();
      server.close(() => resolve(typeof address === 'object' && address ? address.port : 0));
    });
  });

export class TestEtcd {
  readonly endpoint: string;
  readonly #folder: string;
  readonly #args: readonly string[];
  readonly #options: EtcdOptions;
  #process: ChildProcess | undefined;
  #log = '';

  constructor(endpoint: string, folder: string, args: readonly string[], options: EtcdOptions) {
    this.endpoint = endpoint;
    this.#folder = folder;
    this.#args = args;
    this.#options = options;
  }

  get pid(): number {
    return this.#process!.pid!;
  }

  /** Starts it, on its old data where it ran before, and waits until it answers. */
  async start(): Promise<void> {
    this.#log = '';
    const child = spawn('etcd', this.#args, { stdio: ['ignore', 'pipe', 'pipe'] });
    this.#process = child;
    for (const stream of [child.stdout, child.stderr]) {
      stream.on('data', (data: Buffer) => {
        this.#log += data.toString();
      });
    }
    await waitFor('etcd to answer', () => {
      if (child.exitCode !== null) throw new Error(`etcd has ended:\n${this.#log}`);
      return this.#log.includes('serving client traffic') || undefined;
    });
  }

  /** Ends it by the signal and waits for its end. */
  async stop(signal: NodeJS.Signals = 'SIGKILL'): Promise<void> {
    const child = this.#process;
    this.#process = undefined;
    if (!child || child.exitCode !== null || child.signalCode !== null) return;
    const ended = new Promise((resolve) => child.once('exit', resolve));
    child.kill(signal);
    await ended;
  }

  freeze(): void {
    process.kill(this.pid, 'SIGSTOP');
  }

  thaw(): void {
    process.kill(this.pid, 'SIGCONT');
  }

  /** Runs etcdctl and gives what it prints. */
  ctl(...args: string[]): string {
    const { tls } = this.#options;
    const tlsArgs = tls ? ['--cacert', tls.caFile] : [];
    const result = spawnSync('etcdctl', ['--endpoints', this.endpoint, ...tlsArgs, ...args], {
      encoding: 'utf8',
      env: { ...process.env, ETCDCTL_API: '3' },
    });
    if (result.status !== 0) throw new Error(`etcdctl ${args.join(' ')}: ${result.stderr || result.error}`);
    return result.stdout;
  }

  /** Writes a backup of all that it holds. */
  save(file: string): void {
    this.ctl('snapshot', 'save', file);
  }

  /** Gives it, while it is stopped, the data of a backup: as the same member of the same cluster. */
  restore(file: string): void {
    const argument = (name: string): string => this.#args[this.#args.indexOf(name) + 1]!;
    const same = ['--data-dir', '--name', '--initial-cluster', '--initial-advertise-peer-urls'];
    rmSync(argument('--data-dir'), { recursive: true, force: true });
    this.ctl('snapshot', 'restore', file, ...same.flatMap((name) => [name, argument(name)]));
  }

  /** Takes all data from it, while it is stopped. */
  wipe(): void {
    rmSync(this.#args[this.#args.indexOf('--data-dir') + 1]!, { recursive: true, force: true });
  }

  /** Ends it and removes its folder. */
  async remove(): Promise<void> {
    const child = this.#process;
    if (child) child.kill('SIGCONT');
    await this.stop();
    rmSync(this.#folder, { recursive: true, force: true });
  }
}

/** Starts an etcd. The caller removes it. */
export async function startEtcd(options: EtcdOptions = {}): Promise<TestEtcd> {
  const host = options.host ?? '127.0.0.1';
  const folder = mkdtempSync(join(tmpdir(), 'weft-etcd-'));
  const scheme = options.tls ? 'https' : 'http';
  const [clientPort, peerPort] = [await freePort(host), await freePort()];
  const listen = `${scheme}://${host}:${clientPort}`;
  // A certificate is for the name.
  const endpoint = options.tls ? `https://localhost:${clientPort}` : listen;
  const peer = `http://127.0.0.1:${peerPort}`;
  const args = [
    ...['--data-dir', join(folder, 'data'), '--name', 'test', '--logger', 'zap', '--log-outputs', 'stderr'],
    ...['--heartbeat-interval', '20', '--election-timeout', '200'],
    ...['--listen-client-urls', listen, '--advertise-client-urls', listen],
    ...['--listen-peer-urls', peer, '--initial-advertise-peer-urls', peer, '--initial-cluster', `test=${peer}`],
    ...(options.tls ? ['--cert-file', options.tls.certFile, '--key-file', options.tls.keyFile] : []),
    ...(options.args ?? []),
  ];
  const etcd = new TestEtcd(endpoint, folder, args, options);
  try {
    await etcd.start();
  } catch (error) {
    await etcd.remove();
    throw error;
  }
  return etcd;
}
