/** What the store asks Kubernetes for, against a small API server of our own that counts. */

import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { openKubernetesStore } from '../../cluster/kubernetes/store.ts';
import { formatSubnets, type Lease } from '../../cluster/lease.ts';
import type { ClusterStore, LeaseList, LeaseMemory } from '../../cluster/store.ts';
import { backends } from '../../daemon/backends/map.ts';
import { systemClock } from '../lab/clock.ts';
import { waitFor } from '../lab/wait.ts';

const test = suite('kube store');

interface FakeNode {
  readonly metadata: {
    readonly name: string;
    readonly uid: string;
    readonly resourceVersion: string;
    readonly annotations: Readonly<Record<string, string>>;
  };
  readonly spec: { readonly podCIDRs?: readonly string[] };
}

const node = (n: number, version: number, more: Partial<FakeNode['spec']> = {}): FakeNode => ({
  metadata: {
    name: `node${n}`,
    uid: `uid-${n}`,
    resourceVersion: String(version),
    annotations: {
      'p/kube-subnet-manager': 'true',
      'p/backend-type': 'host-gw',
      'p/public-ip': `10.0.${n >> 8}.${n & 255}`,
    },
  },
  spec: { podCIDRs: [`10.${64 + (n >> 8)}.${n & 255}.0/24`], ...more },
});

/** Lists in pages, watches, and gives single Nodes, as the real one does. */
class FakeApi {
  nodes: FakeNode[] = [];
  version = 100;
  /** `list whole`, `list metadata`, `get node7`, … of the requests about others' Nodes. */
  readonly asked: string[] = [];
  /** The annotations of each patch. */
  readonly patches: Record<string, string | null>[] = [];
  readonly #watches = new Set<ServerResponse>();
  readonly #server = createServer((request, response) => this.#answer(request, response));

  async start(): Promise<string> {
    await new Promise<void>((resolve) => this.#server.listen(0, '127.0.0.1', resolve));
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  stop(): void {
    this.#server.closeAllConnections();
    this.#server.close();
  }

  tell(type: string, object: FakeNode): void {
    this.version = Number(object.metadata.resourceVersion);
    const { spec: _, ...metadata } = object;
    for (const watch of this.#watches) watch.write(`${JSON.stringify({ type, object: metadata })}\n`);
  }

  /** Ends all watches, and forgets the changes before now. */
  forget(version: number): void {
    this.version = version;
    for (const watch of this.#watches) {
      watch.end(`${JSON.stringify({ type: 'ERROR', object: { kind: 'Status', code: 410, message: 'too old' } })}\n`);
    }
  }

  /** A merge patch of a Node's annotations. */
  async #patch(name: string, request: IncomingMessage, response: ServerResponse): Promise<void> {
    let body = '';
    for await (const part of request.setEncoding('utf8')) body += String(part);
    const { annotations } = (JSON.parse(body) as { metadata: { annotations: Record<string, string | null> } }).metadata;
    this.patches.push(annotations);
    this.nodes = this.nodes.map((each) => {
      if (each.metadata.name !== name) return each;
      const merged = Object.entries({ ...each.metadata.annotations, ...annotations });
      const left = merged.filter((entry): entry is [string, string] => entry[1] !== null);
      const resourceVersion = String(++this.version);
      return { ...each, metadata: { ...each.metadata, resourceVersion, annotations: Object.fromEntries(left) } };
    });
    response.end(JSON.stringify(this.nodes.find(({ metadata }) => metadata.name === name)));
  }

  #answer(request: IncomingMessage, response: ServerResponse): void {
    const { url = '', headers, method } = request;
    const { pathname, searchParams } = new URL(url, 'http://x');
    const isOwn = searchParams.has('fieldSelector');
    const form = headers.accept?.includes('PartialObjectMetadata') ? 'metadata' : 'whole';
    const shown = (each: FakeNode): object => (form === 'whole' ? each : { metadata: each.metadata });
    const name = /^\/api\/v1\/nodes\/(.+)$/.exec(pathname)?.[1];
    if (name !== undefined && method === 'PATCH') {
      void this.#patch(name.split('/')[0]!, request, response);
    } else if (name !== undefined) {
      this.asked.push(`get ${name}`);
      const found = this.nodes.find(({ metadata }) => metadata.name === name);
      response.writeHead(found ? 200 : 404).end(JSON.stringify(found ?? { kind: 'Status', message: 'not found' }));
    } else if (searchParams.has('watch')) {
      response.flushHeaders();
      if (isOwn) return;
      this.#watches.add(response);
      response.on('close', () => this.#watches.delete(response));
    } else {
      const all = isOwn ? this.nodes.filter(({ metadata }) => metadata.name === 'me') : this.nodes;
      const from = Number(searchParams.get('continue') ?? 0);
      const to = from + Number(searchParams.get('limit'));
      if (!isOwn) this.asked.push(`list ${form}`);
      const metadata = { resourceVersion: String(this.version), ...(to < all.length ? { continue: String(to) } : {}) };
      response.end(JSON.stringify({ metadata, items: all.slice(from, to).map(shown) }));
    }
  }
}

async function open(url: string, clock = systemClock): Promise<ClusterStore> {
  const { leases } = await openKubernetesStore({
    kubernetes: { apiUrl: url, annotationPrefix: 'p/', netConfigPath: '/none', setNetworkUnavailable: true },
    environment: {},
    node: 'me',
    backends,
    clock,
    random: Math.random,
    maxBackoffMs: 100,
  });
  return leases;
}

const memoryOf = ({ leases, mark }: LeaseList): LeaseMemory => ({
  mark,
  own: 'me/x',
  ownUntilMs: 0,
  peers: leases.all.map((lease) => ({ lease, untilMs: 0 })),
});

const subnetOf = (lease: Lease | undefined): string => (lease ? formatSubnets(lease.subnets) : 'none');

/** Runs with a server and a store on it. */
async function withStore(count: number, work: (api: FakeApi, store: ClusterStore, url: string) => Promise<void>) {
  const api = new FakeApi();
  api.nodes = Array.from({ length: count }, (_, i) => node(i + 1, 50));
  const url = await api.start();
  const store = await open(url);
  try {
    await work(api, store, url);
  } finally {
    store.close();
    api.stop();
  }
}

test('a cold start lists whole Nodes in pages; a restart needs metadata alone', async () => {
  await withStore(1200, async (api, store, url) => {
    const list = await store.list();
    assert.is(list.leases.size, 1200);
    assert.equal(api.asked.splice(0), ['list whole', 'list whole', 'list whole']);
    const { text } = store.memory!.format(memoryOf(list));

    const again = await open(url);
    const memory = again.memory!.parse(text)!;
    assert.is(memory.peers.length, 1200);
    api.nodes.push(node(2000, 90));
    const second = await again.list({ mark: memory.mark });
    assert.is(second.leases.size, 1201);
    assert.is(second.continuity, 'same');
    assert.equal(api.asked.splice(0), ['list metadata', 'list metadata', 'list metadata', 'get node2000']);
    again.close();
  });
});

test('many Nodes that are not known by their podCIDRs are listed in full, not asked for one by one', async () => {
  await withStore(40, async (api, store, url) => {
    const { text } = store.memory!.format(memoryOf(await store.list()));
    api.nodes = Array.from({ length: 40 }, (_, i) => node(i + 500, 60));
    api.asked.length = 0;
    const again = await open(url);
    again.memory!.parse(text);
    assert.is((await again.list()).leases.size, 40);
    assert.equal(api.asked, ['list metadata', 'list whole']);
    again.close();
  });
});

test('a new Node costs one question, however often it changes; a heartbeat wakes nobody', async () => {
  await withStore(2, async (api, store) => {
    let wakes = 0;
    await store.list();
    const watch = store.watch(() => wakes++);
    await waitFor('the start', () => wakes > 0);
    api.asked.length = 0;
    const late = node(7, 101);
    api.nodes.push(late);
    api.tell('ADDED', late);
    await waitFor('the new lease', async () => (await store.list()).leases.size === 3);
    const before = wakes;
    const { leases } = await store.list();
    for (let version = 102; version < 110; version++) {
      api.tell('MODIFIED', { ...late, metadata: { ...late.metadata, resourceVersion: String(version) } });
    }
    const other = {
      ...late.metadata,
      resourceVersion: '120',
      annotations: { ...late.metadata.annotations, 'p/public-ip': '10.9.9.9' },
    };
    api.tell('MODIFIED', { ...late, metadata: other });
    await waitFor('the change', async () => (await store.list()).leases !== leases);
    assert.is(wakes, before + 1);
    assert.equal(api.asked, ['get node7']);
    watch.close();
  });
});

test('a Node that makes itself look like a peer without a podCIDR is not asked about at each of its changes', async () => {
  await withStore(1, async (api, store) => {
    await store.list();
    api.asked.length = 0;
    const { podCIDRs: _, ...spec } = node(9, 0).spec;
    const bare: FakeNode = { ...node(9, 101), spec };
    api.nodes.push(bare);
    for (let version = 101; version < 300; version++) {
      api.tell('MODIFIED', { ...bare, metadata: { ...bare.metadata, resourceVersion: String(version) } });
    }
    await waitFor('the first question', () => api.asked.length > 0);
    const last = node(1, 400);
    api.tell('MODIFIED', { ...last, metadata: { ...last.metadata, annotations: {} } });
    await waitFor('all of them', async () => (await store.list()).leases.size === 0);
    assert.ok(api.asked.length <= 2, `${api.asked.length} questions`);
  });
});

test('a forgotten history means a new list; an older one means that leases may be lost', async () => {
  await withStore(3, async (api, store) => {
    const { mark } = await store.list();
    api.nodes = [node(1, 500), node(8, 501)];
    api.forget(510);
    await waitFor('the new list', async () => subnetOf((await store.list()).leases.all[1]) === '10.64.8.0/24');
    assert.is((await store.list({ mark })).continuity, 'same');
    const later = (await store.list()).mark;
    api.nodes = [node(1, 40)];
    api.forget(45);
    await waitFor('the restored list', async () => (await store.list()).leases.size === 1);
    assert.is((await store.list({ mark: later })).continuity, 'lost');
  });
});

test('the health is written when it changes, and once a minute at most; a restart goes on from there', async () => {
  await withStore(1, async (api, _, url) => {
    const own = node(9, 60);
    api.nodes.push({
      ...own,
      metadata: {
        ...own.metadata,
        name: 'me',
        annotations: { ...own.metadata.annotations, 'p/weft': '{"version":"1.0.0"}' },
      },
    });
    let laterMs = 0;
    const clock = { ...systemClock, nowMs: () => systemClock.nowMs() + laterMs };
    const told = async (store: ClusterStore, health: string | undefined): Promise<readonly (string | null)[]> => {
      await store.tellHealth!(health);
      return api.patches.splice(0).map((each) => each['p/weft']!);
    };
    const store = await open(url, clock);
    await store.list();
    assert.equal(await told(store, undefined), [], 'nothing is wrong, as the annotation says');
    assert.equal(await told(store, 'routes'), ['{"version":"1.0.0","health":"routes"}']);
    assert.equal(await told(store, 'routes'), []);
    assert.equal(await told(store, undefined), [], 'within the minute');
    laterMs += 61_000;
    assert.equal(await told(store, undefined), ['{"version":"1.0.0"}']);
    laterMs += 61_000;
    assert.equal(await told(store, 'disk'), ['{"version":"1.0.0","health":"disk"}']);
    store.close();
    const next = await open(url, clock);
    await next.list();
    assert.equal(await told(next, 'disk'), [], 'the earlier weftd has said that');
    assert.equal(await told(next, undefined), ['{"version":"1.0.0"}']);
    next.close();
  });
});

test.run();
