/** Hosts as folders: where their runtimes look for plugins and networks, and what a runtime tells. */

import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { formatConflist } from '../../../../cli/install/conflist.ts';
import { formatDockerDropIn } from '../../../../cli/install/docker.ts';
import { findPlugin, isDockerHost, knownFolders, osName } from '../../../../cli/install/host-facts.ts';
import { Root } from '../../../../cli/install/rooted.ts';
import { foldersOfInfo, networksOfInfo } from '../../../../cli/install/runtime.ts';

const test = suite('cli/install/host-facts');
let folder = '';
test.before.each(() => {
  folder = mkdtempSync(join(tmpdir(), 'weft-host-'));
});
test.after.each(() => rmSync(folder, { recursive: true, force: true }));

function write(files: Record<string, string>): Root {
  for (const [path, text] of Object.entries(files)) {
    mkdirSync(dirname(join(folder, path)), { recursive: true });
    writeFileSync(join(folder, path), text);
  }
  return new Root(folder);
}
const foldersOf = (files: Record<string, string>): string => {
  const { plugins, networks } = knownFolders(write(files));
  return `${plugins} ${networks}`;
};

test('Ubuntu: containerd.io with its own folder of plugins', () => {
  const root = write({
    'etc/os-release': 'NAME="Ubuntu"\nPRETTY_NAME="Ubuntu 24.04.1 LTS"\n',
    'opt/cni/bin/bridge': '',
  });
  assert.is(osName(root), 'Ubuntu 24.04.1 LTS');
  assert.is(foldersOf({}), '/opt/cni/bin /etc/cni/net.d');
});

test('Debian: the folder with plugins in it', () => {
  assert.is(foldersOf({ 'opt/cni/bin/weave-net': '', 'usr/lib/cni/loopback': '' }), '/usr/lib/cni /etc/cni/net.d');
});

test('RHEL and Fedora: /usr/libexec/cni, and os-release below /usr/lib', () => {
  const root = write({ 'usr/lib/os-release': "PRETTY_NAME='Fedora Linux 41'\n", 'usr/libexec/cni/bridge': '' });
  assert.is(osName(root), 'Fedora Linux 41');
  assert.is(foldersOf({}), '/usr/libexec/cni /etc/cni/net.d');
});

test('Arch Linux: /usr/lib/cni, also behind a link', () => {
  const root = write({ 'usr/lib/cni/bridge': '' });
  mkdirSync(join(folder, 'opt/cni'), { recursive: true });
  symlinkSync('/usr/lib/cni', join(folder, 'opt/cni/bin'));
  assert.is(knownFolders(root).plugins, '/usr/lib/cni');
});

test('k3s: its own folders; a link to its one program is no portmap to copy', () => {
  const files = { 'var/lib/rancher/k3s/data/current/bin/cni': '', 'opt/cni/bin/bridge': '' };
  assert.is(foldersOf(files), '/var/lib/rancher/k3s/data/current/bin /var/lib/rancher/k3s/agent/etc/cni/net.d');
  symlinkSync('cni', join(folder, 'var/lib/rancher/k3s/data/current/bin/portmap'));
  assert.is(findPlugin(new Root(folder), 'portmap', ''), undefined);
});

test('Nomad: its folder of networks, and what its configuration says', () => {
  assert.is(foldersOf({ 'etc/nomad.d/nomad.hcl': 'data_dir = "/opt/nomad"\n' }), '/opt/cni/bin /opt/cni/config');
  const hcl = 'client {\n  cni_path = "/srv/cni:/opt/cni/bin"\n  cni_config_dir = "/srv/conf"\n}\n';
  assert.is(foldersOf({ 'etc/nomad.d/client.hcl': hcl }), '/srv/cni /srv/conf');
});

test("containerd's configuration names its folders", () => {
  const toml = '[plugins."io.containerd.grpc.v1.cri".cni]\n  bin_dir = "/srv/bin"\n  conf_dir = "/srv/net.d"\n';
  assert.is(foldersOf({ 'etc/containerd/config.toml': toml }), '/srv/bin /srv/net.d');
  const second = "  bin_dirs = ['/srv/two']\n  conf_dir = '/srv/net.two'\n";
  assert.is(foldersOf({ 'etc/containerd/config.toml': second }), '/srv/two /srv/net.two');
});

test('a host with Docker alone is a Docker host', () => {
  const docker = { 'lib/systemd/system/docker.service': '[Service]\n' };
  assert.ok(isDockerHost(write(docker)));
  assert.not(isDockerHost(write({ 'usr/bin/podman': '' })));
});

test("Docker's unit keeps its command", () => {
  const dropIn = formatDockerDropIn('[Service]\nExecStart=\nExecStart=/usr/bin/dockerd \\\n  -H fd://\n', '/opt/bin');
  assert.match(dropIn, /\nExecStart=\nExecStart=\/usr\/bin\/dockerd +-H fd:\/\/ \$DOCKER_OPT_BIP \$DOCKER_OPT_IPMASQ /);
  assert.throws(() => formatDockerDropIn('[Service]\nExecStart=dockerd\n', '/x'), /no ExecStart that names a program/);
});

test('the runtime tells its folders in several forms', () => {
  const info = (config: object, cniconfig: object = {}): ReadonlyMap<string, string> =>
    new Map([
      ['config', JSON.stringify(config)],
      ['cniconfig', JSON.stringify(cniconfig)],
    ]);
  const both = { plugins: '/a', networks: '/b' };
  assert.equal(foldersOfInfo(info({ cni: { binDir: '/a', confDir: '/b' } })), both);
  assert.equal(foldersOfInfo(info({ cni: { binDirs: ['/a', '/c'], binDir: '', confDir: '/b' } })), both);
  assert.equal(foldersOfInfo(info({}, { PluginDirs: ['/a'], PluginConfDir: '/b' })), both);
  for (const config of [
    {},
    { cni: null },
    { cni: { binDir: 7, confDir: ['x'] } },
    { cni: { binDirs: ['a/b', '/a\n'] } },
  ]) {
    assert.equal(foldersOfInfo(info(config)), {});
  }
  assert.equal(foldersOfInfo(new Map([['config', '{']])), {});
  assert.equal(networksOfInfo(info({}, { Networks: [{ Config: { Name: 'weft' } }, null, {}] })), ['weft']);
  assert.is(networksOfInfo(info({})), undefined);
});

test('the configuration keeps the name, the version and the chain of the network before it', () => {
  const before = JSON.stringify({
    cniVersion: '1.1.0',
    name: 'cbr0',
    plugins: [{ type: 'flannel' }, { type: 'portmap', snat: false }, { type: 'tuning' }, { type: 'cilium-cni' }],
  });
  const has = (type: string): boolean => type !== 'tuning';
  assert.equal(JSON.parse(formatConflist(before, has)), {
    cniVersion: '1.1.0',
    name: 'cbr0',
    plugins: [
      { type: 'weft', ipam: { type: 'weft-ipam' } },
      { type: 'portmap', snat: false },
    ],
  });
  assert.equal(JSON.parse(formatConflist('{', () => false)), {
    cniVersion: '1.0.0',
    name: 'weft',
    plugins: [{ type: 'weft', ipam: { type: 'weft-ipam' } }],
  });
});

test.run();
