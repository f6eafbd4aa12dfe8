/** `weftctl config import-v2` with a real etcd whose v2 API is on, and with servers that are none. */

import { writeFileSync } from 'node:fs';
import { createServer, type RequestListener } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { readV2 } from '../../cluster/etcd/v2-client.ts';
import { execute, executeAsync, run } from '../lab/commands.ts';
import { type Etcd, type EtcdTls, etcdctlEnvironment, startEtcd } from '../lab/etcd.ts';
import { program } from '../lab/project.ts';
import { Scratch } from '../lab/scratch.ts';
import { CertificateAuthority } from '../support/certificates.ts';
import { fixture } from '../support/fixture.ts';

const test = suite('import-v2');

const prefix = '/coreos.com/network';
const config = '{\n  "Network": "10.5.0.0/16",\n  "Backend": {"Type": "vxlan"}\n}';
const reservation = '{"PublicIP":"192.0.2.7","BackendType":"vxlan","BackendData":{"VtepMAC":"02:11:22:33:44:55"}}';

interface Site {
  readonly scratch: Scratch;
  readonly etcd: Etcd;
}
const site = fixture(
  test,
  async (): Promise<Site> => {
    const etcd = await startEtcd({ args: ['--enable-v2'] });
    // As flannel 0.11 and its administrator leave it: one reservation, two leases.
    setV2(etcd, 'config', config);
    setV2(etcd, 'subnets/10.5.7.0-24', reservation);
    setV2(etcd, 'subnets/10.5.8.0-24', '{"PublicIP":"192.0.2.8","BackendType":"vxlan"}', '--ttl', '86400');
    setV2(etcd, 'subnets/10.5.9.0-24', '{"PublicIP":"192.0.2.9","BackendType":"vxlan"}', '--ttl', '86400');
    return { scratch: new Scratch('import'), etcd };
  },
  async ({ scratch, etcd }) => {
    scratch.remove();
    await etcd.remove();
  },
);

function setV2({ endpoint }: Etcd, key: string, value: string, ...words: string[]): void {
  const environment = { ...etcdctlEnvironment, ETCDCTL_API: '2' };
  run(['etcdctl', '--endpoints', endpoint, 'set', ...words, `${prefix}/${key}`, value], { environment });
}

const weftctl = (etcd: Etcd, ...words: string[]) =>
  execute([program('weftctl'), '--etcd-endpoints', etcd.endpoint, 'config', 'import-v2', ...words]);

/** All keys of v3 with their values and whether they expire. */
function keys(etcd: Etcd): string[] {
  const { kvs = [] } = JSON.parse(etcd.ctl('get', '--prefix', '/', '-w', 'json')) as {
    kvs?: { key: string; value: string; lease?: number }[];
  };
  const decode = (text: string): string => Buffer.from(text, 'base64').toString();
  return kvs.map(({ key, value, lease }) => `${decode(key)} ${decode(value)}${lease ? ' (leased)' : ''}`);
}

const imported = [`${prefix}/config ${config}`, `${prefix}/subnets/10.5.7.0-24 ${reservation}`];

const forget = (etcd: Etcd): void => void etcd.ctl('del', '--prefix', '/');

test('--dry-run shows everything and writes nothing', () => {
  const { etcd } = site();
  const { status, stdout, stderr } = weftctl(etcd, '--dry-run');
  assert.equal([status, stderr], [0, ''], stdout);
  for (const part of [
    / {2}Network: 10\.5\.0\.0\/16/,
    /reservation: 10\.5\.7\.0\/24 of 192\.0\.2\.7/,
    /2 leases of nodes/,
  ]) {
    assert.match(stdout, part);
  }
  assert.match(stdout, /Nothing is written/);
  assert.equal(keys(etcd), []);
});

test('config and reservation come to v3 byte for byte; leases are left, and told', () => {
  const { etcd } = site();
  const { status, stdout, stderr } = weftctl(etcd);
  assert.equal([status, stderr], [0, ''], stdout);
  assert.match(stdout, /2 leases of nodes are left: each node takes its subnet again when it starts/);
  assert.equal(keys(etcd), imported);
});

test('a second import changes nothing', () => {
  const { etcd } = site();
  const { status, stdout } = weftctl(etcd);
  assert.is(status, 0);
  assert.match(stdout, /10\.5\.7\.0\/24 of 192\.0\.2\.7 is there already/);
  assert.match(stdout, /The network config is there already/);
  assert.equal(keys(etcd), imported);
});

test('another config in v3 stays without --force', () => {
  const { etcd } = site();
  const other = '{"Network":"10.9.0.0/16","Backend":{"Type":"vxlan"}}';
  etcd.ctl('put', `${prefix}/config`, other);
  etcd.ctl('put', `${prefix}/subnets/10.5.7.0-24`, '{"PublicIP":"192.0.2.99"}');
  const refused = weftctl(etcd);
  assert.is(refused.status, 1);
  assert.match(
    refused.stderr,
    /etcd has another network config at etcd key ".*\/config" already \(--force replaces it\)/,
  );
  assert.is(keys(etcd)[0], `${prefix}/config ${other}`);
  assert.is(weftctl(etcd, '--force').status, 0);
  assert.equal(keys(etcd), imported);
});

test("a node's lease is not taken away, even by --force", () => {
  const { etcd } = site();
  forget(etcd);
  const granted = /lease ([\da-f]+) granted/.exec(etcd.ctl('lease', 'grant', '600'))![1];
  etcd.ctl('put', `--lease=${granted}`, `${prefix}/subnets/10.5.7.0-24`, '{"PublicIP":"192.0.2.3"}');
  const { status, stderr } = weftctl(etcd, '--force');
  assert.is(status, 1);
  assert.match(
    stderr,
    /a reservation is left, 10\.5\.7\.0\/24 of 192\.0\.2\.7: a node of the v3 network has leased it/,
  );
  assert.equal(keys(etcd), [imported[0], `${prefix}/subnets/10.5.7.0-24 {"PublicIP":"192.0.2.3"} (leased)`]);
});

test('from a file that curl wrote, and from the standard input', async () => {
  const { etcd, scratch } = site();
  const text = await (await fetch(`${etcd.endpoint}/v2/keys/coreos.com?recursive=true`)).text();
  const file = join(scratch.folder, 'v2.json');
  writeFileSync(file, text);
  for (const [word, stdin] of [
    [file, ''],
    ['-', text],
  ] as const) {
    forget(etcd);
    const argv = [program('weftctl'), '--etcd-endpoints', etcd.endpoint, 'config', 'import-v2', word];
    const { status, stderr } = execute(argv, { stdin });
    assert.equal([status, stderr], [0, '']);
    assert.equal(keys(etcd), imported);
  }
});

test('another prefix, and networks of flannel 0.6', () => {
  const { etcd } = site();
  forget(etcd);
  setV2(etcd, 'blue/config', config);
  const { status, stderr } = weftctl(etcd, '--from-prefix', `${prefix}/none`);
  assert.is(status, 1);
  assert.match(stderr, /There is no key "\/coreos.com\/network\/none" in http/);
  assert.is(weftctl(etcd, '--from-prefix', `${prefix}/blue`).status, 0);
  assert.equal(keys(etcd), [imported[0]]);
  const several = weftctl(etcd, '--from-prefix', '/coreos.com');
  assert.match(
    several.stderr,
    /several networks below it: give one by --from-prefix\n {2}--from-prefix \/coreos.com\/network\n/,
  );
});

test('a config that "config set" refuses is refused, and nothing is written', () => {
  const { etcd, scratch } = site();
  for (const [text, pattern] of [
    ['{', /JSON/],
    ['{"Network":"127.0.0.0/8","Backend":{"Type":"vxlan"}}', /loopback/],
    ['{"Network":"10.5.0.0/16"}', /its backend is "udp", which Weft does not run/],
    ['{"Network":"10.5.0.0/16","Backend":{"Type":"\\u001b[31m"}}', /its backend is/],
  ] as const) {
    forget(etcd);
    const file = join(scratch.folder, 'odd.json');
    const node = { key: prefix, dir: true, nodes: [{ key: `${prefix}/config`, value: text }] };
    writeFileSync(file, JSON.stringify({ action: 'get', node }));
    const { status, stderr, stdout } = weftctl(etcd, file);
    assert.equal([status, stdout], [1, ''], stderr);
    assert.match(stderr, pattern);
    assert.not.match(stderr, /^\s+at /m);
    assert.not(stderr.includes('\u001b'), 'no control characters reach the terminal');
    assert.equal(keys(etcd), []);
  }
});

test('files that are none', () => {
  const { etcd, scratch } = site();
  const fifo = join(scratch.folder, 'fifo');
  run(['mkfifo', fifo]);
  const empty = join(scratch.folder, 'empty');
  writeFileSync(empty, '');
  for (const [word, pattern] of [
    [fifo, /Cannot read ".*fifo": it is no regular file/],
    [scratch.folder, /Cannot read ".*": it is no regular file/],
    [join(scratch.folder, 'none'), /Cannot read ".*none": ENOENT/],
    [empty, /Cannot read ".*empty" as an answer of etcd's v2 API: it is not JSON/],
  ] as const) {
    const { status, stderr } = weftctl(etcd, word);
    assert.is(status, 1);
    assert.match(stderr, pattern);
  }
});

test('an etcd whose v2 API is off says how to switch it on; a dead one is not waited for', async () => {
  const etcd = await startEtcd();
  try {
    const off = weftctl(etcd);
    assert.is(off.status, 1);
    assert.match(off.stderr, /it has no v2 API; start it with --enable-v2 \(up to etcd 3\.5\)/);
    await etcd.stop();
    const dead = weftctl(site().etcd, etcd.endpoint);
    assert.match(
      dead.stderr,
      /Cannot read over the v2 API "\/coreos.com\/network" in etcd at http.*: connection refused/,
    );
  } finally {
    await etcd.remove();
  }
});

test('with client certificates', async () => {
  const { scratch } = site();
  const authority = new CertificateAuthority(scratch.makeFolder('tls'), 'authority');
  const tls: Required<EtcdTls> = {
    caFile: authority.caFile,
    server: authority.issue('server', { commonName: 'etcd', names: 'DNS:localhost,IP:127.0.0.1' }),
    client: authority.issue('root', { commonName: 'root' }),
  };
  const etcd = await startEtcd({ tls, args: ['--enable-v2'] });
  try {
    const files = ['--ca-file', tls.caFile, '--cert-file', tls.client.certFile, '--key-file', tls.client.keyFile];
    const environment = { ...etcdctlEnvironment, ETCDCTL_API: '2' };
    run(['etcdctl', '--endpoints', etcd.endpoint, ...files, 'set', `${prefix}/config`, config], { environment });
    assert.match(weftctl(etcd).stderr, /no authority that this host knows has signed etcd's certificate/);
    const known = ['--etcd-cafile', tls.caFile];
    const nobody = weftctl(etcd, ...known);
    assert.is(nobody.status, 1, nobody.stdout);
    const pair = ['--etcd-certfile', tls.client.certFile, '--etcd-keyfile', tls.client.keyFile];
    const { status, stderr } = weftctl(etcd, ...known, ...pair);
    assert.equal([status, stderr], [0, '']);
    assert.equal(keys(etcd), [imported[0]]);
  } finally {
    await etcd.remove();
  }
});

/** What weftctl says of a server that is no etcd. */
async function said(answer: RequestListener, timeoutMs = 5000): Promise<string> {
  const server = createServer(answer).listen(0, '127.0.0.1');
  await new Promise((resolve) => server.once('listening', resolve));
  const endpoints = [`http://127.0.0.1:${(server.address() as AddressInfo).port}`];
  const setTimer = (callback: () => void, delayMs: number) => {
    const timer = setTimeout(callback, delayMs);
    return { cancel: () => clearTimeout(timer) };
  };
  try {
    await readV2({ endpoints, prefix }, { nowMs: Date.now, setTimer }, timeoutMs);
    return 'it reads it';
  } catch (error) {
    return (error as Error).message;
  } finally {
    server.closeAllConnections();
    server.close();
  }
}

test('a server that is silent, endless, or sends elsewhere', async () => {
  assert.match(await said(() => {}, 200), /no answer within 0\.2 s/);
  const endless: RequestListener = (_request, response) => {
    const part = 'x'.repeat(1 << 20);
    const write = (): void => {
      while (!response.destroyed && response.write(part));
      response.once('drain', write);
    };
    write();
  };
  assert.match(await said(endless, 60_000), /its answer has more than 64 MiB/);
  const elsewhere: RequestListener = (_request, response) => response.writeHead(302, { location: '/v2/x' }).end();
  assert.match(await said(elsewhere), /Cannot read over the v2 API/);
  const down: RequestListener = (_request, response) => response.writeHead(503).end('\u001b[31mno leader');
  assert.match(await said(down), /HTTP status 503: .*no leader/);
});

test('weftctl refuses what such a server answers', async () => {
  const server = createServer((_request, response) => response.end('<html>')).listen(0, '127.0.0.1');
  await new Promise((resolve) => server.once('listening', resolve));
  try {
    const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    const argv = [program('weftctl'), '--etcd-endpoints', site().etcd.endpoint, 'config', 'import-v2', url];
    const { status, stderr } = await executeAsync(argv);
    assert.is(status, 1);
    assert.match(stderr, /Cannot read "http:.*" as an answer of etcd's v2 API: it is not JSON/);
  } finally {
    server.close();
  }
});

test.run();
