/**
 * The release on a Debian under systemd: installed by `weftctl install`, used, upgraded under a stream of packets, and
 * uninstalled, after which the host is as it was.
 * @long
 */

import { closeSync, openSync, readFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { etcdPrefix, startCluster } from '../lab/cluster.ts';
import { run } from '../lab/commands.ts';
import { difference } from '../lab/kernel-state.ts';
import { startPing } from '../lab/packets.ts';
import { root as project } from '../lab/project.ts';
import type { Scratch } from '../lab/scratch.ts';
import { timed, waitFor } from '../lab/wait.ts';
import { fixture } from '../support/fixture.ts';
import { BootedHost } from './booted-host.ts';
import { findDebianRoot } from './debian-root.mjs';

const shown = '/root/shown';
const test = suite('runtimes: systemd');

/** Makes the release's archive and unpacks it. Gives the folder. */
function unpackedRelease(scratch: Scratch): string {
  const out = scratch.makeFolder('release');
  const { version } = JSON.parse(readFileSync(join(project, 'package.json'), 'utf8')) as { version: string };
  const name = `weft-${version}-linux-${process.arch}`;
  const words = ['node', join(project, 'release.mjs'), '--target', process.arch, '--plain', '--out', out];
  run(words, { cwd: out, timeoutMs: 180_000 });
  run(['tar', '-xf', join(out, `${name}.tar`), '-C', out]);
  return join(out, name);
}

/** The same release but for a byte of each executable that nobody reads: elf(5), the end of e_ident. */
function otherRelease(scratch: Scratch, release: string): string {
  const other = join(scratch.makeFolder('other'), 'release');
  run(['cp', '-a', release, other]);
  const EI_PAD_end = 15;
  for (const name of ['bin/weftd', 'cni/weft']) {
    // Names of one file would part.
    const file = openSync(join(other, name), 'r+');
    writeSync(file, Uint8Array.of(1), 0, 1, EI_PAD_end);
    closeSync(file);
  }
  return other;
}

const lab = fixture(
  test,
  async () => {
    const cluster = await startCluster('systemd', { hosts: 1 });
    const { scratch } = cluster;
    const peer = cluster.hosts[0]!;
    const { namespace } = cluster.addHost();
    const release = unpackedRelease(scratch);
    const folders = { [`${shown}/release`]: release, [`${shown}/other`]: otherRelease(scratch, release) };
    const host = new BootedHost(scratch, { root: findDebianRoot()!, namespace, shown: folders });
    try {
      await host.boot();
      return { cluster, peer, pod: peer.attachPods(1)[0]!, host, before: [] as string[], keys: '', address: '' };
    } catch (error) {
      await host.remove();
      cluster.remove();
      throw error;
    }
  },
  async ({ cluster, host }) => {
    await host.remove();
    cluster.remove();
  },
);

const keys = (): string => lab().cluster.etcdctl('get', '--prefix', etcdPrefix, '--keys-only');
const weftctl = (release: 'release' | 'other', ...words: string[]) =>
  lab().host.execute(`${shown}/${release}/bin/weftctl`, ...words);

test('weftctl install: the service runs, starts at boot, and containers reach those of other hosts', () => {
  const { host, cluster, pod } = lab();
  host.run('ip', 'netns', 'add', 'one');
  lab().before = host.listing();
  lab().keys = keys();
  const { status, stdout, stderr } = weftctl('release', 'install', '--etcd-endpoints', cluster.etcdEndpoint);
  assert.is(status, 0, `${stdout}${stderr}`);
  assert.match(stdout, /\nenabled and started weftd\.service\n/);
  assert.match(stdout, /\nweftd is ready: containers can start\n/);
  assert.is(host.run('systemctl', 'is-active', 'weftd').trim(), 'active');
  assert.is(host.run('systemctl', 'is-enabled', 'weftd').trim(), 'enabled');
  lab().address = host.plugin('ADD', 'one').ips![0]!.address.split('/')[0]!;
  host.run('nsenter', '--net=/run/netns/one', 'ping', '-c', '1', '-W', '5', pod.address);
  const doctor = host.execute('/usr/local/bin/weftctl', 'doctor');
  assert.is(doctor.status, 0, doctor.stdout);
});

test('an upgrade by the next release loses no packet, and the service is the new one', async () => {
  const { host, cluster, pod, address } = lab();
  const before = host.mainPid('weftd');
  const stream = startPing(cluster.scratch, pod.namespace, address, 5);
  await waitFor('the stream', () => stream.begun);
  const { result, ms } = await timed(() => weftctl('other', 'install'));
  assert.is(result.status, 0, `${result.stdout}${result.stderr}`);
  await waitFor('the new service', () => host.mainPid('weftd') !== before && host.mainPid('weftd') > 0);
  const { sent, received } = await stream.stop();
  assert.is(received, sent);
  assert.ok(sent > 50);
  assert.is(host.mainPid('weftd') === before, false);
  console.log(`  ${sent} packets during an upgrade of ${(ms / 1000).toFixed(1)} s, ${sent - received} lost`);
  // Once more: nothing is to be done, and nothing is restarted.
  const upgraded = host.mainPid('weftd');
  const again = weftctl('other', 'install');
  assert.is(again.status, 0, `${again.stdout}${again.stderr}\n${host.journal('weftd')}`);
  assert.is(host.mainPid('weftd'), upgraded);
});

test('a restart of the service, and its kill, lose no packet', async () => {
  const { host, cluster, pod, address } = lab();
  const stream = startPing(cluster.scratch, pod.namespace, address, 5);
  await waitFor('the stream', () => stream.begun);
  const restarting = host.execute('systemctl', 'restart', 'weftd');
  assert.is(restarting.status, 0, host.journal('weftd'));
  const restarted = host.mainPid('weftd');
  host.run('systemctl', 'kill', '--signal=KILL', 'weftd');
  await waitFor('systemd to start it again', () => ![0, restarted].includes(host.mainPid('weftd')), {
    deadlineMs: 30_000,
  });
  const { sent, received } = await stream.stop();
  assert.is(received, sent);
});

test('weftctl uninstall refuses while a container lives; then the host and etcd are as they were', async () => {
  const { host } = lab();
  const refused = host.execute('/usr/local/bin/weftctl', 'uninstall');
  assert.is(refused.status, 1);
  assert.match(refused.stdout + refused.stderr, /\bone\b/);
  host.plugin('DEL', 'one');
  const { status, stdout, stderr } = host.execute('/usr/local/bin/weftctl', 'uninstall');
  assert.is(status, 0, `${stdout}${stderr}`);
  // The kernel removes devices' settings after the device.
  await waitFor('the host to be as it was', () => {
    const left = difference(lab().before, host.listing());
    if (left.length > 0) throw new Error(left.join('\n'));
    return true;
  });
  assert.is(keys(), lab().keys);
});

test.run();
