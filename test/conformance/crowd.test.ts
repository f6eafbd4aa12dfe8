import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import * as assert from 'uvu/assert';
import type { PodSpace } from '../lab/bare-host.ts';
import { readLinks } from '../lab/kernel-state.ts';
import type { Outcome } from '../lab/plugin.ts';
import { timed } from '../lab/wait.ts';
import { succeeds } from '../support/cni.ts';
import { fixture } from '../support/fixture.ts';
import { conformance } from './rows.ts';
import { Sites } from './site.ts';

const { before, after, test, run } = conformance('crowd');
const sites = fixture(
  { before, after },
  () => new Sites('crowd'),
  (made) => made.remove(),
);

const quantile = (samples: readonly number[], fraction: number): number =>
  [...samples].sort((a, b) => a - b)[Math.min(samples.length - 1, Math.floor(fraction * samples.length))]!;

async function allAtOnce(what: string, pods: readonly PodSpace[], call: (pod: PodSpace) => Promise<Outcome>) {
  const calls = await Promise.all(pods.map((pod) => timed(() => call(pod))));
  const walls = calls.map(({ ms }) => ms);
  console.log(
    `\n  ${pods.length} × ${what} at once: p50 ${quantile(walls, 0.5).toFixed(0)} ms, p99 ${quantile(walls, 0.99).toFixed(0)} ms`,
  );
  return calls.map(({ result }) => succeeds(result));
}

test('sixty concurrent ADDs give sixty addresses, and sixty concurrent DELs leave nothing', async () => {
  const site = sites().make();
  site.writeNodeFile();
  const pods = site.addPods(60);
  const results = await allAtOnce('ADD', pods, (pod) => site.weftAsync('ADD', pod, site.overlay()));
  const addresses = results.map(({ ips }) => ips![0]!.address);
  assert.is(new Set(addresses).size, 60);
  assert.is(site.reservations('weft').length, 60);
  assert.is(readLinks(site.namespace).filter(({ master }) => master === 'cni0').length, 60);
  assert.equal(site.link('cni0').addresses, ['10.96.7.1/24']);
  for (const [i, pod] of pods.entries()) assert.equal(site.podLink(pod).addresses, [addresses[i]]);
  assert.ok(site.pings(pods[59]!.namespace, addresses[0]!.split('/')[0]!));

  await allAtOnce('DEL', pods, (pod) => site.weftAsync('DEL', pod, site.overlay()));
  assert.equal(site.reservations('weft'), []);
  assert.equal(readdirSync(join(site.dataDir, 'weft')).sort(), ['last_reserved_ip.0', 'lock']);
  assert.equal(
    readLinks(site.namespace).map(({ name }) => name),
    ['cni0'],
  );
  for (const pod of pods) assert.equal(readLinks(pod.namespace), []);
});

test('concurrent ADDs and DELs of different pods, and repeated DELs of one pod, do not disturb each other', async () => {
  const site = sites().make();
  site.writeNodeFile();
  const [going, coming] = [site.addPods(10), site.addPods(10)];
  for (const pod of going) site.add(pod, site.overlay());
  const outcomes = await Promise.all([
    ...coming.map((pod) => site.weftAsync('ADD', pod, site.overlay())),
    // kubelet sends up to four DELs for one container.
    ...going.flatMap((pod) => [1, 2, 3, 4].map(() => site.weftAsync('DEL', pod, site.overlay(), { netns: '' }))),
  ]);
  for (const outcome of outcomes) succeeds(outcome);
  assert.is(site.reservations('weft').length, 10);
  assert.is(readLinks(site.namespace).filter(({ kind }) => kind === 'veth').length, 10);
  for (const pod of coming) assert.is(site.podLink(pod).addresses.length, 1);
});

run();
