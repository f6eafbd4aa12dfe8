/** The demo itself, under Bun, when everything is built: see `../demo.mjs`. */

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Cluster } from '../../test/lab/cluster.ts';
import { runAsync } from '../../test/lab/commands.ts';
import type { Host, Pod } from '../../test/lab/host.ts';
import { readLink } from '../../test/lab/kernel-state.ts';
import { ping, pingAsync } from '../../test/lab/packets.ts';
import { exampleConfig, exampleConflist, root } from '../../test/lab/project.ts';
import { timed, waitFor } from '../../test/lab/wait.ts';
import { drawMap } from './map.ts';
import { bold, chapter, dim, fact, green, note, padEnd, padStart, print, red } from './screen.ts';
import { clean, forgetState, isRunning, prefix, readState, writeState } from './state.ts';

const keep = process.argv.includes('--keep');
const started = performance.now() - 1000 * Number(process.env['WEFT_DEMO_SECONDS'] ?? 0);

async function startHosts(cluster: Cluster): Promise<void> {
  chapter('etcd, and three hosts on one switch');
  const etcd = await timed(() => cluster.startEtcd());
  fact('etcd', `${cluster.etcdEndpoint}, in a namespace of its own`, etcd.ms);
  cluster.put('config', readFileSync(exampleConfig, 'utf8'));
  fact('network config', JSON.stringify(JSON.parse(readFileSync(exampleConfig, 'utf8'))));
  const began = performance.now();
  for (let i = 0; i < 3; i++) cluster.addHost();
  for (const host of cluster.hosts) host.startWeftd();
  for (const host of cluster.hosts) {
    await host.reaches(cluster.hosts);
    fact(`weftd on ${host.name}`, `${padEnd(host.address, 14)} leases ${bold(host.subnet)}`, performance.now() - began);
  }
}

async function attach(host: Host): Promise<Pod> {
  const [pod] = host.addPods(1);
  const { ms } = await timed(() => pod!.attach());
  fact(pod!.name, green(pod!.address), ms);
  return pod!;
}

async function startContainers(hosts: readonly Host[]): Promise<void> {
  chapter('Two containers a host');
  note(`through ${exampleConflist.replace(root, '')}, as a container runtime does it`);
  for (const host of hosts) for (let i = 0; i < 2; i++) await attach(host);
}

/** The best of a few round trips in milliseconds; undefined where none came back. */
async function roundTrip(from: Pod, to: Pod): Promise<number | undefined> {
  const argv = ['ping', '-n', '-q', '-c', '3', '-i', '0.01', '-W', '1', to.address];
  const output = await runAsync(argv, { namespace: from.namespace }).catch(() => '');
  const best = /= ([\d.]+)\//.exec(output)?.[1];
  return best === undefined ? undefined : Number(best);
}

async function pingAll(pods: readonly Pod[]): Promise<void> {
  chapter('Every container pings every other');
  note('round trip in milliseconds');
  print(`   ${' '.repeat(9)}${pods.map(({ name }) => padStart(name, 9)).join('')}`);
  let lost = 0;
  for (const from of pods) {
    const cells: string[] = [];
    for (const to of pods) {
      const ms = from === to ? undefined : await roundTrip(from, to);
      if (from !== to && ms === undefined) lost++;
      const cell = from === to ? dim('·') : ms === undefined ? red('lost') : ms.toFixed(2);
      cells.push(padStart(from.host === to.host ? dim(cell) : green(cell), 9));
    }
    print(`   ${padEnd(from.name, 9)}${cells.join('')}`);
  }
  if (lost > 0) throw new Error(`${lost} pairs of containers do not reach each other`);
  const [first, last] = [pods[0]!, pods.at(-1)!];
  const fits = (payloadBytes: number) =>
    ping(first.namespace, last.address, { payloadBytes, whole: true }).received === 1;
  fact(
    'largest packet',
    `1422 bytes pass whole: ${fits(1422) ? 'yes' : red('no')}, 1423: ${fits(1423) ? red('yes') : 'no'}`,
  );
}

/** Gigabits a second, over a second and a half. */
async function measure(cluster: Cluster, from: string, to: string, address: string): Promise<number> {
  const logFile = join(cluster.scratch.folder, 'iperf3.log');
  const server = cluster.scratch.start(['iperf3', '-s', '-1', '--forceflush'], { namespace: to, logFile });
  const bitsPerSecond = await waitFor('iperf3', async () => {
    const output = await runAsync(['iperf3', '-c', address, '-t', '1.5', '-J'], { namespace: from });
    const { end, error } = JSON.parse(output) as {
      end: { sum_received?: { bits_per_second: number } };
      error?: string;
    };
    // It says on stdout, with status 0, that the server does not listen yet.
    if (error) throw new Error(error);
    return end.sum_received?.bits_per_second;
  });
  await server.stop();
  return bitsPerSecond / 1e9;
}

async function stream(cluster: Cluster): Promise<void> {
  chapter('A stream between two hosts');
  const [one, , three] = cluster.hosts as [Host, Host, Host];
  const [from, to] = [one.pods[0]!, three.pods[0]!];
  const overlay = await measure(cluster, from.namespace, to.namespace, to.address);
  fact(`${from.name} → ${to.name}`, `${bold(overlay.toFixed(1))} Gbit/s through the overlay`);
  const underlay = await measure(cluster, one.namespace, three.namespace, three.address);
  fact(`${one.name} → ${three.name}`, `${underlay.toFixed(1)} Gbit/s without it`);
}

async function breakDevice(cluster: Cluster): Promise<void> {
  chapter('Somebody deletes a VXLAN device');
  const [, two, three] = cluster.hosts as [Host, Host, Host];
  const { mac } = readLink(two.namespace, 'flannel.1')!;
  const pings = pingAsync(two.pods[0]!.namespace, three.pods[0]!.address, { count: 100, intervalMs: 10 });
  const whole = tunnelState(two);
  two.ip('link', 'del', 'flannel.1');
  const { ms } = await timed(() =>
    waitFor('the device to come back', () => tunnelState(two) === whole, { intervalMs: 1 }),
  );
  const same = readLink(two.namespace, 'flannel.1')?.mac === mac;
  fact(`${two.name}: flannel.1`, `back, ${same ? 'same MAC' : red('another MAC')}, peers and all`, ms);
  const { sent, received } = await pings;
  fact('meanwhile', `${sent - received} of ${sent} pings lost, sent 10 ms apart`);
}

/** The tunnel's device, routes, neighbours and forwarding entries, but for the device's number. */
const tunnelState = (host: Host): string =>
  host
    .describe()
    .filter((line) => line.includes('flannel.1'))
    .join('\n')
    .replace(/"index":\d+/g, '');

async function stopEtcd(cluster: Cluster): Promise<void> {
  chapter('etcd is killed');
  await cluster.stopEtcd();
  const pod = await attach(cluster.hosts[1]!);
  const others = cluster.hosts.flatMap(({ pods }) => pods).filter((other) => other !== pod);
  const reached = others.filter((other) => ping(pod.namespace, other.address).received === 1);
  fact('a new container', `started without etcd, and reaches ${reached.length} of ${others.length} others`);
  if (reached.length < others.length) throw new Error('The new container does not reach all the others');
  const { ms } = await timed(async () => {
    await cluster.startEtcd();
    for (const host of cluster.hosts) {
      await waitFor(`${host.name} to find etcd again`, () => host.status().etcd.connected, { deadlineMs: 30_000 });
    }
  });
  fact('etcd is back', 'and every host has found it', ms);
}

function invite(cluster: Cluster): void {
  const [one, , three] = cluster.hosts as [Host, Host, Host];
  const on = (namespace: string, ...words: string[]): string =>
    `   nsenter --net=/run/netns/${namespace} ${words.join(' ')}`;
  chapter('It stays up; play with it');
  print(`   export PATH=${join(root, 'dist/bin')}:$PATH`);
  print(on(one.namespace, 'weftctl --run-dir', one.runDir, '--data-dir', one.dataDir, 'status'));
  print(on(one.namespace, 'weftctl --run-dir', one.runDir, 'nodes'));
  print(on(one.pods[0]!.namespace, 'ping', three.pods[0]!.address));
  print(on(one.namespace, 'ip -d route'));
  print(on(cluster.switchNamespace, 'etcdctl get --prefix /coreos.com/network'));
  print(`   tail -f ${one.logFile}`);
  print('   npm run demo -- --clean');
}

async function show(): Promise<void> {
  const cluster = new Cluster('demo', { prefix, keep });
  writeState({ pid: process.pid, folder: cluster.scratch.folder, kept: false });
  // Interrupted, too, it leaves nothing: the cluster removes itself.
  const forget = () => forgetState();
  process.on('exit', forget);
  try {
    await startHosts(cluster);
    await startContainers(cluster.hosts);
    await pingAll(cluster.hosts.flatMap(({ pods }) => pods));
    await stream(cluster);
    await breakDevice(cluster);
    await stopEtcd(cluster);
    chapter('The cluster');
    for (const line of drawMap(cluster.hosts, cluster.etcdEndpoint)) print(line.trimEnd());
    if (keep) {
      writeState({ pid: process.pid, folder: cluster.scratch.folder, kept: true });
      cluster.scratch.release();
      process.off('exit', forget);
      invite(cluster);
    }
  } catch (error) {
    for (const host of cluster.hosts) print(`${host.name}:\n${host.log.trimEnd().split('\n').slice(-10).join('\n')}`);
    cluster.remove();
    throw error;
  }
  if (!keep) cluster.remove();
  const seconds = ((performance.now() - started) / 1000).toFixed(0);
  print(`\n${green('Done')} in ${seconds} s${keep ? '' : '. Nothing of it is left; --keep leaves it up'}`);
}

function main(): Promise<void> | void {
  if (process.argv.includes('--clean')) {
    print(clean() ? 'The demo is removed' : 'There is no demo to remove');
    return;
  }
  const state = readState();
  if (state && isRunning(state)) throw new Error(`another demo runs (process ${state.pid})`);
  if (clean()) note('an earlier demo is removed');
  return show();
}

try {
  await main();
} catch (error) {
  console.error(red(`demo: ${error instanceof Error ? error.message : error}`));
  process.exitCode = 1;
}
