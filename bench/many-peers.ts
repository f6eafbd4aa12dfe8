/** Any number of peers as leases in flannel's format, and the etcd that holds them, used as by none of the contenders. */

import { existsSync, mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { EtcdConnection } from '../cluster/etcd/connection.ts';
import { systemClock } from '../test/lab/clock.ts';
import { etcdPrefix } from '../test/lab/cluster.ts';
import { Etcd, startEtcd } from '../test/lab/etcd.ts';
import { Scratch } from '../test/lab/scratch.ts';

export interface Peer {
  readonly subnet: string;
  readonly host: string;
  readonly mac: string;
}

const byte = (value: number): number => value & 255;
const hex = (value: number): string => byte(value).toString(16).padStart(2, '0');

/** The peer of that number; with another MAC for each `edition`. */
export const peerOf = (i: number, edition = 0): Peer => ({
  subnet: `10.${100 + (i >> 8)}.${byte(i)}.0`,
  host: `172.16.${i >> 8}.${byte(i)}`,
  mac: `02:${hex(edition)}:00:${hex(i >> 16)}:${hex(i >> 8)}:${hex(i)}`,
});

const leaseOf = ({ host, mac }: Peer): string =>
  JSON.stringify({ PublicIP: host, PublicIPv6: null, BackendType: 'vxlan', BackendData: { VNI: 1, VtepMAC: mac } });

const newFolder = (): string => mkdtempSync(join(existsSync('/dev/shm') ? '/dev/shm' : tmpdir(), 'weft-bench-etcd-'));

export class PeerStore {
  readonly endpoint: string;
  readonly #server: Etcd;
  readonly #connection: EtcdConnection;
  readonly #prefix: string;
  readonly #leases = new Map<string, string>();

  private constructor(server: Etcd, prefix = etcdPrefix) {
    this.#server = server;
    this.#prefix = prefix;
    this.endpoint = server.endpoint;
    this.#connection = new EtcdConnection({
      etcd: { endpoints: [server.endpoint], prefix },
      clock: systemClock,
      random: () => 0,
      timeoutMs: 30_000,
    });
  }

  /** In memory where that can be had: a disk's sync is not measured here. */
  static async start(): Promise<PeerStore> {
    return new PeerStore(await startEtcd({ folder: newFolder(), heartbeatMs: 100 }));
  }

  /** At an address of this namespace, for other namespaces. */
  static async startAt(address: string): Promise<PeerStore> {
    const folder = newFolder();
    const scratch = new Scratch('etcd', { folder });
    const server = new Etcd({ scratch, folder, heartbeatMs: 100, endpoint: `http://${address}:2379` });
    await server.start();
    return new PeerStore(server);
  }

  /** Another cluster in the same etcd. */
  at(prefix: string): PeerStore {
    return new PeerStore(this.#server, prefix);
  }

  #keyOf({ subnet }: Peer): string {
    return `${this.#prefix}/subnets/${subnet}-24`;
  }

  /** Writes keys, a hundred a transaction, each with an etcd lease of its own where `leased`. */
  async #put(entries: readonly (readonly [key: string, value: string])[], leased: boolean): Promise<void> {
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

  async putConfig(config: object): Promise<void> {
    await this.#put([[`${this.#prefix}/config`, JSON.stringify(config)]], false);
  }

  async putPeers(peers: readonly Peer[]): Promise<void> {
    await this.#put(
      peers.map((peer) => [this.#keyOf(peer), leaseOf(peer)]),
      true,
    );
  }

  async #remove(key: string, end?: Buffer): Promise<void> {
    await this.#connection.call('delete', key, ({ client }) =>
      client.kv.deleteRange({ key: Buffer.from(key), ...(end ? { range_end: end } : {}) }),
    );
  }

  async removePeer(peer: Peer): Promise<void> {
    await this.#remove(this.#keyOf(peer));
  }

  async removeAllPeers(): Promise<void> {
    const prefix = `${this.#prefix}/subnets/`;
    const end = Buffer.from(prefix);
    end[end.length - 1]! += 1;
    await this.#remove(prefix, end);
  }

  /** Leaves etcd to the others. */
  close(): void {
    this.#connection.close();
  }

  async stop(): Promise<void> {
    this.close();
    await this.#server.remove();
  }
}
