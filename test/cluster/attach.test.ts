/** `weftctl attach`, `detach` and `attachments`: one more interface for a running container. */

import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { executeAsync } from '../lab/commands.ts';
import { type Contained, PluginHost } from '../lab/plugin-host.ts';
import { program, root } from '../lab/project.ts';
import { Scratch } from '../lab/scratch.ts';
import { fixture } from '../support/fixture.ts';

const test = suite('attach');

const shared = fixture(
  test,
  () => {
    const scratch = new Scratch('attach');
    const host = new PluginHost(scratch, 'h');
    host.writeNetwork('lan', '10.77.1.0/24');
    host.writeNetwork('other', '10.77.2.0/24', { cniVersion: '0.3.1' });
    host.writeNetwork('broken', '10.77.3.0/24', { further: [{ type: 'no-such-plugin' }] });
    return { scratch, host };
  },
  ({ scratch }) => scratch.remove(),
);

function says(words: readonly string[], environment: Record<string, string> = {}): string {
  const { status, stdout, stderr } = shared().host.weftctl(words, environment);
  assert.is(status, 0, `${words.join(' ')}: ${stdout}${stderr}`);
  assert.is(stderr, '');
  return stdout;
}

function refuses(words: readonly string[], pattern: RegExp, environment: Record<string, string> = {}): void {
  const { status, stdout, stderr } = shared().host.weftctl(words, environment);
  assert.ok(status === 1 || status === 2, `${words.join(' ')}: ${status} ${stdout}`);
  assert.is(stdout, '');
  assert.match(stderr, pattern);
  assert.not.match(stderr, /^\s+at |this should not have happened/m);
}

interface Listed {
  readonly attachments: readonly Record<string, unknown>[];
}

const listed = (...words: string[]): Listed['attachments'] =>
  (JSON.parse(says(['attachments', '--json', ...words])) as Listed).attachments;

function reservations(network: string): string[] {
  const folder = join(shared().host.dataDir, network);
  return existsSync(folder) ? readdirSync(folder).filter((name) => /^[0-9]/.test(name)) : [];
}

const cached = (): string[] => readdirSync(join(shared().host.cacheDir, 'results')).sort();

/** Nothing of the network is left. */
function assertClean(network: string): void {
  assert.equal(reservations(network), []);
  assert.equal(
    cached().filter((name) => name.startsWith(`${network}-`)),
    [],
  );
}

test('a process gets an interface with the address, MAC and name that were asked for', async () => {
  const { host } = shared();
  const one = await host.startContained();
  const wish = ['--ip', '10.77.1.9', '--mac', '02:00:00:00:77:09', '--name', 'data0'];
  const said = says(['attach', String(one.pid), 'lan', ...wish]);
  assert.is(said, `${one.pid} has data0 with 10.77.1.9 in the network "lan".\n`);
  assert.equal(host.addressesIn(one.namespace, 'data0'), ['10.77.1.9']);
  assert.match(host.execute(['ip', '-n', one.namespace, 'link', 'show', 'data0']).stdout, /02:00:00:00:77:09/);
  assert.is(host.execute(['ping', '-c1', '-W5', '10.77.1.9']).status, 0, 'the host reaches it');
  assert.match(says(['attachments', '--check']), new RegExp(`process ${one.pid} +pid +data0 +10.77.1.9 +lan .* up`));
  // `status` shows it, too, among the containers.
  const status = host.execute([program('weftctl'), '--run-dir', host.runDir, 'status', '--data-dir', host.dataDir]);
  assert.match(status.stdout, /10\.77\.1\.9 +pid-.* +data0 /);
  assert.is(says(['detach', String(one.pid), 'lan']), `data0 of ${one.pid} is removed from the network "lan".\n`);
  assert.equal(host.addressesIn(one.namespace, 'data0'), []);
  assertClean('lan');
  await host.end(one);
});

test('the result is kept as libcni keeps it', async () => {
  const { host } = shared();
  const one = await host.startContained();
  says(['attach', `pid:${one.pid}`, 'lan']);
  const [name] = cached().filter((each) => each.startsWith('lan-'));
  const entry = JSON.parse(readFileSync(join(host.cacheDir, 'results', name!), 'utf8')) as Record<string, unknown>;
  assert.is(name, `lan-${entry['containerId']}-eth1`);
  const { kind, ifName, networkName, netns, cniArgs, config } = entry;
  assert.equal([kind, ifName, networkName, netns], ['cniCacheV1', 'eth1', 'lan', `/proc/${one.pid}/ns/net`]);
  assert.equal(cniArgs, [['IgnoreUnknown', '1']]);
  const list = readFileSync(join(host.confDir, '10-lan.conflist'), 'utf8');
  assert.is(Buffer.from(config as string, 'base64').toString(), list);
  assert.is((entry['result'] as { cniVersion: string }).cniVersion, '1.0.0');
  says(['detach', String(one.pid), 'lan']);
  await host.end(one);
});

test('several networks, several interfaces: the default route that was first stays in force', async () => {
  const { host } = shared();
  const one = await host.startContained();
  says(['attach', String(one.pid), 'lan']);
  says(['attach', String(one.pid), 'other']);
  says(['attach', String(one.pid), 'other']);
  const route = host.execute(['ip', '-n', one.namespace, 'route', 'get', '192.0.2.1']).stdout;
  assert.match(says(['attachments', '--check']), /^process .* eth1 .* up$/m);
  assert.match(route, /via 10\.77\.1\.1 dev eth1/);
  assert.equal(
    listed().map((each) => [each['network'], each['interface'], each['state']]),
    [
      ['lan', 'eth1', 'up'],
      ['other', 'eth2', 'up'],
      ['other', 'eth3', 'up'],
    ],
  );
  refuses(
    ['detach', String(one.pid), 'other'],
    /several interfaces in "other": say which by --name\n.*"eth2".*\n.*"eth3"/,
  );
  for (const [network, name] of [
    ['lan', 'eth1'],
    ['other', 'eth2'],
    ['other', 'eth3'],
  ] as const) {
    says(['detach', String(one.pid), network, '--name', name]);
  }
  for (const network of ['lan', 'other']) assertClean(network);
  await host.end(one);
});

test('sixteen at once for one process: different names, different addresses', async () => {
  const { host } = shared();
  const one = await host.startContained();
  const words = ['--conf-dir', host.confDir, '--cache-dir', host.cacheDir, '--bin-dir', join(root, 'dist/bin')];
  const argv = [program('weftctl'), 'attach', String(one.pid), 'lan', ...words];
  const ended = await Promise.all(Array.from({ length: 16 }, () => executeAsync(argv, { namespace: host.namespace })));
  assert.equal(
    ended.map(({ status, stderr }) => [status, stderr]),
    Array(16).fill([0, '']),
  );
  const all = listed();
  assert.is(new Set(all.map((each) => each['interface'])).size, 16);
  assert.is(new Set(all.flatMap((each) => each['addresses'])).size, 16);
  for (const each of all) says(['detach', String(one.pid), 'lan', '--name', String(each['interface'])]);
  assertClean('lan');
  await host.end(one);
});

test('an ended process leaves a record that says so, and detach frees it', async () => {
  const { host } = shared();
  const one = await host.startContained();
  says(['attach', String(one.pid), 'lan']);
  await host.end(one);
  assert.equal(
    listed().map((each) => each['state']),
    ['ended'],
  );
  assert.match(says(['attachments']), /container ended; "weftctl gc" frees it/);
  says(['detach', String(one.pid), 'lan']);
  assertClean('lan');
});

/** Answers as Docker does. A container is a name with its process. */
async function withDocker(containers: Record<string, number>, work: (host: string) => Promise<void>): Promise<void> {
  const path = join(shared().host.folder, 'docker.sock');
  const server: Server = createServer((request, response) => {
    const [, name = ''] = /^\/containers\/([^/]+)\/json$/.exec(request.url ?? '') ?? [];
    const pid = containers[name];
    response.statusCode = pid === undefined ? 404 : 200;
    const state = { Running: pid !== 0, Pid: pid };
    response.end(
      JSON.stringify(
        pid === undefined ? { message: 'No such container' } : { Id: idOf(name), Name: `/${name}`, State: state },
      ),
    );
  });
  await new Promise<void>((resolve) => server.listen(path, resolve));
  try {
    await work(`unix://${path}`);
  } finally {
    server.close();
  }
}

const idOf = (name: string): string => Buffer.from(name).toString('hex').padEnd(64, '0');

/** As `says`, while a server of this process answers. */
async function saysMeanwhile(words: readonly string[], environment: Record<string, string>): Promise<string> {
  const { host } = shared();
  const [verb, ...others] = words;
  const folders = ['--conf-dir', host.confDir, '--cache-dir', host.cacheDir, '--bin-dir', join(root, 'dist/bin')];
  const { stdout, stderr } = await executeAsync([program('weftctl'), verb!, ...folders, ...others], {
    namespace: host.namespace,
    environment: { PATH: process.env['PATH'] ?? '', CONTAINER_HOST: 'unix:///nonexistent', ...environment },
  });
  return stdout + stderr;
}

test("Docker knows a container's process; after a restart the old address is freed by the next attach", async () => {
  const { host } = shared();
  let one: Contained = await host.startContained();
  await withDocker({ web: one.pid }, async (docker) => {
    const said = await saysMeanwhile(['attach', 'docker:web', 'lan', '--ip', '10.77.1.40'], { DOCKER_HOST: docker });
    assert.is(said, 'docker:web has eth1 with 10.77.1.40 in the network "lan".\n');
  });
  assert.match(says(['attachments']), /^web +docker +eth1 +10\.77\.1\.40 +lan .* up$/m);
  await host.end(one);
  one = await host.startContained();
  await withDocker({ web: one.pid, stopped: 0 }, async (docker) => {
    const environment = { DOCKER_HOST: docker };
    // The same address again proves that the former run's was freed.
    const said = await saysMeanwhile(['attach', 'docker:web', 'lan', '--ip', '10.77.1.40'], environment);
    assert.is(said, 'docker:web has eth1 with 10.77.1.40 in the network "lan".\n');
    assert.is(
      await saysMeanwhile(['attach', 'docker:stopped', 'lan'], environment),
      'weftctl: The container "docker:stopped" is not running: only a running container has interfaces\n',
    );
    assert.match(
      await saysMeanwhile(['attach', 'docker:gone', 'lan'], environment),
      /There is no container "gone"; asked: Docker/,
    );
  });
  assert.is(listed().length, 1);
  says(['detach', 'web', 'lan']);
  assertClean('lan');
  await host.end(one);
});

test('a chain that fails leaves nothing behind, and says why', async () => {
  const { host } = shared();
  const one = await host.startContained();
  refuses(
    ['attach', String(one.pid), 'broken'],
    /There is no plugin "no-such-plugin" in ".*dist\/bin"; name its folder by --bin-dir/,
  );
  assert.equal(reservations('broken'), []);
  assert.not(host.execute(['ip', '-n', one.namespace, 'link', 'show', 'eth1']).status === 0);
  says(['attach', String(one.pid), 'lan', '--ip', '10.77.1.7']);
  const two = await host.startContained();
  refuses(['attach', String(two.pid), 'lan', '--ip', '10.77.1.7'], /The plugin "weft" refuses ADD: .*10\.77\.1\.7/);
  assert.equal(host.addressesIn(one.namespace, 'eth1'), ['10.77.1.7']);
  refuses(
    ['attach', String(one.pid), 'lan', '--name', 'eth1'],
    /already has an interface "eth1": choose another by --name/,
  );
  assert.equal(host.addressesIn(one.namespace, 'eth1'), ['10.77.1.7']);
  says(['detach', String(one.pid), 'lan']);
  await host.end(one);
  await host.end(two);
});

test('wrong words are refused with what to do', async () => {
  const { host } = shared();
  const one = await host.startContained();
  const pid = String(one.pid);
  const nowhere = {
    DOCKER_HOST: 'unix:///nonexistent',
    CONTAINER_HOST: 'unix:///nonexistent',
    CONTAINER_RUNTIME_ENDPOINT: 'unix:///nonexistent',
  };
  for (const [words, pattern] of [
    [['attach'], /"attach" needs a container/],
    [['attach', pid, 'lan', '--ip', '10.1.2'], /"10\.1\.2" \(--ip\) is not an IP address/],
    [['attach', pid, 'lan', '--mac', '01:00:00:00:00:01'], /\(--mac\) is not an interface's MAC/],
    [['attach', pid, 'lan', '--name', 'a/b'], /\(--name\) holds a slash/],
    [['attach', pid, 'nowhere'], /There is no network "nowhere" in ".*net\.d"; there are "broken", "lan", "other"/],
    [['attach', '4194304', 'lan'], /There is no process "4194304"/],
    [['attach', 'pid:x', 'lan'], /There is no process "x"/],
    [['attach', '../../etc', 'lan'], /neither a process's number nor a container's name/],
    [['attach', 'a\u001b[31m', 'lan'], /neither a process's number/],
    [['attach', 'web', 'lan'], /Cannot ask Docker on "\/nonexistent": nobody listens there/],
    [['detach', pid, 'lan'], /Nothing of ".*" is attached to "lan"; see "weftctl attachments"/],
    [['attachments', 'x'], /Unexpected argument "x"/],
  ] as const) {
    refuses(words, pattern, nowhere);
  }
  await host.end(one);
});

test("a process of the host's own network is refused", async () => {
  const { host } = shared();
  const own = await host.startIn(host.namespace);
  refuses(['attach', String(own.pid), 'lan'], /uses the host's own network: there is nothing to attach/);
  await own.service.stop('SIGKILL');
});

test.run();
