/**
 * `weftctl install` and `weftctl uninstall` on hosts with a root of their own: with containerd's layout, with Docker's, with
 * neither, and with flannel's network. Before and after, files, interfaces, rules, settings and etcd's keys are the same.
 */

import { existsSync, mkdirSync, readdirSync, rmdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { executeAsync, type Finished, run } from '../lab/commands.ts';
import { Etcd } from '../lab/etcd.ts';
import { HostRoot } from '../lab/host-root.ts';
import { ipBatch } from '../lab/namespaces.ts';
import { Scratch } from '../lab/scratch.ts';
import { Underlay } from '../lab/underlay.ts';
import { waitFor } from '../lab/wait.ts';
import { fixture } from '../support/fixture.ts';

const test = suite('install');
const config = '{"Network":"10.61.0.0/16","Backend":{"Type":"vxlan","VNI":61}}';

const lab = fixture(
  test,
  async () => {
    const scratch = new Scratch('install');
    const underlay = new Underlay(scratch);
    const etcd = new Etcd({
      scratch,
      folder: scratch.folder,
      namespace: underlay.namespace,
      endpoint: `http://${underlay.gateway}:2379`,
    });
    await etcd.start();
    etcd.ctl('put', '/coreos.com/network/config', config);
    return { scratch, underlay, etcd };
  },
  ({ scratch }) => scratch.remove(),
);

let count = 0;
async function newHost(prepare: (host: HostRoot) => void = () => undefined): Promise<HostRoot & { namespace: string }> {
  const { scratch, underlay } = lab();
  const number = ++count;
  const namespace = scratch.addNamespace(`host-${number}`);
  underlay.connect(`port-${number}`, namespace, [underlay.addressOf(4, 10 + number)]);
  const host = new HostRoot(scratch, `host-${number}`, namespace);
  host.write('etc/os-release', 'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\n');
  prepare(host);
  await host.start();
  return Object.assign(host, { namespace });
}

const keys = (): string => lab().etcd.ctl('get', '--prefix', '/', '--keys-only');
const endpoints = (): string[] => ['--etcd-endpoints', lab().etcd.endpoint];
const before = (host: HostRoot): string[] => [...host.listing(), keys()];

function succeeded({ status, stdout, stderr }: Finished): string {
  assert.is(status, 0, `${stderr}\n${stdout}`);
  return stdout;
}

const portmap = '#!/bin/sh\n';

/** The lines that only one of two listings has. */
function differences(one: readonly string[], other: readonly string[]): string[] {
  const [a, b] = [new Set(one), new Set(other)];
  return [
    ...one.filter((line) => !b.has(line)).map((line) => `- ${line}`),
    ...other.filter((line) => !a.has(line)).map((line) => `+ ${line}`),
  ];
}

/** Waits, because the kernel removes devices' settings and routes after the device. */
async function assertSame(host: HostRoot, listed: readonly string[]): Promise<void> {
  await waitFor('the host to be as it was', () => {
    const found = differences(listed, before(host));
    if (found.length > 0) throw new Error(found.join('\n'));
    return true;
  });
}

const weftConf = (host: HostRoot, path: string): Record<string, unknown> => {
  const list = JSON.parse(host.read(path)) as { cniVersion: string; name: string; plugins: Record<string, unknown>[] };
  return { cniVersion: list.cniVersion, name: list.name, ...list.plugins[0] };
};

test("with containerd's layout: installed, used, refused while a container lives, and gone", async () => {
  const pod = lab().scratch.addNamespace('pod');
  const host = await newHost((root) => {
    root.write('usr/lib/cni/portmap', portmap, 0o755);
    root.write('etc/containerd/config.toml', '[plugins]\n  bin_dir = "/usr/lib/cni"\n  conf_dir = "/etc/cni/net.d"\n');
    root.write('etc/cni/net.d/10-containerd-net.conflist', '{"name":"containerd-net","plugins":[{"type":"bridge"}]}');
  });
  const listed = before(host);
  const said = succeeded(host.weftctl('install', ...endpoints()));
  assert.match(
    said,
    /^Debian GNU\/Linux 12 \(bookworm\); plugins in \/usr\/lib\/cni, networks in \/etc\/cni\/net\.d, as /,
  );
  assert.match(said, /\netcd answers, and lets this host read and write: /);
  assert.match(said, /\nput weft, weft-ipam, flannel and loopback into \/usr\/lib\/cni /);
  assert.match(said, /\nenabled and started weftd\.service\n/);
  assert.match(said, /\nweftd is ready: containers can start\nput \/etc\/cni\/net\.d\/05-weft\.conflist\ndone; /);
  const { name, plugins } = JSON.parse(host.read('etc/cni/net.d/05-weft.conflist')) as {
    name: string;
    plugins: { type: string }[];
  };
  assert.is(name, 'weft');
  assert.equal(
    plugins.map(({ type }) => type),
    ['weft', 'portmap'],
  );
  assert.match(host.read('etc/default/weftd'), /^WEFTD_ETCD_ENDPOINTS=http.*\nWEFTD_IP_MASQ=true$/m);
  assert.is(statSync(join(host.path, 'var/lib/weft/install.json')).mode & 0o777, 0o600);

  const conf = { ...weftConf(host, 'etc/cni/net.d/05-weft.conflist'), macspoofchk: true, ipMasq: true };
  succeeded(host.plugin('/usr/lib/cni/weft', 'ADD', 'pod-1', pod, conf));
  const refused = host.weftctl('uninstall');
  assert.is(refused.status, 1);
  assert.is(
    refused.stderr,
    "weftctl: 1 container of Weft's network still live on this host; nothing was changed\n" +
      '  pod-1 (eth0 in the network "weft")\n' +
      '  stop them, or let --drain-first do it, or add --force: they lose their network then\n',
  );
  assert.match(host.weftctl('uninstall', '--drain-first').stdout, /^no runtime of this host knows pod-1\n$/);
  succeeded(host.plugin('/usr/lib/cni/weft', 'DEL', 'pod-1', pod, conf));
  const gone = succeeded(host.weftctl('uninstall'));
  assert.match(gone, /disabled and stopped weftd\.service\nremoved what weftd made; gave the lease back\n/);
  assert.match(gone, /removed the bridge cni0\n/);
  assert.match(gone, /Weft is uninstalled; the host is as it was\n$/);
  await assertSame(host, listed);
});

test("with Docker's layout: docker.service gets the subnet, no plugin is put, and all is gone again", async () => {
  const host = await newHost((root) => {
    root.write(
      'usr/lib/systemd/system/docker.service',
      '[Service]\nExecStart=/usr/sbin/dockerd -H fd:// \\\n  --containerd=/run/c.sock $DOCKER_OPTS\n',
    );
    root.write('usr/bin/dockerd', '#!/bin/sh\n', 0o755);
  });
  const listed = before(host);
  const said = succeeded(host.weftctl('install', ...endpoints()));
  assert.match(said, /; containers are Docker's own\n/);
  assert.match(said, /Docker uses this node's subnet from its next start: "systemctl restart docker"/);
  const dropIn = host.read('etc/systemd/system/docker.service.d/weft.conf');
  assert.match(
    dropIn,
    /\nExecStart=\nExecStart=\/usr\/sbin\/dockerd -H fd:\/\/ +--containerd=\/run\/c\.sock \$DOCKER_OPTS \$DOCKER_OPT_BIP /,
  );
  assert.not(existsSync(join(host.path, 'etc/cni')));
  assert.not(existsSync(join(host.path, 'opt/cni')));
  // As the drop-in does it.
  succeeded(host.execute('/usr/local/bin/weftctl', 'docker-opts', '-i', '-d', '/run/docker_opts.env'));
  assert.match(host.read('run/docker_opts.env'), /^DOCKER_OPT_BIP="--bip=10\.61\.\d+\.1\/24"$/m);
  ipBatch(host.namespace, [
    'link add docker0 type bridge',
    'link add veth1 type veth peer name eth1',
    'link set veth1 master docker0',
  ]);
  assert.match(host.weftctl('uninstall').stderr, /\n {2}Docker's behind veth1 \(eth0 in the network "docker0"\)\n/);
  ipBatch(host.namespace, ['link del veth1', 'link del docker0']);
  succeeded(host.weftctl('uninstall'));
  await assertSame(host, listed);
});

test('with neither: a second run changes nothing, and settings that were changed restart weftd and stay', async () => {
  const host = await newHost();
  const listed = before(host);
  const dry = succeeded(host.weftctl('install', ...endpoints(), '--dry-run'));
  assert.match(dry, /\nwould put \/usr\/local\/bin\/weftd .*\n[\s\S]*\nnothing was changed\n$/);
  assert.equal(differences(listed, before(host)), []);
  assert.match(succeeded(host.weftctl('install', ...endpoints())), /\nput weft, .* into \/opt\/cni\/bin /);
  const installed = host.listing();
  const again = succeeded(host.weftctl('install'));
  assert.match(again, /\nweftd\.service runs already\n/);
  assert.equal(
    differences(installed, host.listing()).filter(
      (line) => !/install\.json|\brun\/weft\/|var\/lib\/weft\/|expires|fe80/.test(line),
    ),
    [],
  );
  assert.match(
    succeeded(host.weftctl('install', '--set', 'log-level=debug', '--ip-masq=false')),
    /restarted weftd\.service/,
  );
  assert.match(host.read('etc/default/weftd'), /WEFTD_IP_MASQ=false\nWEFTD_LOG_LEVEL=debug\n$/);
  host.write('etc/default/weftd', `${host.read('etc/default/weftd')}# mine\n`);
  const gone = succeeded(host.weftctl('uninstall'));
  assert.match(gone, /\nleft \/etc\/default\/weftd: somebody has changed it\n/);
  assert.match(gone, /\nWeft is uninstalled, but for what was left\n$/);
  host.execute('rm', '-r', '/etc/default');
  await assertSame(host, listed);
});

test("flannel's network keeps its name, its file is set aside, and comes back", async () => {
  const flannel = JSON.stringify({
    name: 'cbr0',
    cniVersion: '0.3.1',
    plugins: [
      { type: 'flannel', delegate: { hairpinMode: true, isDefaultGateway: true } },
      { type: 'portmap', capabilities: { portMappings: true } },
      { type: 'bandwidth', capabilities: { bandwidth: true } },
    ],
  });
  const host = await newHost((root) => {
    root.write('opt/cni/bin/portmap', portmap, 0o755);
    root.write('opt/cni/bin/flannel', portmap, 0o755);
    root.write('etc/cni/net.d/10-flannel.conflist', flannel);
    root.write('etc/default/flanneld', `FLANNELD_ETCD_ENDPOINTS=${lab().etcd.endpoint}\n`);
  });
  const listed = before(host);
  const said = succeeded(host.weftctl('install'));
  assert.match(said, /\nleft flannel in \/opt\/cni\/bin: it is another package's; --force replaces it\n/);
  assert.match(said, /\nset \/etc\/cni\/net\.d\/10-flannel\.conflist aside as 10-flannel\.conflist\.before-weft\n/);
  assert.equal(readdirSync(join(host.path, 'etc/cni/net.d')).sort(), [
    '10-flannel.conflist.before-weft',
    '10-weft.conflist',
  ]);
  assert.equal(JSON.parse(host.read('etc/cni/net.d/10-weft.conflist')), {
    cniVersion: '0.3.1',
    name: 'cbr0',
    plugins: [
      { type: 'weft', ipam: { type: 'weft-ipam' } },
      { type: 'portmap', capabilities: { portMappings: true } },
    ],
  });
  succeeded(host.weftctl('uninstall'));
  await assertSame(host, listed);
});

test('an etcd that does not answer, or refuses, changes nothing on the host', async () => {
  const host = await newHost();
  const { etcd } = lab();
  const listed = before(host);
  const silent = host.weftctl('install', '--etcd-endpoints', 'http://127.0.0.1:9');
  assert.is(silent.status, 1);
  assert.match(silent.stderr, /^weftctl: Cannot read the network config .*127\.0\.0\.1:9.*\n$/);
  const unknown = host.weftctl('install');
  assert.match(unknown.stderr, /^weftctl: Cannot install without etcd's endpoints: give them with --etcd-endpoints /);
  etcd.ctl('user', 'add', 'root:secret');
  etcd.ctl('user', 'grant-role', 'root', 'root');
  etcd.ctl('user', 'add', 'reader:secret');
  etcd.ctl('role', 'add', 'reading');
  etcd.ctl('role', 'grant-permission', 'reading', '--prefix=true', 'read', '/coreos.com/network');
  etcd.ctl('user', 'grant-role', 'reader', 'reading');
  etcd.ctl('auth', 'enable');
  const refused = host.weftctl('install', ...endpoints(), '--etcd-username', 'reader', '--etcd-password', 'secret');
  etcd.ctl('--user', 'root:secret', 'auth', 'disable');
  assert.is(refused.status, 1, refused.stdout);
  assert.match(
    refused.stderr,
    /etcdctl role grant-permission --prefix \S+ readwrite \/coreos\.com\/network\/subnets\//,
  );
  assert.equal(differences(listed, before(host)), []);
});

test('while weftd waits, the reason is told; without a subnet no network is put in place', async () => {
  const host = await newHost();
  const { etcd } = lab();
  const prefix = ['--etcd-prefix', '/waiting'];
  const late = host.weftctl('install', ...endpoints(), ...prefix, '--timeout', '1');
  assert.is(late.status, 1);
  assert.match(late.stdout, /\netcd has no network configuration yet, and weftd waits for one: weftctl .* config set /);
  assert.match(
    late.stderr,
    /^weftctl: waiting: .*\n[\s\S]*weftctl: This host is not ready after 1 s: .*config.*\n {2}the network configuration was not put in place/,
  );
  assert.not(existsSync(join(host.path, 'etc/cni')));
  const waiting = executeAsync(host.weftctlWords('install'), { timeoutMs: 60_000 });
  etcd.ctl('put', '/waiting/config', config.replaceAll('61', '62'));
  assert.match(succeeded(await waiting), /\nput \/etc\/cni\/net\.d\/10-weft\.conflist\n/);
  succeeded(host.weftctl('uninstall'));
  etcd.ctl('del', '/waiting/config');
});

test('an installation that was killed is finished by the next, and can be undone', async () => {
  const host = await newHost((root) => root.write('opt/cni/bin/loopback', 'other', 0o755));
  const listed = before(host);
  for (let delayMs = 200; delayMs < 1000; delayMs += 300) {
    const [program, ...words] = host.weftctlWords('install', ...endpoints(), '--force');
    await executeAsync(['timeout', '-s', 'KILL', String(delayMs / 1000), program!, ...words]);
  }
  succeeded(host.weftctl('install', ...endpoints(), '--force'));
  succeeded(host.weftctl('uninstall'));
  await assertSame(host, listed);
});

test('rules of the older iptables give weftd the right that it needs for them', async () => {
  const host = await newHost();
  run(['iptables-legacy', '-A', 'FORWARD', '-s', '192.0.2.0/24', '-j', 'ACCEPT'], { namespace: host.namespace });
  const listed = before(host);
  const dropIn = 'etc/systemd/system/weftd.service.d/legacy-iptables.conf';
  assert.match(
    succeeded(host.weftctl('install', ...endpoints())),
    /\nthis host has rules of the older iptables: weftd gets /,
  );
  assert.match(host.read(dropIn), /^CapabilityBoundingSet=CAP_NET_RAW$/m);
  const left = host.weftctl('uninstall').stdout;
  assert.match(left, /\nleft net\/ipv4\/ip_forward, which was 0: rules of the older iptables may need it\n/);
  run(['sysctl', '-qw', 'net.ipv4.ip_forward=0'], { namespace: host.namespace });
  await assertSame(host, listed);
});

test('on a host with a read-only /usr, the programs go to another folder, and the unit starts them there', async () => {
  const host = await newHost();
  succeeded(host.weftctl('install', ...endpoints(), '--program-dir', '/opt/bin/', '--dry-run'));
  const listed = before(host);
  mkdirSync(join(host.path, 'usr/local'));
  host.mount('-t', 'tmpfs', '-o', 'ro', 'tmpfs', '/usr/local');
  assert.match(
    host.weftctl('install', ...endpoints()).stderr,
    /"\/usr\/local\/bin": it is on a read-only file system; name another folder\n$/,
  );
  succeeded(host.weftctl('install', ...endpoints(), '--program-dir', '/opt/bin/'));
  assert.match(host.read('etc/systemd/system/weftd.service'), /^ExecStart=\/opt\/bin\/weftd$/m);
  succeeded(host.weftctl('uninstall'));
  host.unmount('/usr/local');
  rmdirSync(join(host.path, 'usr/local'));
  await assertSame(host, listed);
});

test('without systemd, installing waits for the weftd that a person starts', async () => {
  const host = await newHost();
  host.execute('rm', '-r', '/run/systemd');
  const listed = before(host);
  const installing = executeAsync(host.weftctlWords('install', ...endpoints()));
  await waitFor('the settings', () => existsSync(join(host.path, 'etc/systemd/system/weftd.service')));
  host.execute(
    'sh',
    '-c',
    '. /etc/default/weftd; export WEFTD_ETCD_ENDPOINTS; setsid weftd > /dev/null 2>&1 < /dev/null &',
  );
  assert.match(
    succeeded(await installing),
    /\nthis host has no systemd: start [\s\S]*\nput \/etc\/cni\/net\.d\/10-weft\.conflist\n/,
  );
  succeeded(host.weftctl('uninstall'));
  await assertSame(host, listed);
});

test('settings that others may need stay, and are named', async () => {
  const host = await newHost();
  const { namespace } = host;
  succeeded(host.weftctl('install', ...endpoints()));
  ipBatch(namespace, ['link add docker0 type bridge']);
  assert.match(
    succeeded(host.weftctl('uninstall')),
    /\nleft net\/ipv4\/ip_forward, which was 0: the bridge docker0 may need it\n/,
  );
});

test('without etcd the host is left by --local alone', async () => {
  const host = await newHost();
  const listed = before(host);
  succeeded(host.weftctl('install', ...endpoints()));
  await lab().etcd.stop();
  const failed = host.weftctl('uninstall');
  const local = host.weftctl('uninstall', '--local');
  await lab().etcd.start();
  assert.is(failed.status, 1);
  assert.match(
    failed.stderr,
    /--leave" failed: .*\n {2}weftd is stopped, .* run this command again when etcd answers, or with --local/,
  );
  assert.match(succeeded(local), /^removed what weftd made; the lease ends by itself$/m);
  for (const key of ['subnets/', 'nodes/']) lab().etcd.ctl('del', '--prefix', `/coreos.com/network/${key}`);
  await assertSame(host, listed);
});

test('a record that others can write, or that is damaged, is refused', async () => {
  const host = await newHost();
  assert.match(
    host.weftctl('uninstall').stderr,
    /^weftctl: Cannot uninstall: "\/var\/lib\/weft\/install\.json" does not exist/,
  );
  const record = 'var/lib/weft/install.json';
  for (const [text, mode, why] of [
    ['{}', 0o666, 'others may write it'],
    ['{"format":1}', 0o600, 'it is damaged'],
    [
      '{"format":1,"version":"1","files":[{"path":"/a/../etc/passwd","sha256":"' + '0'.repeat(64) + '"}]}',
      0o600,
      'it is damaged',
    ],
  ] as const) {
    host.write(record, text, mode);
    const { status, stderr } = host.weftctl('uninstall');
    assert.is(status, 1);
    assert.ok(stderr.endsWith(`${why}; nothing was changed\n`), stderr);
  }
});

test.run();
