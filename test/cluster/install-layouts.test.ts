/**
 * `weftctl install` into roots that have the folders, os-release and configuration files of other distributions: Ubuntu,
 * RHEL, Arch Linux, k3s and Nomad. Nothing runs there. Afterwards `weftctl uninstall` leaves each as it was.
 */

import {
  chmodSync,
  copyFileSync,
  linkSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { run } from '../lab/commands.ts';
import { root } from '../lab/project.ts';
import { Scratch } from '../lab/scratch.ts';
import { fixture } from '../support/fixture.ts';

const test = suite('install-layouts');

/** A release, as its archive has it. */
const lab = fixture(
  test,
  () => {
    const scratch = new Scratch('install-layouts');
    for (const folder of ['bin', 'cni', 'systemd']) scratch.makeFolder('release', folder);
    const release = join(scratch.folder, 'release');
    copyFileSync(join(root, 'dist/bin/weftd'), join(release, 'bin/weftd'));
    linkSync(join(release, 'bin/weftd'), join(release, 'bin/weftctl'));
    copyFileSync(join(root, 'dist/bin/weft'), join(release, 'cni/weft'));
    copyFileSync(join(root, 'examples/weftd.service'), join(release, 'systemd/weftd.service'));
    for (const path of ['bin/weftd', 'cni/weft']) chmodSync(join(release, path), 0o755);
    return { scratch, weftctl: join(release, 'bin/weftctl') };
  },
  ({ scratch }) => scratch.remove(),
);

/** Files by their paths; a text that begins with `→ ` is a link. */
type Layout = Readonly<Record<string, string>>;

function listing(folder: string, below = ''): string[] {
  return readdirSync(join(folder, below))
    .sort()
    .flatMap((name) => {
      const path = join(below, name);
      const status = lstatSync(join(folder, path));
      const mode = (status.mode & 0o7777).toString(8);
      if (status.isDirectory()) return [`${path}/ ${mode}`, ...listing(folder, path)];
      if (status.isSymbolicLink()) return [`${path} → ${readlinkSync(join(folder, path))}`];
      return [`${path} ${mode} ${readFileSync(join(folder, path), 'latin1')}`];
    });
}

function makeImage(name: string, layout: Layout): string {
  const image = lab().scratch.makeFolder(name);
  for (const [path, text] of Object.entries(layout)) {
    mkdirSync(dirname(join(image, path)), { recursive: true });
    if (text.startsWith('→ ')) symlinkSync(text.slice(2), join(image, path));
    else writeFileSync(join(image, path), text);
  }
  return image;
}

const osRelease = (name: string): Layout => ({ 'etc/os-release': `PRETTY_NAME="${name}"\n` });

const layouts: readonly { name: string; layout: Layout; plugins: string; conflist: string; says: RegExp }[] = [
  {
    name: 'Ubuntu 24.04.1 LTS',
    layout: {
      ...osRelease('Ubuntu 24.04.1 LTS'),
      'opt/cni/bin/bridge': 'bridge',
      'opt/cni/bin/portmap': 'portmap',
      'etc/containerd/config.toml': 'disabled_plugins = []\n',
    },
    plugins: 'opt/cni/bin',
    conflist: 'etc/cni/net.d/10-weft.conflist',
    says: /\nput weft, weft-ipam, flannel and loopback into \/opt\/cni\/bin /,
  },
  {
    name: 'Red Hat Enterprise Linux 9.4 (Plow)',
    layout: {
      ...osRelease('Red Hat Enterprise Linux 9.4 (Plow)'),
      'usr/libexec/cni/loopback': 'loopback',
      'usr/libexec/cni/portmap': 'portmap',
      'etc/crio/crio.conf':
        '[crio.network]\nnetwork_dir = "/etc/cni/net.d/"\nplugin_dirs = [\n\t"/usr/libexec/cni",\n]\n',
      'etc/cni/net.d/100-crio-bridge.conflist': '{"name":"crio","plugins":[{"type":"bridge"}]}',
    },
    plugins: 'usr/libexec/cni',
    conflist: 'etc/cni/net.d/10-weft.conflist',
    says: /\nleft loopback in \/usr\/libexec\/cni: it is another package's/,
  },
  {
    name: 'Arch Linux',
    layout: { ...osRelease('Arch Linux'), 'usr/lib/cni/bridge': 'bridge', 'opt/cni/bin': '→ /usr/lib/cni' },
    plugins: 'usr/lib/cni',
    conflist: 'etc/cni/net.d/10-weft.conflist',
    says: /\nno portmap in \/usr\/lib\/cni, .* \(Arch Linux: "cni-plugins"\)/,
  },
  {
    name: 'k3s',
    layout: {
      ...osRelease('Debian GNU/Linux 12 (bookworm)'),
      'var/lib/rancher/k3s/data/4f1c/bin/cni': 'k3s',
      'var/lib/rancher/k3s/data/4f1c/bin/loopback': '→ cni',
      'var/lib/rancher/k3s/data/4f1c/bin/portmap': '→ cni',
      'var/lib/rancher/k3s/data/current': '→ 4f1c',
      'var/lib/rancher/k3s/agent/etc/cni/net.d/10-flannel.conflist':
        '{"name":"cbr0","cniVersion":"1.0.0","plugins":[{"type":"flannel"},{"type":"portmap","capabilities":{"portMappings":true}}]}',
    },
    plugins: 'var/lib/rancher/k3s/data/4f1c/bin',
    conflist: 'var/lib/rancher/k3s/agent/etc/cni/net.d/10-weft.conflist',
    says: /\nset \/var\/lib\/rancher\/k3s\/agent\/etc\/cni\/net\.d\/10-flannel\.conflist aside as /,
  },
  {
    name: 'Nomad',
    layout: {
      ...osRelease('Debian GNU/Linux 12 (bookworm)'),
      'etc/nomad.d/nomad.hcl': 'data_dir = "/opt/nomad"\nclient {\n  enabled = true\n}\n',
      'opt/cni/bin/bridge': 'bridge',
      'opt/cni/config/mynet.conflist': '{"name":"mynet","plugins":[{"type":"bridge"}]}',
    },
    plugins: 'opt/cni/bin',
    conflist: 'opt/cni/config/10-weft.conflist',
    says: /; plugins in \/opt\/cni\/bin, networks in \/opt\/cni\/config, /,
  },
];

for (const { name, layout, plugins, conflist, says } of layouts) {
  test(`${name}: the files go where its runtime looks, and all is as before after uninstalling`, () => {
    const image = makeImage(name.replace(/\W+/g, '-'), layout);
    const before = listing(image);
    const { weftctl } = lab();
    const said = run([weftctl, 'install', '--root', image, '--etcd-endpoints', 'http://192.0.2.1:2379'], {
      environment: {},
    });
    assert.match(said, says);
    assert.ok(readFileSync(join(image, plugins, 'weft')).equals(readFileSync(join(root, 'dist/bin/weft'))));
    const { name: network } = JSON.parse(readFileSync(join(image, conflist), 'utf8')) as { name: string };
    assert.is(network, name === 'k3s' ? 'cbr0' : 'weft');
    run([weftctl, 'uninstall', '--root', image], { environment: {} });
    assert.equal(listing(image), before);
  });
}

test.run();
