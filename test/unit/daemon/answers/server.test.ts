import { mkdtempSync, rmSync, statSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import type { ConfigPorts } from '../../../../cluster/administration.ts';
import { LeaseSet } from '../../../../cluster/lease-set.ts';
import type { ClusterNodes, NodeStatus } from '../../../../cluster/status.ts';
import type { StoredConfig } from '../../../../cluster/store.ts';
import { StoreUnavailableError } from '../../../../cluster/store-errors.ts';
import { socketDoor, tcpDoor } from '../../../../daemon/answers/doors.ts';
import { jsonAnswer, type Route, textAnswer } from '../../../../daemon/answers/route.ts';
import { Router } from '../../../../daemon/answers/router.ts';
import { type RouteSources, weftdRoutes } from '../../../../daemon/answers/routes.ts';
import { listenTcp, listenUnix } from '../../../../daemon/answers/server.ts';
import { address } from '../overlay/cluster-of.ts';

const test = suite('daemon/answers/server');

const configText = '{"Network": "10.1.0.0/16", "Backend": {"Type": "host-gw"}}';

/** weftd's own routes, on a cluster of variables. */
function routesOf(changes: Partial<RouteSources> = {}): Route[] {
  let stored: StoredConfig | undefined;
  const stores: ConfigPorts = {
    config: {
      path: '/p/config',
      place: 'etcd key "/p/config"',
      read: async () => stored,
      write: async (text) => {
        stored = { text, version: '7' };
        return true;
      },
    },
    leases: { list: async () => ({ leases: LeaseSet.of([]), malformed: [], continuity: 'same', mark: undefined }) },
  };
  return weftdRoutes({
    status: async () => ({ node: 'h1' }) as NodeStatus,
    nodes: async (): Promise<ClusterNodes> => {
      throw new StoreUnavailableError({
        code: 'timeout',
        op: 'list',
        subject: '/p/subnets/',
        message: 'Cannot list "/p/subnets/": no answer',
      });
    },
    logs: (number) => ({ startedAt: `after ${number}`, entries: [] }),
    stores,
    probes: { health: () => undefined, readiness: () => 'starting', metrics: async () => 'x 1\n' },
    survey: async () => ({ peers: [], mtuBytes: 1450, left: 0 }),
    now: () => performance.now(),
    ...changes,
  });
}

interface Reply {
  readonly status: number;
  readonly type: string;
  readonly body: string;
}

/** Sends the parts one after the other, each after a turn of the other side, and takes everything until the end. */
function talk(at: { path: string } | { port: number; host: string }, ...parts: string[]): Promise<string> {
  return new Promise((resolve) => {
    const socket = connect(at);
    let text = '';
    socket.on('data', (part) => {
      text += part.toString();
    });
    socket.on('error', () => {});
    socket.on('close', () => resolve(text));
    const next = (): void => {
      const part = parts.shift();
      if (part === undefined) return;
      socket.write(part);
      setTimeout(next, 5);
    };
    socket.on('connect', next);
  });
}

function replyOf(text: string): Reply {
  const [head = '', ...rest] = text.replace(/^HTTP\/1\.1 100 Continue\r\n\r\n/, '').split('\r\n\r\n');
  return {
    status: Number(/^HTTP\/1\.1 (\d+) \S/.exec(head)?.[1]),
    type: /^Content-Type: (.*)$/im.exec(head)?.[1]?.trim() ?? '',
    body: rest.join('\r\n\r\n'),
  };
}

/** Has routes served on a socket of its own. */
async function withSocket(
  routes: readonly Route[],
  body: (ask: (...parts: string[]) => Promise<Reply>, path: string) => Promise<void>,
  onError: (error: Error) => void = () => {},
): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'weft-server-'));
  const path = join(folder, 'weftd.sock');
  const server = await listenUnix(path, routes, socketDoor(onError));
  try {
    await body(async (...parts) => replyOf(await talk({ path }, ...parts)), path);
  } finally {
    server.close();
    rmSync(folder, { recursive: true });
  }
}

const get = (target: string, method = 'GET'): string => `${method} ${target} HTTP/1.1\r\nHost: weftd\r\n\r\n`;
const put = (body: string, ...fields: string[]): string =>
  ['PUT /config HTTP/1.1', 'Host: weftd', ...fields, '', body].join('\r\n');

test('the probe port answers /healthz, /readyz and /metrics, and nothing else', async () => {
  const routes = routesOf();
  assert.equal(
    new Router(routes, 'tcp').routes.map(({ method, path }) => `${method} ${path}`),
    ['GET /healthz', 'GET /readyz', 'GET /metrics'],
  );
  const server = await listenTcp(address('127.0.0.1'), 0, routes, tcpDoor());
  try {
    const ask = async (text: string): Promise<Reply> =>
      replyOf(await talk({ port: server.port, host: '127.0.0.1' }, text));
    for (const target of ['/status', '/nodes', '/config', '/']) {
      assert.equal(await ask(get(target)), {
        status: 404,
        type: 'text/plain; charset=utf-8',
        body: 'There are /healthz, /readyz and /metrics\n',
      });
    }
    assert.is((await ask(put(configText, `Content-Length: ${configText.length}`))).status, 405);
    assert.is((await ask(get('/metrics'))).body, 'x 1\n');
    assert.is((await ask(get('/readyz'))).status, 503);
  } finally {
    server.close();
  }
});

test('the socket answers all of them, root alone may use it, and it goes when the server ends', async () => {
  let used = '';
  await withSocket(routesOf(), async (ask, path) => {
    used = path;
    assert.is(statSync(path).mode & 0o777, 0o600);
    assert.equal(await ask(get('/status?x=y')), {
      status: 200,
      type: 'application/json',
      body: '{"node":"h1"}\n',
    });
    assert.is((await ask(get('/healthz'))).body, 'ok\n');
    assert.is((await ask(get('/metrics'))).status, 200);
    assert.equal(JSON.parse((await ask(get('/nodes'))).body), { error: 'Cannot list "/p/subnets/": no answer' });
    assert.is((await ask(get('/nodes'))).status, 503);
    assert.is((await ask(get('/config'))).status, 404);
    assert.equal(await ask(get('/other?a', 'POST')), {
      status: 404,
      type: 'application/json',
      body: '{"error":"There is no \\"POST /other?a\\" here"}\n',
    });
    assert.is((await ask(get('/status', 'HEAD'))).status, 404);
    assert.equal(await ask('nonsense\r\n\r\n'), {
      status: 400,
      type: 'application/json',
      body: '{"error":"Malformed request"}\n',
    });
  });
  assert.throws(() => statSync(used));
});

test('a body comes whole, in pieces, in chunks, or after "100 Continue"', async () => {
  const body = JSON.stringify({ text: configText });
  const length = `Content-Length: ${body.length}`;
  const chunked = (...parts: string[]): string =>
    [...parts.map((part) => `${part.length.toString(16)};x=y\r\n${part}\r\n`), '0\r\n\r\n'].join('');
  await withSocket(routesOf(), async (ask) => {
    const whole = put(body, length);
    const texts = [
      [whole],
      [whole.slice(0, 30), whole.slice(30, 80), whole.slice(80)],
      [put(chunked(body.slice(0, 3), body.slice(3)), 'Transfer-Encoding: chunked')],
      [...put(chunked(body.slice(0, 3), body.slice(3)), 'transfer-encoding: Chunked').match(/[\s\S]{1,40}/g)!],
      [put('', length, 'Expect: 100-continue'), body],
    ];
    for (const parts of texts) {
      const { status, body: answer } = await ask(...parts);
      assert.is(status, 200, parts.join('|'));
      assert.equal(JSON.parse(answer), { text: configText, modRevision: '7' });
    }
  });
});

test('a body that is too long, broken or wrong is refused', async () => {
  await withSocket(routesOf(), async (ask) => {
    const wrong: [string, number, string][] = [
      [put('', 'Content-Length: 1048577'), 413, 'The request is longer than 1048576 bytes'],
      [put('200000\r\n', 'Transfer-Encoding: chunked'), 413, 'The request is longer than 1048576 bytes'],
      [put('zz\r\n', 'Transfer-Encoding: chunked'), 400, 'Malformed request'],
      [put('', 'Content-Length: 1', 'Transfer-Encoding: gzip'), 400, 'Cannot read transfer encoding "gzip"'],
      [put('{', 'Content-Length: 1'), 400, 'The request is not JSON'],
      [put('{}', 'Content-Length: 2'), 400, 'The request has no "text"'],
      [put('{"text":"","expected":7}', 'Content-Length: 24'), 400, '"expected" must be a string'],
    ];
    for (const [text, status, error] of wrong) {
      const reply = await ask(text);
      assert.is(reply.status, status, text);
      assert.equal(JSON.parse(reply.body), { error });
    }
    const long = `GET /status HTTP/1.1\r\nX: ${'y'.repeat(20_000)}`;
    assert.is((await ask(long)).status, 431);
  });
});

test('another route plugs in: on the socket by default, on the probe port by name only', async () => {
  const quiet: Route = { method: 'GET', path: '/map', handle: () => jsonAnswer(200, { peers: 2 }) };
  const open: Route = { ...quiet, path: '/version', on: ['tcp'], handle: () => textAnswer(200, '0.1.0') };
  const routes = [...routesOf(), quiet, open];
  await withSocket(routes, async (ask) => {
    assert.equal(JSON.parse((await ask(get('/map'))).body), { peers: 2 });
    assert.is((await ask(get('/version'))).status, 404);
  });
  const paths = new Router(routes, 'tcp').routes.map(({ path }) => path);
  assert.equal(paths, ['/healthz', '/readyz', '/metrics', '/version']);
  assert.throws(() => new Router([...routes, quiet], 'socket'), /Two routes for "GET \/map"/);
});

test('a route keeps to its deadline, and works on so many requests at once', async () => {
  let running = 0;
  let most = 0;
  const ends: (() => void)[] = [];
  const slow: Route = {
    method: 'GET',
    path: '/slow',
    maxConcurrent: 2,
    async handle() {
      most = Math.max(most, ++running);
      await new Promise<void>((resolve) => ends.push(resolve));
      running--;
      return textAnswer(200, 'done');
    },
  };
  const router = new Router([slow, { ...slow, path: '/late', deadlineMs: 10 }], 'socket');
  const request = { method: 'GET', path: '', target: '', body: '' };
  const answers = [1, 2, 3, 4].map(() => router.answer(slow, request));
  for (let done = 0; done < 4; ) {
    await new Promise((resolve) => setImmediate(resolve));
    const end = ends.shift();
    if (end) done++;
    end?.();
  }
  assert.equal(
    (await Promise.all(answers)).map(({ status }) => status),
    [200, 200, 200, 200],
  );
  assert.is(most, 2);
  const late = await router.answer(router.find('GET', '/late')!, request).catch((error: Error) => error);
  assert.match((late as Error).message, /^No answer within 0\.01 s$/);
});

test('requests for the status that come together cost one answer; a later one gets a new answer', async () => {
  const ends: (() => void)[] = [];
  const routes = routesOf({
    status: async () => {
      const made = ends.length + 1;
      await new Promise<void>((resolve) => ends.push(resolve));
      return { node: `h${made}` } as NodeStatus;
    },
  });
  const router = new Router(routes, 'socket');
  const request = { method: 'GET', path: '/status', target: '/status', body: '' };
  const ask = async (): Promise<string> => (await router.answer(router.find('GET', '/status')!, request)).body;
  for (const made of [1, 2]) {
    const answers = Array.from({ length: 100 }, ask);
    while (ends.length < made) await new Promise((resolve) => setImmediate(resolve));
    for (const end of ends) end();
    assert.equal([...new Set(await Promise.all(answers))], [`{"node":"h${made}"}\n`]);
  }
  assert.is(ends.length, 2);
});

test("an error that is weftd's own mistake is told to weftd as well", async () => {
  const errors: string[] = [];
  const broken: Route = {
    method: 'GET',
    path: '/broken',
    handle() {
      throw new TypeError('undefined is not a function');
    },
  };
  await withSocket(
    [broken],
    async (ask) => {
      const { status, body } = await ask(get('/broken'));
      assert.is(status, 500);
      assert.equal(JSON.parse(body), { error: 'a fault of Weft itself (TypeError); please report it' });
    },
    ({ message }) => errors.push(message),
  );
  assert.equal(errors, ['undefined is not a function']);
});

test.run();
