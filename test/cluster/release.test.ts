/** `npm run release`: the archive of this kind of machine, twice, and all that is in it. */

import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { execute, lookForProgram, run } from '../lab/commands.ts';
import { root } from '../lab/project.ts';
import { Scratch } from '../lab/scratch.ts';
import { fixture } from '../support/fixture.ts';

const test = suite('release');
const target = process.arch;
const { version, dependencies } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as {
  version: string;
  dependencies: Record<string, string>;
};
const name = `weft-${version}-linux-${target}`;
const image = `${name}-image.tar`;

/** Makes the archive. Compressing it takes a minute, and depends on the archive alone. */
function release(scratch: Scratch, label: string, prefix: readonly string[], environment: Record<string, string>) {
  const out = scratch.makeFolder(label);
  const words = [...prefix, 'node', join(root, 'release.mjs'), '--target', target, '--plain', '--out', out];
  run(words, {
    environment: { ...(process.env as Record<string, string>), ...environment },
    cwd: out,
    timeoutMs: 120_000,
  });
  return out;
}

const made = fixture(
  test,
  () => {
    const scratch = new Scratch('release');
    const out = release(scratch, 'one', [], { TZ: 'UTC' });
    run(['tar', '-xf', join(out, `${name}.tar`), '-C', out]);
    return { scratch, out, folder: join(out, name) };
  },
  ({ scratch }) => scratch.remove(),
);

const file = (...path: string[]): string => readFileSync(join(made().folder, ...path), 'utf8');
const sha256 = (path: string): string => createHash('sha256').update(readFileSync(path)).digest('hex');

test('a second run gives the same bytes, in another time zone and with another umask', () => {
  const { scratch, out } = made();
  const other = release(scratch, 'two', ['sh', '-c', 'umask 077; exec "$0" "$@"'], { TZ: 'Asia/Tokyo', LC_ALL: 'C' });
  assert.is(sha256(join(other, `${name}.tar`)), sha256(join(out, `${name}.tar`)));
  assert.is(sha256(join(other, image)), sha256(join(out, image)));
  const sums = [`${name}.tar`, image].map((each) => `${sha256(join(out, each))}  ${each}\n`);
  assert.is(readFileSync(join(out, 'SHA256SUMS'), 'utf8'), sums.join(''));
});

test('the executables have all their names, and run', () => {
  for (const [folder, names] of [
    ['bin', ['mk-docker-opts.sh', 'weftctl', 'weftd']],
    ['cni', ['flannel', 'loopback', 'weft', 'weft-ipam']],
  ] as const) {
    const path = join(made().folder, folder);
    assert.equal(readdirSync(path).sort(), names);
    const inodes = new Set(names.map((each) => statSync(join(path, each)).ino));
    assert.is(inodes.size, 1, 'hard links');
    for (const each of names) assert.is(statSync(join(path, each)).mode & 0o777, 0o755);
  }
  assert.is(run([join(made().folder, 'bin/weftd'), '--version']), `weftd ${version}\n`);
  assert.is(run([join(made().folder, 'bin/weftctl'), '--version']), `weftctl ${version}\n`);
  const { stderr } = execute([join(made().folder, 'cni/flannel')], { environment: {} });
  assert.match(stderr, new RegExp(`^CNI flannel plugin v${version}\n`));
});

test('weftctl installs the release into an image, and uninstalls it', () => {
  const image = made().scratch.makeFolder('image');
  const weftctl = join(made().folder, 'bin/weftctl');
  const said = run([weftctl, 'install', '--root', image, '--etcd-endpoints', 'http://192.0.2.1:2379'], {
    environment: {},
  });
  assert.match(said, /\nput weft, weft-ipam, flannel and loopback into \/opt\/cni\/bin /);
  for (const path of [
    ...['usr/local/bin/weftd', 'usr/local/bin/weftctl', 'opt/cni/bin/weft', 'etc/systemd/system/weftd.service'],
    ...['etc/default/weftd', 'etc/cni/net.d/10-weft.conflist', 'usr/local/share/man/man8/weftd.8'],
    ...['bash-completion/completions/weftctl', 'zsh/site-functions/_weftd', 'fish/vendor_completions.d/weftd.fish'].map(
      (each) => `usr/local/share/${each}`,
    ),
  ]) {
    assert.ok(existsSync(join(image, path)), path);
  }
  run([weftctl, 'uninstall', '--root', image], { environment: {} });
  assert.equal(readdirSync(image), []);
});

test('the files that a host needs are there, and each that a unit or a document names', () => {
  for (const path of ['systemd/weftd.service', 'systemd/docker.service.d/weft.conf', 'LICENSE', 'docs/plugins.md']) {
    assert.ok(existsSync(join(made().folder, path)), path);
  }
  for (const path of [
    'weft.yaml',
    'kustomization.yaml',
    'Dockerfile',
    'chart/Chart.yaml',
    'chart/templates/weft.yaml',
  ]) {
    assert.ok(existsSync(join(made().folder, 'kubernetes', path)), path);
  }
  for (const path of readdirSync(join(made().folder, 'examples'))) {
    assert.type(JSON.parse(file('examples', path)), 'object');
  }
});

test('the manual pages have every option and verb, and groff finds no fault', () => {
  const help = run([join(made().folder, 'bin/weftd'), '--help']);
  const options = [...help.matchAll(/^ {2}(--[a-z0-9-]+)/gm)].map(([, option]) => option!);
  const page = file('man/man8/weftd.8').replaceAll('\\-', '-');
  assert.ok(options.length > 20);
  for (const option of options) assert.ok(page.includes(`\\fB${option}\\fR`), option);
  const tool = file('man/man1/weftctl.1').replaceAll('\\-', '-');
  for (const verb of ['status', 'nodes', 'config get', 'config set', 'docker-opts'])
    assert.ok(tool.includes(`.SS ${verb}`));
  const groff = lookForProgram('groff');
  if (!groff) return;
  for (const path of ['man/man8/weftd.8', 'man/man1/weftctl.1']) {
    const { stderr } = execute([groff, '-ww', '-man', '-Tascii', join(made().folder, path)]);
    assert.is(stderr, '');
  }
});

test("bash completes verbs, options and values; the other shells' files can be read by them", () => {
  const completed = (program: string, ...words: string[]): string[] => {
    const script = `source "$0"; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _${program}; printf '%s\\n' "\${COMPREPLY[@]}"`;
    const path = join(made().folder, 'completions/bash', program);
    return run(['bash', '-c', script, path, program, ...words])
      .trim()
      .split('\n');
  };
  assert.equal(completed('weftctl', 'st'), ['status']);
  assert.equal(completed('weftctl', 'config', ''), ['get', 'set']);
  assert.equal(completed('weftctl', 'config', 'set', '--dry'), ['--dry-run']);
  assert.equal(completed('weftd', '--log-level', 'w'), ['warn']);
  assert.equal(completed('weftd', '--etcd-pre'), ['--etcd-prefix']);
  assert.equal(completed('weftd', '--run-dir', '/usr/bi'), ['/usr/bin']);
  for (const [shell, path] of [
    ['zsh', 'completions/zsh/_weftctl'],
    ['zsh', 'completions/zsh/_weftd'],
    ['fish', 'completions/fish/weftctl.fish'],
    ['fish', 'completions/fish/weftd.fish'],
  ] as const) {
    assert.ok(file(path).includes('log-level') || file(path).includes('dry-run'));
    const program = lookForProgram(shell);
    if (program) assert.is(execute([program, '-n', join(made().folder, path)]).status, 0, path);
  }
});

test('the bill of materials names the executables and all that they contain', () => {
  const bill = JSON.parse(file('sbom.spdx.json')) as {
    spdxVersion: string;
    packages: { SPDXID: string; name: string; versionInfo: string; checksums?: unknown[] }[];
    files: { fileName: string; checksums: { algorithm: string; checksumValue: string }[] }[];
  };
  assert.is(bill.spdxVersion, 'SPDX-2.3');
  const ids = bill.packages.map(({ SPDXID }) => SPDXID);
  assert.is(new Set(ids).size, ids.length);
  for (const [dependency, wanted] of Object.entries(dependencies)) {
    assert.ok(
      bill.packages.some((each) => each.name === dependency && each.versionInfo === wanted),
      dependency,
    );
  }
  for (const part of ['rquickjs', 'weft'])
    assert.ok(
      bill.packages.some(({ name: each }) => each === part),
      part,
    );
  assert.ok(bill.packages.some(({ name: each }) => each.startsWith('@oven/bun-linux')));
  for (const path of ['bin/weftd', 'cni/weft', 'man/man8/weftd.8']) {
    const listed = bill.files.find(({ fileName }) => fileName === `./${path}`);
    const sum = listed?.checksums.find(({ algorithm }) => algorithm === 'SHA256')?.checksumValue;
    assert.is(sum, sha256(join(made().folder, path)), path);
  }
});

interface Descriptor {
  readonly mediaType: string;
  readonly digest: string;
  readonly size: number;
  readonly annotations?: Record<string, string>;
}

/** The unpacked image layout, with every blob checked against its name. */
function openImage() {
  const { scratch, out } = made();
  const folder = scratch.makeFolder('image');
  run(['tar', '-xf', join(out, image), '-C', folder]);
  const blob = ({ digest, size }: Descriptor): string => {
    const path = join(folder, 'blobs', digest.replace(':', '/'));
    assert.is(`sha256:${sha256(path)}`, digest);
    assert.is(statSync(path).size, size);
    return path;
  };
  const parse = <T>(path: string): T => JSON.parse(readFileSync(path, 'utf8')) as T;
  const index = parse<{ manifests: Descriptor[] }>(join(folder, 'index.json'));
  const [first] = index.manifests;
  const manifest = parse<{ config: Descriptor; layers: Descriptor[] }>(blob(first!));
  return {
    reference: first!.annotations?.['io.containerd.image.name'],
    config: parse<{ architecture: string; rootfs: { diff_ids: string[] } }>(blob(manifest.config)),
    layer: manifest.layers[0]!,
    layerPath: blob(manifest.layers[0]!),
    docker: parse<{ Config: string; RepoTags: string[]; Layers: string[] }[]>(join(folder, 'manifest.json')),
    folder,
  };
}

test('the image is a layout of OCI, and of Docker, and the manifest for Kubernetes names it', () => {
  const { reference, config, layer, layerPath, docker, folder } = openImage();
  assert.is(reference, `localhost/weft:${version}`);
  assert.is(config.architecture, { x64: 'amd64', arm64: 'arm64' }[target as string]);
  assert.equal(config.rootfs.diff_ids, [`sha256:${sha256(layerPath)}`]);
  assert.match(layer.mediaType, /layer\.v1\.tar$/);
  assert.equal(docker[0]!.RepoTags, [reference]);
  for (const path of [docker[0]!.Config, ...docker[0]!.Layers]) assert.ok(existsSync(join(folder, path)), path);
  const manifest = readFileSync(join(root, 'examples/kubernetes/weft.yaml'), 'utf8');
  const named = [...manifest.matchAll(/image: (\S+)/g)].map(([, each]) => each);
  assert.equal(new Set(named), new Set([reference]));
});

test('the image has our programs and what they link to, and no other program; they run in it', () => {
  const { scratch } = made();
  const { layerPath } = openImage();
  const rootfs = scratch.makeFolder('rootfs');
  run(['tar', '-xpf', layerPath, '-C', rootfs]);
  const all = run(['find', '.', '-type', 'f', '-printf', '%P\\n'], { cwd: rootfs }).trim().split('\n').sort();
  const ours = all.filter((path) => path.startsWith('weft/'));
  assert.equal(ours, [
    ...['mk-docker-opts.sh', 'weftctl', 'weftd'].map((each) => `weft/bin/${each}`),
    ...['flannel', 'loopback', 'weft', 'weft-ipam'].map((each) => `weft/cni/${each}`),
  ]);
  const libraries = all.filter((path) => path.startsWith('lib'));
  for (const path of libraries)
    assert.match(
      path,
      /^lib(64)?\/([a-z0-9_]+-linux-gnu\/)?(lib(c|m|dl|pthread)\.so\.6|lib(m|dl|pthread|rt)\.so\.\d|ld-linux-.*)$/,
    );
  const documents = ['etc/nsswitch.conf', 'libc6/copyright', 'weft/LICENSE', 'weft/sbom.spdx.json'];
  const others = all.filter((path) => !ours.includes(path) && !libraries.includes(path));
  assert.equal(
    others,
    documents.map((each) => (each.startsWith('etc/') ? each : `usr/share/doc/${each}`)),
  );
  assert.is(statSync(join(rootfs, 'tmp')).mode & 0o7777, 0o1777);
  // A container has both.
  const script = 'cd "$0"; mkdir -p proc dev; mount --rbind /proc proc; mount --rbind /dev dev; exec chroot . "$@"';
  const inImage = ['unshare', '--mount', '--propagation', 'private', 'sh', '-e', '-c', script, rootfs];
  for (const each of ['weftd', 'weftctl']) {
    assert.is(run([...inImage, `/weft/bin/${each}`, '--version']), `${each} ${version}\n`);
  }
  const { stderr } = execute([...inImage, '/weft/cni/flannel'], { environment: { PATH: process.env['PATH']! } });
  assert.match(stderr, new RegExp(`^CNI flannel plugin v${version}\n`));
  const bill = readFileSync(join(rootfs, 'usr/share/doc/weft/sbom.spdx.json'), 'utf8');
  assert.match(bill, /pkg:deb\/debian\/libc6@[^"]+\?arch=/);
  assert.match(bill, /"licenseDeclared": "LGPL-2.1-or-later"/);

  // The Dockerfile's only command makes the same files.
  const dockerfile = readFileSync(join(root, 'examples/kubernetes/Dockerfile'), 'utf8');
  const [, command] = /^RUN ((?:.*\\\n)*.*)$/m.exec(dockerfile)!;
  const copied = scratch.makeFolder('docker');
  for (const [, from, to] of dockerfile.matchAll(/^COPY (?!--)(\S+) \/image\/(\S+)$/gm)) {
    run(['install', '-D', join(made().folder, from!), join(copied, to!)]);
  }
  run(['sh', '-c', command!.replaceAll('\\\n', '').replaceAll('/image', copied)]);
  const same = run(['find', '.', '-type', 'f', '-printf', '%P\\n'], { cwd: copied }).trim().split('\n').sort();
  assert.equal(
    same,
    all.filter((path) => !path.endsWith('sbom.spdx.json')),
  );
  for (const path of libraries) assert.is(sha256(join(copied, path)), sha256(join(rootfs, path)), path);
});

test('a kind of machine that there is not is refused with the kinds that there are', () => {
  const { status, stderr } = execute(['node', join(root, 'release.mjs'), '--target', 'riscv64']);
  assert.is(status, 1);
  assert.is(stderr, 'Cannot build for "riscv64": targets are x64,arm64\n');
});

test.run();
