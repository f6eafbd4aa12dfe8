/** Every file of examples/ works. */

import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { Cluster } from '../lab/cluster.ts';
import { execute, findProgram, lookForProgram, run } from '../lab/commands.ts';
import { type Conflist, Network, readConflist } from '../lab/conflist.ts';
import type { Host } from '../lab/host.ts';
import { readLinks } from '../lab/kernel-state.ts';
import { askEcho, startEcho } from '../lab/packets.ts';
import { pluginFolder } from '../lab/plugin.ts';
import { exampleConfig, root } from '../lab/project.ts';
import { fixture } from '../support/fixture.ts';

const test = suite('examples');
const folder = join(root, 'examples');
const unit = readFileSync(join(folder, 'weftd.service'), 'utf8');
const setting = (name: string): string => new RegExp(`^${name}=(.*)$`, 'm').exec(unit)?.[1] ?? '';

/** The capabilities that the unit file leaves, as setpriv's words. */
const capabilities = setting('CapabilityBoundingSet')
  .split(' ')
  .map((name) => `+${name.replace('CAP_', '').toLowerCase()}`);

const cluster = fixture(
  test,
  async () => {
    const made = new Cluster('examples');
    await made.startEtcd();
    for (let i = 0; i < 2; i++) {
      const host = made.addHost();
      const through = ['setpriv', `--bounding-set=-all,${capabilities.join()}`, '--no-new-privs', '--'];
      host.startWeftdWith({ through });
    }
    return made;
  },
  (made) => made.remove(),
);

test('weftctl accepts network-config.json, and weftd runs with only the unit file’s capabilities', async () => {
  const [one, two] = cluster().hosts as [Host, Host];
  const { status, stderr } = one.weftctl(
    '--etcd-endpoints',
    'http://192.168.77.1:2379',
    'config',
    'set',
    exampleConfig,
  );
  assert.is(status, 0, stderr);
  await one.reaches([two]);
  await two.reaches([one]);
  const granted = /CapBnd:\s*(\w+)/.exec(readFileSync(`/proc/${one.weftd!.pid}/status`, 'utf8'))?.[1];
  assert.is(BigInt(`0x${granted}`), (1n << 12n) | (1n << 13n), 'CAP_NET_ADMIN, CAP_NET_RAW and no other');
});

test('systemd accepts weftd.service, and the program that it starts exists', () => {
  const systemd = lookForProgram('systemd-analyze');
  const file = join(cluster().scratch.folder, 'weftd.service');
  writeFileSync(file, unit.replace('/usr/local/bin/weftd', join(root, 'dist/bin/weftd')));
  if (systemd) {
    const { stdout, stderr } = execute([systemd, 'verify', '--recursive-errors=no', file]);
    assert.is(
      `${stdout}${stderr}`
        .split('\n')
        .filter((line) => line.includes('weftd.service'))
        .join('\n'),
      '',
    );
  }
  for (const line of unit.split('\n')) assert.match(line, /^(#.*|\[\w+\]|[A-Z]\w+=\S.*|)$/);
  assert.match(run([join(root, 'dist/bin/weftd'), '--help']), /--etcd-endpoints/);
  const words = setting('ExecStart').split(' ');
  assert.equal(words, ['/usr/local/bin/weftd']);
});

test('10-weft-portmap.conflist: a host port leads to a container', async () => {
  const [one, two] = cluster().hosts as [Host, Host];
  const example = readConflist(join(folder, '10-weft-portmap.conflist'));
  const conflist: Conflist = { ...example, plugins: [one.conflist.plugins[0]!, ...example.plugins.slice(1)] };
  const cacheFolder = join(one.folder, 'cni-cache');
  const network = new Network(conflist, { namespace: one.namespace, cacheFolder, folders: ['/usr/lib/cni'] });
  const [pod] = one.addPods(1);
  const attachment = {
    ...pod!.attachment,
    runtimeConfig: { portMappings: [{ hostPort: 8080, containerPort: 7007, protocol: 'tcp' }] },
  };
  // No CHECK: portmap 1.1.1's own looks for rules of IPv6 where there is no IPv6.
  const result = network.add(attachment);
  await startEcho(cluster().scratch, pod!.namespace);
  assert.is(await askEcho(two.namespace, 'tcp', `${one.address}`, 'by the host', 8080), 'by the host');
  assert.ok(result.ips?.[0]);
  network.delete(attachment);
  assert.equal(readLinks(pod!.namespace), []);
});

test('cnitool.sh runs to its end and leaves no namespace', () => {
  const [one] = cluster().hosts as [Host];
  const configurations = join(one.folder, 'net.d');
  mkdirSync(configurations, { recursive: true });
  writeFileSync(join(configurations, '10-weft.conflist'), JSON.stringify(one.conflist));
  const name = `${cluster().scratch.prefix}-session`;
  const environment = {
    PATH: `${dirname(findProgram('cnitool'))}:${process.env['PATH'] ?? ''}`,
    CNI_PATH: pluginFolder,
    NETCONFPATH: configurations,
    NAME: name,
  };
  const { status, stdout, stderr } = execute([join(folder, 'cnitool.sh')], { namespace: one.namespace, environment });
  assert.is(status, 0, stdout + stderr);
  assert.match(stdout, /inet 10\.244\./);
  assert.match(stdout, /default via 10\.244\./);
  assert.not(readdirSync('/run/netns').includes(name));
});

test('the demo runs, prints at most a hundred columns, and leaves nothing', () => {
  const before = readdirSync('/run/netns').filter((name) => name.startsWith('weft-demo'));
  // Somebody's own demo is not this test's to remove.
  if (before.length > 0) return;
  const { status, stdout, stderr } = execute(['node', join(folder, 'demo.mjs')], { timeoutMs: 300_000 });
  assert.is(status, 0, stdout + stderr);
  const long = stdout.split('\n').filter((line) => line.length > 100);
  assert.equal(long, []);
  for (const word of ['host3-b', 'Gbit/s', 'same MAC', 'reaches 6 of 6', '═══', 'Nothing of it is left']) {
    assert.ok(stdout.includes(word), `"${word}" in ${stdout}`);
  }
  assert.not(stdout.includes('\u001b'), 'no colours where nobody looks');
  assert.equal(
    readdirSync('/run/netns').filter((name) => name.startsWith('weft-demo')),
    [],
  );
});

test.run();
