/**
 * SIGKILL at random instants of ADD, then DEL or GC: nothing left, neither interfaces nor reservations nor half-written
 * files. And of DEL, then DEL again.
 */

import { readdirSync, readFileSync, readlinkSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { type Site, Sites } from '../conformance/site.ts';
import type { PodSpace } from '../lab/bare-host.ts';
import { findProgram } from '../lab/commands.ts';
import { readLinks } from '../lab/kernel-state.ts';
import { pluginFolder } from '../lab/plugin.ts';
import { timed } from '../lab/wait.ts';
import { succeeds } from '../support/cni.ts';
import { fixture } from '../support/fixture.ts';
import { randomStream } from '../support/random.ts';
import { callRaw, type RawOutcome } from './raw-call.ts';

const kills = Number(process.env['WEFT_TEST_KILLS'] ?? 200);
const seed = Number(process.env['WEFT_TEST_SEED'] ?? 99);

const test = suite('kill');
const sites = fixture(
  test,
  () => new Sites('kill'),
  (made) => made.remove(),
);

/** Dual stack, so that there is something to be torn in two. */
function makeSite(): { site: Site; pod: PodSpace; configuration: Record<string, unknown> } {
  const site = sites().make();
  site.writeNodeFile({ subnets: ['10.96.7.0/24', 'fd00:96:7::/64'], networks: ['10.96.0.0/16', 'fd00:96::/48'] });
  return { site, pod: site.addPod(), configuration: site.overlay() };
}

function call(
  site: Site,
  pod: PodSpace,
  command: string,
  configuration: unknown,
  killAfterMs?: number,
): Promise<RawOutcome> {
  return callRaw({
    argv: [findProgram('nsenter'), `--net=/run/netns/${site.namespace}`, `${pluginFolder}/weft`],
    environment: {
      CNI_COMMAND: command,
      CNI_CONTAINERID: pod.id,
      CNI_NETNS: pod.path,
      CNI_IFNAME: 'eth0',
      CNI_PATH: pluginFolder,
    },
    stdin: JSON.stringify(configuration),
    ...(killAfterMs !== undefined && { killAfterMs }),
  });
}

/** The files of a store that holds nothing: the lock, the last given address, and an index without entries. */
function storeFaults(site: Site): string[] {
  return readdirSync(site.dataDir, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name))
    .flatMap((path) => {
      const name = path.slice(site.dataDir.length + 1);
      if (/^weft\/(lock|last_reserved_ip\.\d)$/.test(name)) return [];
      const content = readFileSync(path, 'utf8');
      return name.startsWith('.weft/') && content === '' ? [] : [`${name} ${JSON.stringify(content)}`];
    });
}

const leftOf = (site: Site, pod: PodSpace): string[] => [
  ...readLinks(site.namespace)
    .filter(({ kind }) => kind !== 'bridge')
    .map(({ name }) => `host: ${name}`),
  ...readLinks(pod.namespace).map(({ name }) => `container: ${name}`),
  ...storeFaults(site),
];

/** How long a call takes here and now, start included: the median of the last seven that were measured. */
class UsualTime {
  readonly #run: () => Promise<RawOutcome>;
  readonly #undo: () => Promise<RawOutcome>;
  readonly #times: number[] = [];

  constructor(run: () => Promise<RawOutcome>, undo: () => Promise<RawOutcome>) {
    this.#run = run;
    this.#undo = undo;
  }

  async measure(times = 1): Promise<void> {
    for (let i = 0; i < times; i++) {
      const { result, ms } = await timed(this.#run);
      assert.is(result.status, 0, result.stdout);
      this.#times.push(ms);
      await this.#undo();
    }
  }

  get ms(): number {
    const last = this.#times.slice(-7).sort((a, b) => a - b);
    return last[Math.floor(last.length / 2)]!;
  }
}

/** The usual time is measured again after so many kills: it changes with what else runs on this machine. */
const measureEvery = 10;

test(`${kills} ADDs killed, then DEL or GC`, async () => {
  const random = randomStream(seed);
  const { site, pod, configuration } = makeSite();
  const del = (): Promise<RawOutcome> => call(site, pod, 'DEL', configuration);
  const usual = new UsualTime(() => call(site, pod, 'ADD', configuration), del);
  await usual.measure(7);
  const cures = [
    ['DEL', del],
    ['DEL without a namespace', () => call(site, { ...pod, path: '' }, 'DEL', configuration)],
    ['GC', () => call(site, pod, 'GC', { ...configuration, 'cni.dev/valid-attachments': [] })],
  ] as const;
  const faults: string[] = [];
  let killed = 0;
  for (let i = 0; i < kills; i++) {
    if (i % measureEvery === measureEvery - 1) await usual.measure();
    const afterMs = random() * 1.2 * usual.ms;
    const outcome = await call(site, pod, 'ADD', configuration, afterMs);
    if (outcome.signal !== null) killed += 1;
    const [name, cure] = cures[i % cures.length]!;
    const cured = await cure();
    const left = leftOf(site, pod);
    if (cured.status === 0 && left.length === 0) continue;
    faults.push(
      `killed after ${afterMs.toFixed(2)} ms of ${usual.ms.toFixed(1)}, then ${name}: status ${cured.status} ${cured.stdout} left ${left.join(', ')}`,
    );
    await del();
    rmSync(join(site.dataDir, 'weft'), { recursive: true, force: true });
  }
  console.log(`\n  ${killed} of ${kills} ADDs were killed, one usually takes ${usual.ms.toFixed(1)} ms`);
  assert.equal(faults, []);
  assert.ok(killed > kills / 2, `${killed} of ${kills}`);
  // And the network works as before.
  succeeds(site.weft('ADD', pod, configuration));
  assert.ok(site.pings(pod.namespace, '10.96.7.1'));
  assert.ok(site.pings(pod.namespace, 'fd00:96:7::1'));
  site.delete(pod, configuration);
});

/** Kills what a DEL has left to wait for the kernel: the plugins' processes in the site's namespace. */
function killOrphans(site: Site): number {
  const namespace = statSync(`/run/netns/${site.namespace}`).ino;
  let killed = 0;
  for (const pid of readdirSync('/proc').filter((name) => /^\d+$/.test(name))) {
    try {
      if (!readlinkSync(`/proc/${pid}/exe`).startsWith(`${pluginFolder}/`)) continue;
      if (statSync(`/proc/${pid}/ns/net`).ino !== namespace) continue;
      process.kill(Number(pid), 'SIGKILL');
      killed += 1;
    } catch {
      // It has ended meanwhile.
    }
  }
  return killed;
}

for (const [whom, alsoOrphans] of [
  ['DELs', false],
  ['DELs and the processes that they had started', true],
] as const) {
  test(`DEL frees everything after earlier ${whom} were killed`, async () => {
    const random = randomStream(seed + (alsoOrphans ? 2 : 1));
    const { site, pod, configuration } = makeSite();
    const add = (): Promise<RawOutcome> => call(site, pod, 'ADD', configuration);
    assert.is((await add()).status, 0);
    const usual = new UsualTime(() => call(site, pod, 'DEL', configuration), add);
    await usual.measure(7);
    const faults: string[] = [];
    let orphans = 0;
    for (let i = 0; i < kills / 5; i++) {
      const afterMs = random() * 1.2 * usual.ms;
      await call(site, pod, 'DEL', configuration, afterMs);
      if (alsoOrphans) orphans += killOrphans(site);
      const cured = await call(site, pod, 'DEL', configuration);
      const left = leftOf(site, pod);
      if (cured.status !== 0 || left.length > 0) {
        faults.push(
          `killed after ${afterMs.toFixed(2)} ms: status ${cured.status} ${cured.stdout} left ${left.join(', ')}`,
        );
      }
      const again = await add();
      if (again.status !== 0) faults.push(`ADD after a killed DEL: ${again.stdout}`);
    }
    if (alsoOrphans) console.log(`\n  ${orphans} processes of ${kills / 5} DELs were killed`);
    assert.equal(faults, []);
  });
}

test.run();
