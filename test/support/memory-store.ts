/**
 * A cluster in memory, with stores as different from etcd's as the ports allow: somebody else gives each node its
 * subnet, leases neither expire nor are given back, no node tells that it lives, and the config is only read.
 */

import type { Lease, LeaseValue, OwnLease } from '../../cluster/lease.ts';
import { LeaseSet } from '../../cluster/lease-set.ts';
import type { PerFamily } from '../../cluster/network-config.ts';
import type { Acquired, Closable, ClusterStore, ConfigSource, Known, LeaseList, Updated } from '../../cluster/store.ts';
import { StoreUnavailableError } from '../../cluster/store-errors.ts';
import type { Prefix } from '../../net/prefix.ts';

/** A node's object: a new one of the same name has another id. */
interface NodeObject {
  readonly id: string;
  readonly name: string;
  readonly subnets: PerFamily<Prefix> | undefined;
  readonly value: LeaseValue | undefined;
  /** The node's lease until somebody writes it. */
  readonly lease: Lease | undefined;
}

export class MemoryCluster {
  configText: string | undefined;
  /** While it is false, every call fails. */
  isUp = true;
  #nodes: readonly NodeObject[] = [];
  #leases = LeaseSet.of([]);
  /** Changes when the cluster has lost its past. */
  #epoch = 1;
  #made = 0;
  readonly #wakes = new Set<() => void>();

  readonly #follow = (onWake: () => void): Closable => {
    this.#wakes.add(onWake);
    onWake();
    return { close: () => void this.#wakes.delete(onWake) };
  };

  /** The node is there from now on, with a subnet or without. */
  makeNode(name: string, subnets?: PerFamily<Prefix>, value?: LeaseValue): void {
    this.removeNode(name);
    const id = `uid-${++this.#made}`;
    this.#put({ id, name, subnets, value, lease: undefined });
  }

  /** The lease that the controller gives a node without one. */
  giveSubnet(name: string, subnets: PerFamily<Prefix>): void {
    this.#put({ ...this.#node(name)!, subnets });
  }

  removeNode(name: string): void {
    const node = this.#node(name);
    if (!node) return;
    this.#nodes = this.#nodes.filter((other) => other !== node);
    if (node.lease) this.#leases = this.#leases.with([[node.lease, undefined]])!;
    this.#wake();
  }

  /** Begins anew without what was known: everybody is gone but the nodes named. */
  loseAllBut(...names: readonly string[]): void {
    this.#epoch++;
    this.#nodes = this.#nodes.filter(({ name }) => names.includes(name));
    this.#leases = LeaseSet.of(this.#nodes.flatMap(({ lease }) => lease ?? []));
    this.#wake();
  }

  valueOfNode(name: string): LeaseValue | undefined {
    return this.#node(name)?.value;
  }

  #node(name: string): NodeObject | undefined {
    return this.#nodes.find((node) => node.name === name);
  }

  #put(node: NodeObject): void {
    const before = this.#node(node.name);
    const lease =
      node.subnets && node.value
        ? {
            ...node.value,
            ownerId: node.id,
            subnets: node.subnets,
            reservation: false,
            ofFlannel: node.value.node === undefined,
            seniority: node.id,
            handle: undefined,
          }
        : undefined;
    this.#nodes = [...this.#nodes.filter((other) => other !== before), { ...node, lease }];
    if (before?.lease || lease) this.#leases = this.#leases.with([[before?.lease, lease]])!;
    this.#wake();
  }

  #wake(): void {
    for (const wake of [...this.#wakes]) wake();
  }

  /** @throws StoreUnavailableError */
  #answer(op: string): void {
    if (this.isUp) return;
    throw new StoreUnavailableError({ code: 'unavailable', op, subject: 'nodes', message: `Cannot ${op}: no answer` });
  }

  configSource(): ConfigSource {
    return {
      kind: 'the cluster',
      path: '/net-conf.json',
      place: 'file "/net-conf.json"',
      read: async () => (this.configText === undefined ? undefined : { text: this.configText, version: '1' }),
      watch: this.#follow,
    };
  }

  /** As the node of this name sees it. */
  storeOf(name: string): ClusterStore {
    return {
      kind: 'the cluster',
      place: 'nodes',
      scope: undefined,
      list: async ({ mark = this.#epoch }: Known = {}): Promise<LeaseList> => {
        this.#answer('list the leases');
        const continuity = mark === this.#epoch ? 'same' : 'lost';
        return { leases: this.#leases, malformed: [], continuity, mark: this.#epoch };
      },
      watch: this.#follow,
      acquire: async ({ value }): Promise<Acquired> => {
        this.#answer('acquire a lease');
        const node = this.#node(name);
        if (!node) return { state: 'none', why: `There is no node "${name}"` };
        if (!node.subnets) return { state: 'waiting', why: `Node "${name}" has no subnet yet` };
        this.#put({ ...node, value });
        return { state: 'have', own: this.#own(name), how: 'new', lostRaces: 0, superseded: [] };
      },
      holds: (own, listed) => own.ownerId === listed.ownerId,
      update: async (own, value): Promise<Updated> => {
        this.#answer('write the lease');
        const node = this.#node(name);
        if (!node) return { state: 'lost', how: 'gone' };
        if (node.id !== own.ownerId) return { state: 'lost', how: 'replaced' };
        this.#put({ ...node, value });
        return { state: 'held', own: this.#own(name) };
      },
      health: () => ({ endpoints: [], connected: this.isUp, lastContactMs: undefined, error: undefined }),
      close: () => undefined,
    };
  }

  #own(name: string): OwnLease {
    return { ...this.#node(name)!.lease!, expiresAtMs: undefined };
  }
}
