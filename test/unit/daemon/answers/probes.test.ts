import { connect, type Socket } from 'node:net';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { tcpDoor } from '../../../../daemon/answers/doors.ts';
import { keepFor, type ProbeSources, probeRoutes } from '../../../../daemon/answers/probes.ts';
import { Answerer, listenTcp, type TcpServer } from '../../../../daemon/answers/server.ts';
import { address } from '../overlay/cluster-of.ts';

const test = suite('daemon/answers/probes');

const sources = (changes: Partial<ProbeSources> = {}): ProbeSources => ({
  health: () => undefined,
  readiness: () => undefined,
  metrics: async () => 'x 1\n',
  ...changes,
});

const ask = async (head: string, changes: Partial<ProbeSources> = {}) => {
  const answerer = new Answerer(probeRoutes(sources(changes), 'tcp'), tcpDoor());
  const checked = answerer.checkHead(head.replaceAll('\n', '\r\n'));
  const response = typeof checked === 'string' ? checked : await answerer.respond(checked);
  const [top = '', body = ''] = response.split('\r\n\r\n');
  const length = Number(/^Content-Length: (\d+)$/im.exec(top)?.[1]);
  return { status: Number(/^HTTP\/1\.1 (\d+) \S/.exec(top)?.[1]), top, body, length };
};

test('the three paths, with a query or without', async () => {
  assert.equal((await ask('GET /healthz HTTP/1.1\nHost: a')).body, 'ok\n');
  assert.is((await ask('GET /readyz HTTP/1.0')).status, 200);
  const metrics = await ask('GET /metrics?x=y HTTP/1.1\nHost: a\nAccept: */*\nContent-Length: 0');
  assert.is(metrics.body, 'x 1\n');
  assert.match(metrics.top, /^Content-Type: text\/plain; version=0\.0\.4; charset=utf-8$/m);
  assert.match(metrics.top, /^Connection: close$/m);
});

test('a failed probe is 503 with the reason; Content-Length counts bytes', async () => {
  const stuck = await ask('GET /healthz HTTP/1.1', { health: () => '"größer" is stuck' });
  assert.is(stuck.status, 503);
  assert.is(stuck.body, '"größer" is stuck\n');
  assert.is(stuck.length, Buffer.byteLength(stuck.body));
  const broken = await ask('GET /metrics HTTP/1.1', {
    metrics: () => {
      throw new Error('no figures');
    },
  });
  assert.is(broken.status, 500);
});

test('an answer is cached for a while; a failure is not', async () => {
  let nowMs = 0;
  let made = 0;
  let fails = false;
  const get = keepFor(
    1000,
    () => nowMs,
    async () => {
      if (fails) throw new Error('no figures');
      return String(++made);
    },
  );
  assert.equal(await Promise.all([get(), get()]), ['1', '1']);
  nowMs = 999;
  assert.is(await get(), '1');
  nowMs = 1000;
  assert.is(await get(), '2');
  nowMs = 2000;
  fails = true;
  for (let i = 0; i < 2; i++) await get().then(assert.unreachable, ({ message }) => assert.is(message, 'no figures'));
  fails = false;
  assert.is(await get(), '3');
});

test('HEAD has no body, and its length', async () => {
  const { status, body, length } = await ask('HEAD /readyz HTTP/1.1', { readiness: () => 'starting' });
  assert.equal([status, body, length], [503, '', 9]);
});

test('every other request is refused', async () => {
  assert.is((await ask('GET / HTTP/1.1')).status, 404);
  assert.is((await ask('GET /metrics/../etc/passwd HTTP/1.1')).status, 404);
  const posted = await ask('POST /metrics HTTP/1.1\nContent-Length: 5');
  assert.is(posted.status, 405);
  assert.match(posted.top, /^Allow: GET, HEAD$/m);
  assert.is((await ask('GET /metrics HTTP/1.1\nContent-Length: 5')).status, 400);
  assert.is((await ask('GET /metrics HTTP/1.1\ntransfer-encoding: chunked')).status, 400);
  for (const head of [
    '',
    'GET',
    'GET /metrics',
    'GET http://x/metrics HTTP/1.1',
    'GET /a b HTTP/1.1',
    '\0\x01',
    'get / HTTP/1.1',
    'GET /healthz HTTP/2.0',
  ]) {
    assert.is((await ask(head)).status, 400, JSON.stringify(head));
  }
});

/** What a connection gives until the other side ends it. */
function talk(port: number, ...parts: string[]): { socket: Socket; ended: Promise<string> } {
  const socket = connect(port, '127.0.0.1');
  let text = '';
  socket.on('data', (part) => {
    text += part.toString();
  });
  socket.on('error', () => {});
  const ended = new Promise<string>((resolve) => socket.on('close', () => resolve(text)));
  for (const part of parts) socket.write(part);
  return { socket, ended };
}

async function withServer(
  limits: { connectionMs: number; connections: number },
  body: (server: TcpServer) => Promise<void>,
) {
  const server = await listenTcp(address('127.0.0.1'), 0, probeRoutes(sources(), 'tcp'), tcpDoor(limits));
  try {
    await body(server);
  } finally {
    server.close();
  }
}

test('a request in pieces is answered once; bytes after it are ignored', () =>
  withServer({ connectionMs: 5000, connections: 4 }, async ({ port }) => {
    const { socket, ended } = talk(port, 'GET /heal');
    await new Promise((resolve) => setTimeout(resolve, 20));
    socket.write('thz HTTP/1.1\r\n\r\nGET /metrics HTTP/1.1\r\n\r\n');
    const text = await ended;
    assert.match(text, /^HTTP\/1\.1 200 OK\r\n[\s\S]*\r\n\r\nok\n$/);
    assert.not.match(text, /x 1/);
  }));

test('a head without an end is refused, and a silent client is cut off', () =>
  withServer({ connectionMs: 300, connections: 4 }, async ({ port }) => {
    const long = talk(port, 'GET /metrics HTTP/1.1\r\n', 'X: '.padEnd(20_000, 'y'));
    assert.match(await long.ended, /^(HTTP\/1\.1 431 [\s\S]*|)$/);
    assert.is(await talk(port).ended, '');
    assert.is(await talk(port, 'GET /met').ended, '');
  }));

test('too many silent connections: the oldest is closed, and another client is answered', () =>
  withServer({ connectionMs: 60_000, connections: 2 }, async ({ port }) => {
    const held = [];
    for (let i = 0; i < 5; i++) {
      held.push(talk(port, 'G'));
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    assert.match(await talk(port, 'GET /healthz HTTP/1.1\r\n\r\n').ended, /200 OK/);
    for (const { ended } of held.slice(0, 4)) assert.is(await ended, '');
    held[4]!.socket.destroy();
  }));

test('a port that another listens on is refused', () =>
  withServer({ connectionMs: 1000, connections: 2 }, async ({ port }) => {
    try {
      await listenTcp(address('127.0.0.1'), port, probeRoutes(sources(), 'tcp'), tcpDoor());
      assert.unreachable();
    } catch (error) {
      assert.is(
        (error as Error).message,
        `Cannot listen on "127.0.0.1:${port}": another program listens there; choose another port by --healthz-port`,
      );
    }
  }));

test.run();
