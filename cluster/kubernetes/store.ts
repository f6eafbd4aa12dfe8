/**
 * The cluster's shared state in Kubernetes. A node's subnets are the podCIDRs that the controller manager has written into
 * its Node object; the rest of its lease is in the Node's annotations, which the node writes itself. Leases neither expire
 * nor are chosen. The network config is a file.
 *
 * Peers are followed by their Nodes' metadata, our own Node in full.
 */

import { formatPrefix, type Prefix, prefixContains } from '../../net/prefix.ts';
import type { BackendFormats } from '../backend-format.ts';
import type { Clock, Random } from '../clock.ts';
import { type Lease, type LeaseValue, type OwnLease, sameSubnets } from '../lease.ts';
import { families, type NetworkConfig, type PerFamily, valuesOf } from '../network-config.ts';
import type {
  Acquired,
  Closable,
  ClusterStore,
  Known,
  LeaseList,
  LeaseMemoryFormat,
  LeaseRequest,
  NodeAddresses,
  NodeEvent,
  StoreHealth,
  Stores,
  Updated,
} from '../store.ts';
import type { StoreError } from '../store-errors.ts';
import type { StoreObserver } from '../store-observer.ts';
import { annotationKeys, healthOf, parseNodeAddresses } from './annotations.ts';
import { KubeClient } from './client.ts';
import { ConfigFile } from './config-file.ts';
import { Credentials } from './credentials.ts';
import { NodeFollower } from './follower.ts';
import { formatMemory, KubeMark, parseMemory } from './lease-memory.ts';
import {
  isOlder,
  type NodeMeta,
  type PodCidrs,
  reduceMeta,
  reduceWhole,
  sameAnnotations,
  type WholeNode,
} from './node-object.ts';
import { handleOf, NodeTable, ownerIdOf } from './node-table.ts';
import { NodeWriter } from './node-writer.ts';
import type { KubernetesOptions } from './options.ts';
import { PodCidrFinder } from './pod-cidr-finder.ts';

export interface KubernetesStoreOptions {
  readonly kubernetes: KubernetesOptions;
  /** Of the process: a pod finds the API server in it. */
  readonly environment: Readonly<Record<string, string | undefined>>;
  /** The name of our Node. */
  readonly node: string;
  /** The backends whose data in annotations is read and written. */
  readonly backends: BackendFormats;
  readonly clock: Clock;
  readonly random: Random;
  readonly observer?: StoreObserver | undefined;
  /** The deadline of each request. */
  readonly timeoutMs?: number | undefined;
  /** A watch in which nothing is heard for so long is dead; the API server sends a bookmark each minute. */
  readonly silenceMs?: number | undefined;
  readonly maxBackoffMs?: number | undefined;
}

/** Nothing is contacted before the first call. */
export async function openKubernetesStore(options: KubernetesStoreOptions): Promise<Stores> {
  const { kubernetes, clock } = options;
  const leases = new KubernetesStore(options);
  // No peer's subnet may contain the API server: it has to be known from the beginning.
  await leases.locate();
  return { config: new ConfigFile({ path: kubernetes.netConfigPath, clock }), leases };
}

const defaultPrefix = 'flannel.alpha.coreos.com/';
/** So many Nodes without known podCIDRs are asked for one by one; more are listed in full. */
const askedOneByOne = 32;

/** Every write of a Node goes to every node that watches. */
const healthEveryMs = 60_000;

interface Listener {
  readonly onWake: () => void;
  readonly onProblem: ((error: StoreError) => void) | undefined;
}

interface Followers {
  readonly nodes: NodeFollower<NodeMeta>;
  readonly own: NodeFollower<WholeNode>;
}

class KubernetesStore implements ClusterStore {
  readonly kind = 'Kubernetes';
  readonly place: string;
  readonly memory: LeaseMemoryFormat;
  readonly #options: KubernetesStoreOptions;
  readonly #client: KubeClient;
  readonly #table: NodeTable;
  readonly #finder: PodCidrFinder;
  readonly #writer: NodeWriter;
  readonly #listeners = new Set<Listener>();
  #followers: Followers | undefined;
  /** Our own Node; undefined: there is none, or nothing is known yet. */
  #own: WholeNode | undefined;
  /** The next list is of whole Nodes, because few podCIDRs are known. */
  #listsWhole = true;
  /** When our health was written last. */
  #healthToldMs = Number.NEGATIVE_INFINITY;
  /** The data path stands. */
  #isUp = false;

  constructor(options: KubernetesStoreOptions) {
    const { kubernetes, environment, node, backends, clock, random, observer, timeoutMs = 10_000 } = options;
    this.#options = options;
    const { annotationPrefix } = kubernetes;
    this.place = annotationPrefix;
    const credentials = new Credentials({ kubernetes, environment });
    this.#client = new KubeClient({ credentials, clock, timeoutMs, observer });
    this.#table = new NodeTable(backends);
    this.#writer = new NodeWriter({
      client: this.#client,
      keys: annotationKeys(annotationPrefix),
      node,
      backends,
      clock,
      random,
    });
    this.#finder = new PodCidrFinder({
      readNode: (name) => this.#writer.read(name),
      clock,
      random,
      onFound: (found, cidrs) => {
        if (this.#table.learn(found, cidrs)) this.#wake();
      },
      onRefused: (refused, { message }) => {
        if (this.#table.refuse(refused, message)) this.#wake();
      },
      isWanted: ({ name, uid }) => {
        const node = this.#table.node(name);
        return node?.uid === uid && this.#table.isLacking(node);
      },
    });
    this.memory = {
      format: (memory) => formatMemory(memory, annotationPrefix, backends),
      parse: (text) => {
        const learn = (node: Pick<NodeMeta, 'name' | 'uid'>, cidrs: PodCidrs): void => {
          this.#table.learn(node, cidrs);
          this.#listsWhole = false;
        };
        return parseMemory(text, annotationPrefix, backends, learn);
      },
    };
  }

  locate(): Promise<void> {
    return this.#client.locate();
  }

  get scope(): string | undefined {
    return this.place === defaultPrefix ? undefined : `/${this.place}`;
  }

  async list({ mark }: Known = {}): Promise<LeaseList> {
    const { nodes, own } = this.#follow();
    await Promise.all([nodes.fresh(), own.fresh()]);
    const resourceVersion = nodes.version ?? '0';
    // A store that was restored from a backup goes on from an older version.
    const isLost = mark instanceof KubeMark && isOlder(resourceVersion, mark.resourceVersion);
    const { leases, malformed } = this.#table;
    return { leases, malformed, continuity: isLost ? 'lost' : 'same', mark: new KubeMark(resourceVersion) };
  }

  watch(onWake: () => void, onProblem?: (error: StoreError) => void): Closable {
    const listener: Listener = { onWake, onProblem };
    this.#listeners.add(listener);
    this.#follow();
    queueMicrotask(() => this.#listeners.has(listener) && onWake());
    return { close: () => void this.#listeners.delete(listener) };
  }

  async acquire({ config, value, previous }: LeaseRequest): Promise<Acquired> {
    await this.#follow().own.fresh();
    const node = this.#own;
    const { node: name } = this.#options;
    if (!node) {
      const why = `There is no Node "${name}" in Kubernetes; kubelet makes it when it starts. If this host has another name there, give it by --node or NODE_NAME`;
      return { state: 'waiting', why };
    }
    if (!node.podCidrs) {
      const why = `Node "${name}" has no podCIDR yet; the controller manager gives it one if it has --allocate-node-cidrs and --cluster-cidr`;
      return { state: 'waiting', why };
    }
    const why = unusable(config, node.podCidrs, name);
    if (why !== undefined) return { state: 'none', why };
    const before = this.#table.leases.all.find(({ ownerId }) => ownerId === ownerIdOf(node));
    const written = await this.#write(node, value);
    if (written.state === 'lost') return { state: 'waiting', why: `Node "${name}" was made anew just now` };
    const how = before ? 'kept' : previous && sameSubnets(previous, node.podCidrs) ? 'previous' : 'new';
    return { ...written, state: 'have', how, lostRaces: 0, superseded: [] };
  }

  holds(own: OwnLease, listed: Lease): boolean {
    return own.ownerId === listed.ownerId;
  }

  findOwn(leases: readonly Lease[]): Lease | undefined {
    const own = this.#own && ownerIdOf(this.#own);
    return own === undefined ? undefined : leases.find(({ ownerId }) => ownerId === own);
  }

  allows(config: NetworkConfig, lease: Lease): boolean {
    return unusable(config, lease.subnets, '') === undefined;
  }

  async update(own: OwnLease, value: LeaseValue): Promise<Updated> {
    await this.#follow().own.fresh();
    const node = this.#own;
    if (!node) return { state: 'lost', how: 'gone' };
    if (node.uid !== handleOf(own).uid) return { state: 'lost', how: 'replaced' };
    return await this.#write(node, value);
  }

  async #write(node: WholeNode, value: LeaseValue): Promise<Updated> {
    const result = await this.#writer.write(node, value);
    if (typeof result === 'string') return { state: 'lost', how: result };
    const own = { ...node, ...result };
    if (this.#own?.uid === own.uid && !isOlder(own.resourceVersion, this.#own.resourceVersion)) this.#own = own;
    if (own.podCidrs) this.#table.learn(own, own.podCidrs);
    this.#table.apply(result);
    const lease = this.#table.leases.all.find(({ ownerId }) => ownerId === ownerIdOf(own));
    if (!lease) return { state: 'lost', how: 'gone' };
    return { state: 'held', own: { ...lease, expiresAtMs: undefined } };
  }

  /** Our own alone: another node's is not ours to give. */
  async release(lease: Lease): Promise<boolean> {
    const { name } = handleOf(lease);
    if (name !== this.#options.node) return false;
    const node = await this.#writer.read(name);
    return node?.uid === handleOf(lease).uid && (await this.#writer.clear(node));
  }

  nodeAddresses(): NodeAddresses {
    return parseNodeAddresses(this.#own ?? { annotations: {} }, this.place);
  }

  async announceUp(): Promise<void> {
    if (!this.#options.kubernetes.setNetworkUnavailable) return;
    this.#isUp = true;
    await this.#follow().own.fresh();
    if (this.#own && this.#own.networkUnavailable !== 'False') await this.#writer.setNetworkAvailable(this.#own);
  }

  /** Whether people should be told again that the network stands: the Node was made anew, or somebody else said otherwise. */
  get mustAnnounce(): boolean {
    return this.#isUp && this.#own !== undefined && this.#own.networkUnavailable !== 'False';
  }

  async event(event: NodeEvent): Promise<void> {
    await this.#follow().own.fresh();
    if (this.#own) await this.#writer.showEvent(this.#own, event);
  }

  async tellHealth(health: string | undefined): Promise<void> {
    const nowMs = this.#options.clock.nowMs();
    const node = this.#own;
    const lease = node && this.#table.leases.all.find(({ ownerId }) => ownerId === ownerIdOf(node));
    // The clock may have been set back.
    const isSoon = Math.abs(nowMs - this.#healthToldMs) < healthEveryMs;
    if (!node || lease?.version === undefined || health === this.#writer.health || isSoon) return;
    this.#healthToldMs = nowMs;
    const result = await this.#writer.writeHealth(node, lease.version, health);
    if (typeof result !== 'string') this.#table.apply(result);
  }

  health(): StoreHealth {
    return this.#client.health();
  }

  reconnect(): void {
    this.#client.forgetConnections();
    this.#followers?.nodes.reconnect();
    this.#followers?.own.reconnect();
  }

  close(): void {
    this.#listeners.clear();
    this.#finder.close();
    this.#followers?.nodes.close();
    this.#followers?.own.close();
    this.#client.close();
  }

  #wake(): void {
    for (const { onWake } of [...this.#listeners]) onWake();
  }

  #follow(): Followers {
    if (this.#followers) return this.#followers;
    const { kubernetes, node, clock, random, observer, silenceMs = 100_000, maxBackoffMs = 10_000 } = this.#options;
    const keys = annotationKeys(kubernetes.annotationPrefix);
    const shared = {
      client: this.#client,
      clock,
      random,
      silenceMs,
      maxBackoffMs,
      size: () => this.#table.size,
      onLive: () => this.#wake(),
    };
    const nodes = new NodeFollower<NodeMeta>({
      ...shared,
      observer,
      form: 'metadata',
      listForm: () => (this.#listsWhole ? 'whole' : 'metadata'),
      reduce: (object) => (isWholeNode(object) ? reduceWhole(object, keys) : reduceMeta(object, keys)),
      onList: (list) => this.#takeList(list),
      onChange: (changed, isDeleted) => this.#takeChange(changed, isDeleted),
      onProblem: (error) => {
        for (const { onProblem } of [...this.#listeners]) onProblem?.(error);
      },
    });
    const own = new NodeFollower<WholeNode>({
      ...shared,
      name: node,
      form: 'whole',
      listForm: () => 'whole',
      reduce: (object) => reduceWhole(object, keys),
      onList: async ([found]) => {
        this.#takeOwn(found);
        return true;
      },
      onChange: (changed, isDeleted) => this.#takeOwn(isDeleted ? undefined : changed),
      // The other watch meets the same problem.
      onProblem: () => {},
    });
    this.#followers = { nodes, own };
    return this.#followers;
  }

  async #takeList(list: readonly NodeMeta[]): Promise<boolean> {
    const wasWhole = this.#listsWhole;
    for (const node of list) {
      const { podCidrs } = node as Partial<WholeNode>;
      if (podCidrs) this.#table.learn(node, podCidrs);
    }
    this.#table.replace(list.map(asMeta));
    const lacking = this.#table.lacking();
    if (!wasWhole && lacking.length > askedOneByOne) {
      this.#listsWhole = true;
      return false;
    }
    this.#listsWhole = false;
    // Before anybody sees the list: a peer that was known before must not be missing for a moment.
    if (!wasWhole) await Promise.all(lacking.map((node) => this.#learn(node)));
    for (const node of this.#table.lacking()) this.#finder.find(node);
    return true;
  }

  /** One that is gone meanwhile is left to the watch. @throws StoreError */
  async #learn(node: NodeMeta): Promise<void> {
    const found = await this.#writer.read(node.name);
    if (found?.uid === node.uid && found.podCidrs) this.#table.learn(node, found.podCidrs);
  }

  #takeChange(node: NodeMeta, isDeleted: boolean): void {
    const changed = isDeleted ? this.#table.remove(node) : this.#table.apply(node);
    if (!isDeleted && this.#table.isLacking(node)) this.#finder.find(node);
    if (changed) this.#wake();
  }

  #takeOwn(node: WholeNode | undefined): void {
    const before = this.#own;
    if (node && before?.uid === node.uid && isOlder(node.resourceVersion, before.resourceVersion)) return;
    // An earlier weftd may have said something: it stays until the first word of this one.
    if (node && !this.#own && this.#writer.health === undefined) this.#writer.health = healthOf(node);
    this.#own = node;
    const learnt = node?.podCidrs ? this.#table.learn(node, node.podCidrs) : false;
    const changed = node ? this.#table.apply(asMeta(node)) : before !== undefined && this.#table.remove(before);
    const isSame =
      before?.uid === node?.uid &&
      (before?.podCidrs === undefined) === (node?.podCidrs === undefined) &&
      before?.networkUnavailable === node?.networkUnavailable &&
      sameAnnotations(before?.annotations ?? {}, node?.annotations ?? {});
    if (learnt || changed || !isSame) this.#wake();
  }
}

const isWholeNode = (object: unknown): boolean => typeof object === 'object' && object !== null && 'spec' in object;

const asMeta = ({ name, uid, resourceVersion, createdMs, annotations }: NodeMeta): NodeMeta => ({
  name,
  uid,
  resourceVersion,
  createdMs,
  annotations,
});

const isInside = (network: Prefix, subnet: Prefix): boolean =>
  subnet.length >= network.length && prefixContains(network, subnet.address);

/** Why a node with these podCIDRs cannot be part of the network; undefined if it can. */
function unusable({ networks }: NetworkConfig, subnets: PerFamily<Prefix>, name: string): string | undefined {
  const has = valuesOf(subnets).map(formatPrefix).join(', ');
  for (const family of families) {
    const network = networks[family]?.network;
    const subnet = subnets[family];
    if (!network) continue;
    if (!subnet) {
      return `Node "${name}" has no IPv${family} podCIDR (it has ${has}), but the network config uses IPv${family}; a Node keeps its podCIDRs for life: make it anew, or change the network config`;
    }
    if (!isInside(network, subnet)) {
      return `The podCIDR "${formatPrefix(subnet)}" of Node "${name}" is not inside the network "${formatPrefix(network)}" of the network config; give both the cluster's own (--cluster-cidr of the controller manager)`;
    }
  }
  return undefined;
}
