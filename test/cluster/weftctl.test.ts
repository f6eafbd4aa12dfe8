/** weftctl's answers to people and programs. */

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { stripVTControlCharacters } from 'node:util';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import type { ClusterNodes } from '../../cluster/status.ts';
import { startCluster } from '../lab/cluster.ts';
import type { Host } from '../lab/host.ts';
import { exampleConfig, program } from '../lab/project.ts';
import { waitFor } from '../lab/wait.ts';
import { fixture } from '../support/fixture.ts';

const test = suite('weftctl');
const cluster = fixture(
  test,
  () => startCluster('weftctl', { hosts: 3 }),
  (made) => made.remove(),
);

function prints(host: Host, ...words: string[]): string {
  const { status, stdout, stderr } = host.weftctl(...words);
  assert.is(status, 0, `${words.join(' ')}: ${stdout}${stderr}`);
  assert.is(stderr, '');
  return stdout;
}

function refuses(host: Host, pattern: RegExp, ...words: string[]): void {
  const { status, stdout, stderr } = host.weftctl(...words);
  assert.ok(status !== 0 && status !== null, `${words.join(' ')}: ${stdout}`);
  assert.is(stdout, '');
  assert.match(stderr, pattern);
  assert.not.match(stderr, /^\s+at /m);
}

test('status: this node, its subnet and its peers, for people and for programs', () => {
  const [one, two] = cluster().hosts as [Host, Host];
  const text = prints(one, 'status');
  for (const word of [one.name, one.subnet, one.address, two.subnet, two.address]) assert.ok(text.includes(word), word);
  const status = one.status();
  assert.is(status.node, one.name);
  assert.equal(status.subnets, [one.subnet]);
  assert.is(status.state, 'running');
  assert.equal(status.problems, []);
  assert.is(status.peers.length, 2);
  assert.not(text.includes('\u001b'), 'no colours where nobody looks');
});

test('-o: JSON, YAML and all columns; on a terminal colours and lines that fit', () => {
  const [one] = cluster().hosts as [Host];
  assert.is(JSON.parse(prints(one, 'status', '-o', 'json')).node, one.name);
  assert.match(prints(one, 'nodes', '-o', 'yaml'), /^nodes:\n {2}- [a-z][\s\S]*^malformed: \[\]$/m);
  assert.match(prints(one, 'nodes', '-o', 'wide'), /^NODE .* SINCE +HEALTH$/m);
  assert.match(prints(one, 'status', '-o=wide'), /^PEER .* BACKEND +VERSION +HEALTH +STATE$/m);
  refuses(one, /"xml" \(-o\) is none of json, wide, yaml/, 'status', '-o', 'xml');
  refuses(one, /--json and -o yaml exclude each other/, 'nodes', '--json', '-o', 'yaml');
  refuses(one, /Option "--o" does not belong to "config get"/, 'config', 'get', '-o', 'json');
  const onTerminal = (columns: number, environment: string, ...words: string[]): string => {
    // Whoever runs the tests may have said that he wants no colours.
    const command = `stty cols ${columns}; unset NO_COLOR; export TERM=xterm; ${environment} exec ${program('weftctl')} --run-dir ${one.runDir} ${words.join(' ')}`;
    return one.run('script', '-qec', command, '/dev/null').replaceAll('\r', '');
  };
  const narrow = onTerminal(72, '', 'nodes');
  assert.ok(narrow.includes('\u001b[32mup'), 'colours');
  for (const line of narrow.split('\n')) assert.ok(stripVTControlCharacters(line).length <= 72, line);
  for (const environment of ['NO_COLOR=1', 'TERM=dumb']) {
    assert.not(onTerminal(60, environment, 'status').includes('\u001b'), environment);
  }
  assert.ok(
    onTerminal(60, '', 'nodes', '-o', 'wide')
      .split('\n')
      .some((line) => stripVTControlCharacters(line).length > 60),
  );
});

test('a long answer is written whole, however slowly the reader takes it', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'weft-long-'));
  const node = (i: number): ClusterNodes['nodes'][number] => ({
    node: `host${i}`,
    subnets: ['10.5.0.0/24'],
    publicAddresses: ['192.0.2.1'],
    backend: 'vxlan',
    reservation: false,
  });
  const body = JSON.stringify({ nodes: Array.from({ length: 5000 }, (_, i) => node(i)), malformed: [] });
  // In weftd's place.
  const server = createServer((_, response) => response.end(body)).listen(join(folder, 'weftd.sock'));
  try {
    await once(server, 'listening');
    const { stdout } = spawn(program('weftctl'), ['--run-dir', folder, 'nodes', '--json'], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    let text = '';
    for await (const part of stdout) {
      text += part;
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
    assert.is((JSON.parse(text) as ClusterNodes).nodes.length, 5000);
  } finally {
    server.close();
    rmSync(folder, { recursive: true });
  }
});

test('the exit status tells whether the output was written', () => {
  const [one] = cluster().hosts as [Host];
  const shell = (script: string) =>
    one.execute(['bash', '-o', 'pipefail', '-c', script, program('weftctl'), '--run-dir', one.runDir, 'config', 'get']);
  assert.is(shell('"$0" "$@" | head -c 10').status, 0, 'a reader that has enough');
  const full = shell('"$0" "$@" >/dev/full');
  assert.equal([full.status, full.stderr], [1, 'weftctl: Cannot write the output: ENOSPC\n']);
});

test("logs: weftd's last lines, as they come, also after a restart", async () => {
  const [one] = cluster().hosts as [Host];
  assert.match(prints(one, 'logs'), /^\S+Z info {2}weftd starts .*node=host1/m);
  assert.is(prints(one, 'logs', '--lines', '1').trim().split('\n').length, 1);
  assert.is(prints(one, 'logs', '--level', 'error'), '');
  refuses(one, /"loud" \(--level\) is none of debug, info, warn, error/, 'logs', '--level', 'loud');
  const entries = prints(one, 'logs', '--json', '--lines', '1000').trim().split('\n');
  assert.is((JSON.parse(entries[0]!) as { number: number }).number, 1);
  const words = ['--run-dir', one.runDir, 'logs', '--follow', '--lines', '0', '--timeout', '300'];
  const logFile = join(one.folder, 'follow.log');
  const follower = one.scratch.start([program('weftctl'), ...words], { logFile });
  const shown = (): string => readFileSync(logFile, 'utf8');
  const signalled = (): boolean => {
    // The first signals may come before the follower's first look.
    one.weftd?.child.kill('SIGHUP');
    return shown().includes('asked to look at everything again signal=SIGHUP');
  };
  await waitFor('the line about the signal', signalled, { intervalMs: 300 });
  await one.weftd?.stop();
  await waitFor('the follower to miss weftd', () => shown().includes('weftctl: waiting: Cannot ask weftd'));
  one.startWeftd();
  await waitFor('the first line of the new weftd', () => /info {2}weftd starts/.test(shown()));
  assert.is(shown().match(/weftctl: waiting/g)?.length, 1);
  await follower.stop();
  await one.waitForStatus('the node to run', ({ state }) => state === 'running');
});

test('nodes: all of them, from weftd or from etcd', async () => {
  const { hosts } = cluster();
  const [one] = hosts as [Host];
  await waitFor('three nodes to be alive', () => {
    const { nodes } = JSON.parse(prints(one, 'nodes', '--json')) as ClusterNodes;
    return nodes.length === 3 && nodes.every(({ alive }) => alive);
  });
  const text = prints(one, 'nodes');
  for (const host of hosts) for (const word of [host.name, host.subnet]) assert.ok(text.includes(word), word);
  const direct = JSON.parse(prints(one, '--etcd-endpoints', one.etcd.endpoint, 'nodes', '--json')) as ClusterNodes;
  assert.equal(direct.nodes.map(({ node }) => node).sort(), ['host1', 'host2', 'host3']);
  assert.equal(direct.malformed, []);
});

test('config get prints what is in etcd', () => {
  assert.equal(
    JSON.parse(prints(cluster().hosts[0]!, 'config', 'get')),
    JSON.parse(readFileSync(exampleConfig, 'utf8')),
  );
});

test('config set refuses a wrong config, and keeps the current one', () => {
  const [one] = cluster().hosts as [Host];
  const before = cluster().get('config');
  for (const [config, pattern] of [
    ['{', /JSON/],
    ['{"Network": "10.244.0.0/99"}', /10\.244\.0\.0\/99/],
    ['{"Network": "10.244.0.0/16", "SubnetLen": 31, "Backend": {"Type": "vxlan"}}', /SubnetLen/],
    ['{"Network": "10.244.0.0/16", "Backend": {"Type": "pigeon"}}', /pigeon/],
  ] as const) {
    const file = join(one.folder, 'config.json');
    writeFileSync(file, config);
    refuses(one, pattern, 'config', 'set', file);
    assert.is(cluster().get('config'), before);
  }
});

test('config set writes a valid config byte for byte', () => {
  const [one] = cluster().hosts as [Host];
  const file = join(one.folder, 'config.json');
  const text = '{ "Network": "10.244.0.0/16",\n  "Backend": { "Type": "vxlan", "VNI": 1 } }\n';
  writeFileSync(file, text);
  prints(one, 'config', 'set', file);
  assert.is(cluster().get('config').trim(), text.trim());
});

test("config set warns of this host's networks", () => {
  const [one] = cluster().hosts as [Host];
  const set = (network: string) =>
    one.weftctl('config', 'set', '--dry-run', `{"Network": "${network}", "Backend": {"Type": "vxlan"}}`).stderr;
  assert.is(
    set('192.168.0.0/16'),
    'weftctl: the network overlaps this host\'s network 192.168.77.0/24 on "eth0"; a node leases no subnet that overlaps its own networks\n',
  );
  assert.is(set('10.244.0.0/16'), '', "the containers' bridge is the cluster's own");
});

test('control characters in the name of an interface do not reach the terminal', () => {
  const [one] = cluster().hosts as [Host];
  one.ip('link', 'add', 'a\x1b[31m', 'type', 'bridge');
  one.ip('addr', 'add', '172.31.9.1/24', 'dev', 'a\x1b[31m');
  const document = '{"Network": "172.31.0.0/16", "Backend": {"Type": "vxlan"}}';
  const { stderr } = one.weftctl('config', 'set', '--dry-run', document);
  assert.match(stderr, /overlaps this host's network 172\.31\.9\.0\/24 on "a\\u001b\[31m"/);
  assert.not.ok(stderr.includes('\x1b'));
  one.ip('link', 'del', 'a\x1b[31m');
});

test('config set refuses networks that no container can use, also if forced', () => {
  const [one] = cluster().hosts as [Host];
  const before = cluster().get('config');
  for (const network of ['127.5.0.0/16', '224.0.0.0/4']) {
    const document = `{"Network": "${network}", "Backend": {"Type": "vxlan"}}`;
    refuses(one, /overlaps the (loopback|multicast) network ".*": choose another network/, 'config', 'set', document);
    refuses(one, /overlaps the/, 'config', 'set', '--force', document);
  }
  assert.is(cluster().get('config'), before);
});

test('config set refuses a network that would strand the leases, unless forced', () => {
  const [one] = cluster().hosts as [Host];
  const file = join(one.folder, 'config.json');
  writeFileSync(file, '{"Network": "10.99.0.0/16", "Backend": {"Type": "vxlan"}}');
  refuses(one, /lease|10\.244/, 'config', 'set', file);
  assert.match(cluster().get('config'), /10\.244/);
});

test('without weftd, or with a wrong verb, one line says what to do', () => {
  const [one] = cluster().hosts as [Host];
  refuses(one, /verb|usage|help/i, 'dance');
  refuses(one, /weftd/, '--run-dir', join(one.folder, 'nowhere'), 'status');
});

test('status --wait says why it waits, ends when the host is ready, and with status 1 when time has run out', async () => {
  const { scratch } = cluster();
  const host = cluster().addHost();
  await cluster().stopEtcd();
  const log = join(scratch.folder, 'wait.log');
  const waiting = scratch.start([program('weftctl'), '--run-dir', host.runDir, 'status', '--wait'], {
    namespace: host.namespace,
    logFile: log,
  });
  await waitFor('the first reason', () =>
    /waiting: Cannot ask weftd on .*: it is not running/.test(readFileSync(log, 'utf8')),
  );
  host.startWeftd();
  await waitFor('the second reason', () =>
    /waiting: .*etcd/.test(readFileSync(log, 'utf8').split('\n').slice(1).join('\n')),
  );
  const { status, stdout, stderr } = host.weftctl('status', '--wait', '--timeout', '1');
  assert.is(status, 1);
  assert.is(stdout, '');
  assert.match(stderr, /weftctl: This host is not ready after 1 s: /);
  assert.ok(waiting.alive);
  await cluster().startEtcd();
  assert.is(await waiting.exited, 0);
  assert.match(readFileSync(log, 'utf8'), new RegExp(`^${host.name} +running`, 'm'));
  // It comes at once where there is nothing to wait for.
  assert.is(prints(host, 'status', '--wait').includes('running'), true);
  await host.weftd!.stop('SIGTERM');
});

test.run();
