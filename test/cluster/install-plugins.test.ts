/** `weftctl install --plugins`, as the init container of Kubernetes runs it: the built executables, put whole or not at all. */

import { spawn } from 'node:child_process';
import {
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { BareHost } from '../lab/bare-host.ts';
import { execute, type Finished } from '../lab/commands.ts';
import { Network } from '../lab/conflist.ts';
import { root } from '../lab/project.ts';
import { Scratch } from '../lab/scratch.ts';
import { fixture } from '../support/fixture.ts';

const test = suite('install-plugins');
const scratch = fixture(
  test,
  () => new Scratch('install-plugins'),
  (made) => made.remove(),
);
const weftctl = join(root, 'dist/bin/weftctl');
const names = ['flannel', 'loopback', 'weft', 'weft-ipam'];
const whole = readFileSync(join(root, 'dist/bin/weft'));

let count = 0;
const newFolder = (): string => scratch().makeFolder(`case-${count++}`);
const words = (folder: string, ...more: string[]): string[] => [
  weftctl,
  'install',
  '--plugins',
  ...['--bin-dir', join(folder, 'bin'), '--conf-dir', join(folder, 'net.d')],
  ...more,
];
const install = (folder: string, ...more: string[]): Finished => execute(words(folder, ...more), { environment: {} });

function succeeded({ status, stdout, stderr }: Finished): string {
  assert.is(stderr, '');
  assert.is(status, 0);
  return stdout;
}

function failed({ status, stdout, stderr }: Finished): string {
  assert.is(status, 1, stderr);
  assert.is(stdout, '');
  return stderr;
}

test('four names of one file, whole and executable; a second run changes nothing', () => {
  const folder = newFolder();
  const bin = join(folder, 'bin');
  assert.match(
    succeeded(execute(['sh', '-c', 'umask 077; exec "$@"', 'sh', ...words(folder)], { environment: {} })),
    /^put weft, weft-ipam, flannel and loopback into .*\/bin \(version \d+\.\d+\.\d+\)\nno portmap in .*\n$/,
  );
  assert.equal(readdirSync(bin).sort(), names);
  assert.is(new Set(names.map((name) => statSync(join(bin, name)).ino)).size, 1);
  assert.is(statSync(join(bin, 'weft')).mode & 0o7777, 0o755);
  assert.is(statSync(bin).mode & 0o777, 0o755);
  assert.ok(readFileSync(join(bin, 'weft')).equals(whole));
  const before = statSync(join(bin, 'weft'));
  assert.match(succeeded(install(folder)), /^weft, weft-ipam, flannel and loopback in .*: already this version\n/);
  assert.is(statSync(join(bin, 'weft')).ino, before.ino);
});

test('--dry-run says it and does nothing', () => {
  const folder = newFolder();
  const conflist = join(root, 'examples/10-weft.conflist');
  assert.match(
    succeeded(install(folder, '--dry-run', '--conflist', conflist)),
    /^would put weft, .*\n.*\nwould put 10-weft\.conflist into .*\n$/,
  );
  assert.equal(readdirSync(folder), []);
});

test('the plugins and a portmap come from the folder that --from names', () => {
  const folder = newFolder();
  mkdirSync(join(folder, 'release/cni'), { recursive: true });
  writeFileSync(join(folder, 'release/cni/weft'), whole, { mode: 0o755 });
  writeFileSync(join(folder, 'release/cni/portmap'), 'the reference', { mode: 0o600 });
  assert.match(
    succeeded(install(folder, '--from', join(folder, 'release'))),
    /^put weft, weft-ipam, flannel, loopback and portmap into .*\n$/,
  );
  assert.is(readFileSync(join(folder, 'bin/portmap'), 'utf8'), 'the reference');
  assert.is(statSync(join(folder, 'bin/portmap')).mode & 0o777, 0o755);
  assert.match(
    failed(install(folder, '--from', join(folder, 'net.d'))),
    /Cannot find the plugin "weft" in ".*": name the folder/,
  );
});

test('the configuration comes last, whole, and a file before it is told', () => {
  const folder = newFolder();
  const conflist = join(root, 'examples/10-weft.conflist');
  const path = join(folder, 'net.d/10-weft.conflist');
  assert.match(succeeded(install(folder, '--conflist', conflist)), /\nput 10-weft\.conflist into .*\/net\.d\n$/);
  assert.ok(readFileSync(path).equals(readFileSync(conflist)));
  assert.is(statSync(path).mode & 0o777, 0o644);
  const { ino } = statSync(path);
  writeFileSync(join(folder, 'net.d/05-other.conf'), '{"name":"other","type":"bridge"}');
  assert.match(
    succeeded(install(folder, '--conflist', conflist)),
    /10-weft\.conflist: already there\nruntimes use .*\/05-other\.conf, which comes first by name: move it away\n$/,
  );
  assert.is(statSync(path).ino, ino);
});

test('a configuration that no runtime could use stops everything before the first plugin', () => {
  const folder = newFolder();
  const broken = join(folder, '10-broken.conflist');
  writeFileSync(broken, '{"name":"weft"');
  assert.match(failed(install(folder, '--conflist', broken)), /as a network configuration: it is no JSON\n$/);
  writeFileSync(join(folder, 'weft.txt'), '{"name":"weft","type":"weft"}');
  assert.match(
    failed(install(folder, '--conflist', join(folder, 'weft.txt'))),
    /names that end in \.conflist or \.conf/,
  );
  assert.match(failed(install(folder, '--conflist', join(folder, 'nowhere.conf'))), /it is not there\n$/);
  assert.not(existsSync(join(folder, 'bin')));
});

test('a folder or a device with the name of a plugin stops everything', () => {
  const folder = newFolder();
  mkdirSync(join(folder, 'bin/loopback'), { recursive: true });
  assert.match(failed(install(folder, '--force')), /a folder has that name; nothing was changed\n$/);
  assert.equal(readdirSync(join(folder, 'bin')), ['loopback']);
  rmSync(join(folder, 'bin/loopback'), { recursive: true });
  execute(['mkfifo', join(folder, 'bin/weft')]);
  assert.match(failed(install(folder)), /no regular file has that name; nothing was changed\n$/);
});

test('another program by the name "weft" is refused, and a link is never written through', () => {
  const folder = newFolder();
  mkdirSync(join(folder, 'bin'));
  writeFileSync(join(folder, 'victim'), 'victim');
  symlinkSync('../victim', join(folder, 'bin/weft'));
  assert.match(
    failed(install(folder)),
    /another program has that name; nothing was changed: remove it, or add --force\n$/,
  );
  assert.equal(readdirSync(join(folder, 'bin')), ['weft']);
  succeeded(install(folder, '--force'));
  assert.is(readFileSync(join(folder, 'victim'), 'utf8'), 'victim');
  assert.ok(lstatSync(join(folder, 'bin/weft')).isFile());
});

test("an image's links stay in the image", () => {
  const folder = newFolder();
  mkdirSync(join(folder, 'image/opt/cni'), { recursive: true });
  mkdirSync(join(folder, 'image/usr/lib/cni'), { recursive: true });
  symlinkSync('/usr/lib/cni', join(folder, 'image/opt/cni/bin'));
  succeeded(execute([weftctl, 'install', '--plugins', '--root', join(folder, 'image')], { environment: {} }));
  assert.equal(readdirSync(join(folder, 'image/usr/lib/cni')).sort(), names);
});

test('a full disk leaves the folder as it was', () => {
  const folder = newFolder();
  mkdirSync(join(folder, 'bin'));
  const script =
    'mount -t tmpfs -o size=1m none "$0" && echo old > "$0/loopback" || exit 9; "$@"; s=$?; ls -A "$0" >&2; exit $s';
  const { status, stderr } = execute(['unshare', '-m', 'sh', '-c', script, join(folder, 'bin'), ...words(folder)], {
    environment: {},
  });
  assert.is(status, 1, stderr);
  assert.match(stderr, /^weftctl: Cannot write ".*\/bin\/weft": no space is left there\nloopback\n$/);
});

test('a folder that cannot be written is told with the way out', () => {
  const folder = newFolder();
  mkdirSync(join(folder, 'bin'));
  const script = 'mount -t tmpfs -o ro none "$0" || exit 9; exec "$@"';
  const finished = execute(['unshare', '-m', 'sh', '-c', script, join(folder, 'bin'), ...words(folder)], {
    environment: {},
  });
  assert.match(failed(finished), /it is on a read-only file system; name another folder\n$/);
});

test('an installation that is killed leaves every name whole, and the next one succeeds', async () => {
  const folder = newFolder();
  const bin = join(folder, 'bin');
  mkdirSync(bin);
  for (let kills = 0, delayMs = 5; kills < 12; kills++, delayMs += 12) {
    const child = spawn(weftctl, words(folder, '--force').slice(1), { env: {}, stdio: 'ignore' });
    const ended = new Promise((resolve) => child.on('exit', resolve));
    const timer = setTimeout(() => child.kill('SIGKILL'), delayMs);
    await ended;
    clearTimeout(timer);
    for (const name of names) {
      const path = join(bin, name);
      if (!existsSync(path)) continue;
      assert.ok(readFileSync(path).equals(whole), `${name} is whole`);
      assert.is(statSync(path).mode & 0o777, 0o755);
    }
    rmSync(join(bin, 'weft'), { force: true });
  }
  succeeded(install(folder));
  // The clock of an unfinished file cannot be set back by its times: it is looked at by the moment of its last change.
  writeFileSync(join(bin, '.weft-new-1-2-weft'), 'half');
  utimesSync(join(bin, '.weft-new-1-2-weft'), 0, 0);
  succeeded(install(folder));
  assert.ok(existsSync(join(bin, '.weft-new-1-2-weft')), 'another installation may be at work');
});

test('two installations at once end with whole files', async () => {
  const folder = newFolder();
  const bin = join(folder, 'bin');
  const both = [0, 1, 2].map(
    () =>
      new Promise((resolve) => {
        spawn(weftctl, words(folder, '--force').slice(1), { env: {}, stdio: 'ignore' }).on('exit', resolve);
      }),
  );
  assert.equal(await Promise.all(both), [0, 0, 0]);
  assert.equal(readdirSync(bin).sort(), names);
  for (const name of names) assert.ok(readFileSync(join(bin, name)).equals(whole));
});

test('--conflist without --plugins is refused', () => {
  const { status, stderr } = execute([weftctl, 'install', '--root', newFolder(), '--conflist', 'x'], {
    environment: {},
  });
  assert.is(status, 2);
  assert.is(stderr, 'weftctl: Option --conflist belongs to --plugins\n');
});

test('uninstall --plugins takes back our files alone, the configuration first, and the plugins once no container needs them', async () => {
  const folder = newFolder();
  const [bin, net] = [join(folder, 'bin'), join(folder, 'net.d')];
  succeeded(install(folder, '--conflist', join(root, 'examples/10-weft.conflist')));
  rmSync(join(bin, 'loopback'));
  writeFileSync(join(bin, 'loopback'), 'somebody else');
  writeFileSync(join(net, '20-other.conflist'), '{"name":"other","plugins":[{"type":"bridge"}]}');
  const host = new BareHost(scratch(), 'node');
  const uninstall = (...more: string[]): Finished =>
    host.execute([
      ...[weftctl, 'uninstall', '--plugins', '--bin-dir', bin, '--conf-dir', net, '--data-dir', host.dataDir],
      ...more,
    ]);
  const ipam = { type: 'weft-ipam', dataDir: host.dataDir, ranges: [[{ subnet: '10.9.0.0/24' }]] };
  const network = new Network(
    { cniVersion: '1.0.0', name: 'weft', plugins: [{ type: 'weft', ipam }] },
    { namespace: host.namespace, cacheFolder: join(folder, 'cache') },
  );
  const [pod] = host.addPodSpaces(1);
  const attachment = { containerId: pod!.id, netns: pod!.path };
  network.add(attachment);

  assert.match(
    succeeded(uninstall('--dry-run', '--force', '--conflist', '10-weft.conflist')),
    /^would remove .*10-weft/,
  );
  assert.is(readdirSync(net).length, 2);
  assert.match(
    succeeded(uninstall('--force', '--dry-run', '--conflist', '20-other.conflist')),
    /^left .*20-other\.conflist: it does not name the plugin "weft"\n/,
  );
  const { status, stdout, stderr } = uninstall('--conflist', '10-weft.conflist');
  assert.is(status, 1);
  assert.match(stdout, /^removed .*10-weft\.conflist\n$/);
  assert.match(stderr, /^weftctl: Cannot remove the plugins in ".*bin": 1 container of this host could not be deleted/);
  assert.equal(readdirSync(net), ['20-other.conflist']);
  assert.equal(readdirSync(bin).sort(), names);
  network.delete(attachment);
  assert.is(succeeded(uninstall('--conflist', '10-weft.conflist')).trim().split('\n').length, 3);
  assert.equal(readdirSync(bin), ['loopback'], "another package's file stays");

  const service = scratch().start(
    [weftctl, 'uninstall', '--plugins', '--bin-dir', bin, '--data-dir', host.dataDir, '--stay'],
    {
      namespace: host.namespace,
      logFile: join(folder, 'stay.log'),
    },
  );
  assert.is(
    await Promise.race([service.exited, new Promise((resolve) => setTimeout(() => resolve('stays'), 500))]),
    'stays',
  );
  await service.stop();
});

test.run();
