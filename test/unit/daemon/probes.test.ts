import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { answerHead, type ProbeSources } from '../../../daemon/probes.ts';

const test = suite('daemon/probes');

const sources = (changes: Partial<ProbeSources> = {}): ProbeSources => ({
  health: () => undefined,
  readiness: () => undefined,
  metrics: () => 'x 1\n',
  ...changes,
});

const ask = (head: string, changes: Partial<ProbeSources> = {}) => {
  const response = answerHead(head.replaceAll('\n', '\r\n'), sources(changes));
  const [top = '', body = ''] = response.split('\r\n\r\n');
  const length = Number(/^Content-Length: (\d+)$/im.exec(top)?.[1]);
  return { status: Number(/^HTTP\/1\.1 (\d+) \S/.exec(top)?.[1]), top, body, length };
};

test('the three paths, with a query or without', () => {
  assert.equal(ask('GET /healthz HTTP/1.1\nHost: a').body, 'ok\n');
  assert.is(ask('GET /readyz HTTP/1.0').status, 200);
  const metrics = ask('GET /metrics?x=y HTTP/1.1\nHost: a\nAccept: */*\nContent-Length: 0');
  assert.is(metrics.body, 'x 1\n');
  assert.match(metrics.top, /^Content-Type: text\/plain; version=0\.0\.4; charset=utf-8$/m);
  assert.match(metrics.top, /^Connection: close$/m);
});

test('what is wrong is 503 and says so, in as many bytes as it tells', () => {
  const stuck = ask('GET /healthz HTTP/1.1', { health: () => '"größer" is stuck' });
  assert.is(stuck.status, 503);
  assert.is(stuck.body, '"größer" is stuck\n');
  assert.is(stuck.length, Buffer.byteLength(stuck.body));
  const broken = ask('GET /metrics HTTP/1.1', {
    metrics: () => {
      throw new Error('no figures');
    },
  });
  assert.is(broken.status, 500);
});

test('HEAD has no body, and its length', () => {
  const { status, body, length } = ask('HEAD /readyz HTTP/1.1', { readiness: () => 'starting' });
  assert.equal([status, body, length], [503, '', 9]);
});

test('nothing else is taken', () => {
  assert.is(ask('GET / HTTP/1.1').status, 404);
  assert.is(ask('GET /metrics/../etc/passwd HTTP/1.1').status, 404);
  const posted = ask('POST /metrics HTTP/1.1\nContent-Length: 5');
  assert.is(posted.status, 405);
  assert.match(posted.top, /^Allow: GET, HEAD$/m);
  assert.is(ask('GET /metrics HTTP/1.1\nContent-Length: 5').status, 400);
  assert.is(ask('GET /metrics HTTP/1.1\ntransfer-encoding: chunked').status, 400);
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
    assert.is(ask(head).status, 400, JSON.stringify(head));
  }
});

test.run();
