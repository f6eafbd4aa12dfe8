/** The client of Kubernetes' API against a server of our own, which does what a real one cannot be made to do. */

import { copyFileSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import type { AddressInfo, Server } from 'node:net';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { accept, KubeClient, type KubeRequest } from '../../cluster/kubernetes/client.ts';
import { Credentials } from '../../cluster/kubernetes/credentials.ts';
import { AnswerError, BusyError, isGone, type Operation } from '../../cluster/kubernetes/errors.ts';
import { StoreError, StoreRefusedError, StoreUnavailableError } from '../../cluster/store-errors.ts';
import { systemClock } from '../lab/clock.ts';
import { Scratch } from '../lab/scratch.ts';
import { CertificateAuthority } from '../support/certificates.ts';
import { fixture } from '../support/fixture.ts';

const test = suite('kube client');

const operation: Operation = {
  word: 'list_nodes',
  op: 'list the Nodes',
  subject: 'nodes',
  right: { resource: 'nodes', verb: 'list' },
};
const listing: KubeRequest = { operation, path: '/api/v1/nodes', accept: accept.list.whole };

type Handler = (request: IncomingMessage, response: ServerResponse) => void;

/** A server whose answers each test sets. */
class Scene {
  readonly scratch = new Scratch('kube-client');
  readonly #servers: Server[] = [];
  handler: Handler = (_, response) => response.end('{}');
  connections = 0;

  async listen(tls?: { key: Buffer; cert: Buffer }): Promise<string> {
    const handle: Handler = (request, response) => this.handler(request, response);
    const server = tls ? createTlsServer(tls, handle) : createServer(handle);
    server.on(tls ? 'secureConnection' : 'connection', () => this.connections++);
    this.#servers.push(server);
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    return `${tls ? 'https' : 'http'}://127.0.0.1:${(server.address() as AddressInfo).port}`;
  }

  client(kubernetes: ConstructorParameters<typeof Credentials>[0]['kubernetes']): KubeClient {
    const credentials = new Credentials({ kubernetes, environment: {} });
    return new KubeClient({ credentials, clock: systemClock, timeoutMs: 300 });
  }

  /** A kubeconfig with the text in its user and its cluster. */
  kubeconfig(server: string, user: object, cluster: object = {}): string {
    const path = join(this.scratch.folder, 'kubeconfig');
    const document = {
      kind: 'Config',
      'current-context': 'c',
      contexts: [{ name: 'c', context: { cluster: 'c', user: 'u' } }],
      clusters: [{ name: 'c', cluster: { server, ...cluster } }],
      users: [{ name: 'u', user }],
    };
    writeFileSync(path, JSON.stringify(document));
    return path;
  }

  remove(): void {
    for (const server of this.#servers) {
      (server as ReturnType<typeof createServer>).closeAllConnections();
      server.close();
    }
    this.scratch.remove();
  }
}

const scene = fixture(
  test,
  () => new Scene(),
  (made) => made.remove(),
);

const errorOf = async (promise: Promise<unknown>): Promise<StoreError> => {
  try {
    await promise;
  } catch (error) {
    if (error instanceof StoreError) return error;
    throw error;
  }
  throw new Error('There was no error');
};

/** Follows a stream to its end. */
async function followed(client: KubeClient, silenceMs = 1000): Promise<{ lines: string[]; error?: StoreError }> {
  const lines: string[] = [];
  const { signal } = new AbortController();
  const onLine = (line: string): void => void lines.push(line);
  try {
    await client.follow(listing, { onLine, onStart: () => undefined, silenceMs, signal });
    return { lines };
  } catch (error) {
    if (error instanceof StoreError) return { lines, error };
    throw error;
  }
}

test('where the API server is, is known before the first request', async () => {
  const client = scene().client({ kubeconfigFile: scene().kubeconfig('https://10.9.8.7:6443', { token: 't' }) });
  assert.equal(client.health().endpoints, []);
  await client.locate();
  assert.equal(client.health().endpoints, ['https://10.9.8.7:6443']);
  const lost = scene().client({ kubeconfigFile: '/nowhere' });
  await lost.locate();
  assert.equal(lost.health().endpoints, []);
});

test('requests share a connection, and carry the token of the file as it is now', async () => {
  const server = await scene().listen();
  const token = join(scene().scratch.folder, 'token');
  writeFileSync(token, 'one\n');
  const client = scene().client({ kubeconfigFile: scene().kubeconfig(server, { tokenFile: token }) });
  scene().handler = ({ headers }, response) => response.end(JSON.stringify({ token: headers.authorization }));
  scene().connections = 0;
  assert.equal(await client.ask(listing), { token: 'Bearer one' });
  writeFileSync(token, 'two');
  assert.equal(await client.ask(listing), { token: 'Bearer two' });
  assert.is(scene().connections, 1);
  assert.ok(client.health().connected);
  client.close();
});

test('no answer and half an answer end by their deadlines; the next request has a connection of its own', async () => {
  const server = await scene().listen();
  const client = scene().client({ apiUrl: server });
  scene().handler = () => undefined;
  const late = await errorOf(client.ask(listing));
  assert.is(late.code, 'timeout');
  assert.match(
    late.message,
    /^Cannot list the Nodes: the API server http:\/\/127\.0\.0\.1:\d+: no answer within 300 ms$/,
  );
  assert.not.ok(client.health().connected);
  scene().handler = (_, response) => void response.write('{"a":');
  assert.match((await errorOf(client.ask(listing))).message, /no answer within 900 ms/);
  scene().handler = (_, response) => response.end('{}');
  const { connections } = scene();
  assert.equal(await client.ask(listing), {});
  assert.is(scene().connections, connections + 1);
  client.close();
});

test('each refusal has its meaning', async () => {
  const server = await scene().listen();
  const client = scene().client({ apiUrl: server });
  const answer = (status: number, text: string, headers: Record<string, string> = {}): Promise<StoreError> => {
    scene().handler = (_, response) => response.writeHead(status, headers).end(text);
    return errorOf(client.ask(listing));
  };
  const said = (message: string, more: object = {}): string => JSON.stringify({ kind: 'Status', message, ...more });
  const denied = await answer(403, said('nodes is forbidden: User "eve" cannot list'));
  assert.ok(denied instanceof StoreRefusedError);
  assert.is(denied.code, 'denied');
  assert.match(
    denied.message,
    /refuses: user "eve" lacks a right; add this rule to a ClusterRole that is bound to it: \{apiGroups: \[""\], resources: \["nodes"\], verbs: \["list"\]\}$/,
  );
  const policy = await answer(403, said(`nodes "a" is forbidden: ValidatingAdmissionPolicy 'p' denied request: no`));
  assert.match(policy.message, /refuses: nodes "a" is forbidden: ValidatingAdmissionPolicy 'p' denied request: no$/);
  const hook = await answer(403, said('admission webhook "h" denied the request: never'));
  assert.match(hook.message, /refuses: admission webhook "h" denied the request: never$/, 'no right would help');
  assert.match((await answer(401, said('Unauthorized'))).message, /does not know the credentials of --kube-api-url/);
  assert.ok(isGone(await answer(410, said('The provided continue parameter is too old'))));
  const busy = await answer(429, said('slow down', { details: { retryAfterSeconds: 7 } }));
  assert.ok(busy instanceof BusyError && busy.retryAfterMs === 7000);
  const header = await answer(503, 'down', { 'retry-after': '3600' });
  assert.ok(header instanceof BusyError && header.retryAfterMs === 60_000, 'no longer than a minute');
  assert.is((await answer(504, said('Timeout'))).code, 'timeout');
  const proxy = await answer(502, `<html>${'x'.repeat(100_000)}`);
  assert.ok(proxy instanceof StoreUnavailableError);
  assert.match(proxy.message, /does not manage: HTTP status 502$/);
  const long = await answer(400, said('y'.repeat(3000)));
  assert.ok(long instanceof AnswerError && long.message.length < 400);
  assert.ok(
    (await answer(302, '', { location: 'http://127.0.0.1:1/' })) instanceof StoreError,
    'no redirect is followed',
  );
  assert.match((await answer(200, '<html>')).message, /^Cannot list the Nodes: the API server/);
  client.close();
});

test('a refusal that does not end, or is endless, holds nothing up', async () => {
  const server = await scene().listen();
  const client = scene().client({ apiUrl: server });
  scene().handler = (_, response) => void response.writeHead(403).write('half');
  assert.match((await followed(client, 60_000)).error!.message, /no answer within 300 ms/);
  const part = 'x'.repeat(1 << 16);
  scene().handler = (_, response) => {
    response.writeHead(500);
    const more = (): void => void (response.destroyed || response.write(part, () => setImmediate(more)));
    more();
  };
  assert.match((await errorOf(client.ask(listing))).message, /HTTP status 500|no answer/);
  client.close();
});

test('a stream comes in lines, whatever its pieces are', async () => {
  const server = await scene().listen();
  const client = scene().client({ apiUrl: server });
  const bytes = Buffer.from('{"a":"é"}\n\n{"b":1}\r\n{"c"');
  scene().handler = (_, response) => {
    response.write(bytes.subarray(0, 7));
    setTimeout(() => response.write(bytes.subarray(7)), 20);
    setTimeout(() => response.end(':2}\n'), 40);
  };
  const { lines, error } = await followed(client);
  assert.equal(
    lines.map((line) => line.trim()),
    ['{"a":"é"}', '{"b":1}', '{"c":2}'],
  );
  assert.is(error, undefined);
  client.close();
});

test('a stream that falls silent, or is cut, is a loss; one without an end of line is not read for ever', async () => {
  const server = await scene().listen();
  const client = scene().client({ apiUrl: server });
  scene().handler = (_, response) => void response.write('{}\n');
  const silent = await followed(client, 200);
  assert.equal(silent.lines, ['{}']);
  assert.match(silent.error!.message, /nothing was heard for 0 s/);
  scene().handler = (_, response) => {
    response.write('{}\n');
    setTimeout(() => response.destroy(), 20);
  };
  assert.ok((await followed(client)).error instanceof StoreUnavailableError);
  scene().handler = (_, response) => {
    const part = 'x'.repeat(1 << 20);
    const more = (): void => void (response.destroyed || response.write(part, () => setImmediate(more)));
    more();
  };
  assert.match((await followed(client)).error!.message, /a line has more than 16777216 characters/);
  client.close();
});

test('the certificate authority is read anew; a wrong one is told with its origin', async () => {
  const { folder } = scene().scratch;
  const [right, wrong] = ['right', 'wrong'].map((label) => new CertificateAuthority(folder, label));
  const { certFile, keyFile } = right!.issue('server', { names: 'IP:127.0.0.1' });
  const server = await scene().listen({ key: readFileSync(keyFile), cert: readFileSync(certFile) });
  scene().handler = (_, response) => response.end('{}');
  const ca = join(folder, 'current.pem');
  copyFileSync(wrong!.caFile, ca);
  const config = scene().kubeconfig(server, { token: 't' }, { 'certificate-authority': ca });
  const client = scene().client({ kubeconfigFile: config });
  const error = await errorOf(client.ask(listing));
  assert.ok(error instanceof StoreRefusedError);
  assert.match(
    error.message,
    /no authority that we know has signed its certificate; .* of ".*kubeconfig" \(--kubeconfig-file\)$/,
  );
  copyFileSync(right!.caFile, ca);
  assert.equal(await client.ask(listing), {});
  client.close();
});

test('files that cannot be read are told by their names', async () => {
  const kubeconfig = (path: string) => errorOf(scene().client({ kubeconfigFile: path }).ask(listing));
  assert.match((await kubeconfig('/nowhere')).message, /^Cannot read "\/nowhere" \(--kubeconfig-file\): ENOENT$/);
  assert.match((await kubeconfig('/tmp')).message, /it is no file/);
  const lacking = scene().kubeconfig('http://127.0.0.1:1', { tokenFile: '/nowhere' });
  assert.match((await kubeconfig(lacking)).message, /^Cannot read "\/nowhere" \(named in ".*kubeconfig"\): ENOENT$/);
  const pod = scene().client({});
  assert.match(
    (await errorOf(pod.ask(listing))).message,
    /this is no pod .* give --kubeconfig-file or --kube-api-url$/,
  );
});

test.run();
