/** `weftctl gc` frees what is proven dead, and nothing else. */

import { chmodSync, existsSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { executeAsync } from '../lab/commands.ts';
import { namespacePath } from '../lab/namespaces.ts';
import { callPlugin } from '../lab/plugin.ts';
import { PluginHost } from '../lab/plugin-host.ts';
import { program, root } from '../lab/project.ts';
import { Scratch } from '../lab/scratch.ts';
import { fixture } from '../support/fixture.ts';

const test = suite('gc');
const plugins = join(root, 'dist/bin');

const shared = fixture(
  test,
  () => {
    const scratch = new Scratch('gc');
    const host = new PluginHost(scratch, 'h');
    host.writeNetwork('lan', '10.78.1.0/24');
    const further = scratch.makeFolder('h', 'bin');
    // It passes the result on at ADD, and fails at DEL.
    const failing = `#!/bin/sh\n[ "$CNI_COMMAND" = ADD ] || { echo '{"code":99,"msg":"never"}'; exit 1; }\nsed 's/.*"prevResult"://; s/}$//'\n`;
    writeFileSync(join(further, 'failing'), failing);
    chmodSync(join(further, 'failing'), 0o755);
    host.writeNetwork('stubborn', '10.78.2.0/24', { further: [{ type: 'failing' }] });
    return { scratch, host, path: `${plugins}:${further}` };
  },
  ({ scratch }) => scratch.remove(),
);

interface Outcome {
  readonly living: number;
  readonly attachments: readonly { containerId: string; action: string; reason: string; addresses: string[] }[];
}

const noRuntime = ['--without', 'docker', '--without', 'podman', '--without', 'cri'];

function collect(words: readonly string[] = noRuntime, status = 0): Outcome {
  const { host, path } = shared();
  const ended = host.weftctl(['gc', '--json', '--grace', '0', '--bin-dir', path, '--data-dir', host.dataDir, ...words]);
  assert.is(ended.status, status, ended.stderr + ended.stdout);
  return JSON.parse(ended.stdout) as Outcome;
}

function attach(pid: number, network = 'lan'): void {
  const { host, path } = shared();
  const { status, stderr } = host.weftctl(['attach', String(pid), network, '--bin-dir', path]);
  assert.is(status, 0, stderr);
}

function reservations(network = 'lan'): string[] {
  const folder = join(shared().host.dataDir, network);
  return existsSync(folder) ? readdirSync(folder).filter((name) => /^[0-9]/.test(name)) : [];
}

const actions = ({ attachments }: Outcome) => attachments.map(({ containerId, action }) => [containerId, action]);

/** As a runtime that keeps no result: a container of its own namespace. */
function add(containerId: string, namespace: string): void {
  const { host } = shared();
  const ipam = { type: 'weft-ipam', dataDir: host.dataDir, ranges: [[{ subnet: '10.78.1.0/24' }]] };
  const { status, stdout } = callPlugin('weft', {
    command: 'ADD',
    containerId,
    netns: namespacePath(namespace),
    ifname: 'eth0',
    path: plugins,
    namespace: host.namespace,
    stdin: { cniVersion: '1.0.0', name: 'lan', type: 'weft', bridge: 'br-lan', runDir: host.runDir, ipam },
  });
  assert.is(status, 0, stdout);
}

test('living ones stay, an ended process is freed, and a dry run frees nothing', async () => {
  const { host } = shared();
  const [living, ended] = [await host.startContained(), await host.startContained()];
  attach(living.pid);
  attach(ended.pid);
  assert.equal(collect(), { living: 2, attachments: [] });
  await host.end(ended);
  const dry = collect([...noRuntime, '--dry-run']);
  assert.equal(
    [dry.living, dry.attachments.map(({ action, reason }) => [action, reason])],
    [1, [['would free', 'its process has ended']]],
  );
  assert.is(reservations().length, 2);
  assert.equal(
    collect().attachments.map(({ action }) => action),
    ['freed'],
  );
  assert.is(reservations().length, 1);
  assert.is(readdirSync(join(host.cacheDir, 'results')).length, 1);
  assert.equal(collect(), { living: 1, attachments: [] });
  await host.end(living);
  collect();
  assert.equal(reservations(), []);
});

test('a container that a runtime left without a DEL is freed once its namespace is gone', async () => {
  const { host, scratch } = shared();
  const namespace = scratch.addNamespace('left');
  add('left', namespace);
  assert.equal(collect(), { living: 1, attachments: [] });
  await host.endNamespace(namespace);
  const { attachments } = collect();
  assert.equal(
    attachments.map(({ action, reason }) => [action, reason]),
    [['freed', 'no namespace has it; no runtime is here']],
  );
  assert.equal(reservations(), []);
  const { stdout, stderr } = host.weftctl(['gc', ...noRuntime, '--data-dir', host.dataDir]);
  assert.equal([stdout, stderr], ['Nothing to free: 0 attachments alive.\n', '']);
});

test('an address that a namespace still has is alive, whatever became of the names', async () => {
  const { host, scratch } = shared();
  const namespace = scratch.addNamespace('renamed');
  add('renamed', namespace);
  // As after a move by hand: another pair carries the address.
  for (const veth of host.veths()) host.ip('link', 'del', veth);
  const link = ['ip', '-n', namespace, 'link', 'add', 'mine', 'type', 'veth', 'peer', 'name', 'yours'];
  host.execute(link);
  const [address] = reservations();
  host.execute(['ip', '-n', namespace, 'addr', 'add', `${address}/24`, 'dev', 'mine']);
  assert.equal(collect(), { living: 1, attachments: [] });
  await host.endNamespace(namespace);
  assert.equal(actions(collect()), [['renamed', 'freed']]);
});

/** A server that answers Docker's list of containers. */
async function withDocker(
  ids: readonly string[] | undefined,
  work: (environment: Record<string, string>) => Promise<void>,
) {
  const path = join(shared().host.folder, 'docker.sock');
  rmSync(path, { force: true });
  const server: Server = createServer((_, response) => {
    response.statusCode = ids ? 200 : 500;
    response.end(JSON.stringify(ids ? ids.map((Id) => ({ Id, Names: ['/web'] })) : { message: 'ill' }));
  });
  await new Promise<void>((resolve) => server.listen(path, resolve));
  try {
    await work({ PATH: process.env['PATH'] ?? '', DOCKER_HOST: `unix://${path}` });
  } finally {
    server.close();
  }
}

async function collectBeside(environment: Record<string, string>): Promise<Outcome> {
  const { host, path } = shared();
  const folders = [
    '--conf-dir',
    host.confDir,
    '--cache-dir',
    host.cacheDir,
    '--bin-dir',
    path,
    '--data-dir',
    host.dataDir,
  ];
  const argv = [
    program('weftctl'),
    'gc',
    '--json',
    '--grace',
    '0',
    ...folders,
    '--without',
    'podman',
    '--without',
    'cri',
  ];
  const { stdout, stderr } = await executeAsync(argv, { namespace: host.namespace, environment });
  if (stdout === '') throw new Error(stderr);
  return JSON.parse(stdout) as Outcome;
}

test('a runtime that knows the container keeps its address, and one that does not answer keeps all', async () => {
  const { host, scratch } = shared();
  const namespace = scratch.addNamespace('known');
  const id = 'ab'.repeat(32);
  add(id, namespace);
  await host.endNamespace(namespace);
  await withDocker([id], async (environment) => {
    const { attachments } = await collectBeside(environment);
    assert.is(attachments[0]?.action, 'kept');
    assert.match(attachments[0]?.reason ?? '', /^Docker knows the container/);
  });
  await withDocker(undefined, async (environment) => {
    const { attachments } = await collectBeside(environment);
    assert.is(attachments[0]?.action, 'kept');
    assert.match(
      attachments[0]?.reason ?? '',
      /^Cannot ask Docker on ".*": it answers with status 500 \(--without docker leaves it out\)$/,
    );
  });
  const gone = { PATH: process.env['PATH'] ?? '', DOCKER_HOST: 'unix:///nonexistent' };
  assert.match((await collectBeside(gone)).attachments[0]?.reason ?? '', /nobody listens there/);
  assert.is(reservations().length, 1);
  await withDocker(['cd'.repeat(32)], async (environment) => {
    const { attachments } = await collectBeside(environment);
    assert.equal(
      attachments.map(({ action, reason }) => [action, reason]),
      [['freed', 'no namespace has it; unknown to Docker']],
    );
  });
  assert.equal(reservations(), []);
});

test('a plugin that fails every DEL keeps no address, and is told', async () => {
  const { host } = shared();
  const one = await host.startContained();
  attach(one.pid, 'stubborn');
  assert.is(reservations('stubborn').length, 1);
  await host.end(one);
  const { attachments } = collect(noRuntime, 1);
  assert.equal(
    attachments.map(({ action, reason }) => [action, reason]),
    [['failed', 'The plugin "failing" refuses DEL: never']],
  );
  assert.equal(reservations('stubborn'), []);
  assert.is(readdirSync(join(host.cacheDir, 'results')).length, 1, 'the next run calls the plugin again');
});

test('wrong words are refused', () => {
  for (const [words, pattern] of [
    [['gc', '--without', 'rkt'], /"rkt" \(--without\) is none of docker, podman, cri/],
    [['gc', '--grace', '-1'], /grace/],
    [['gc', 'all'], /Unexpected argument "all"/],
  ] as const) {
    const { status, stderr } = shared().host.weftctl(words);
    assert.is(status, 2, stderr);
    assert.match(stderr, pattern);
  }
});

test.run();
