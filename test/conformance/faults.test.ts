/**
 * Every system call of an ADD fails once, and the ADD is killed at every one: nothing is left, or DEL frees it. Every one
 * of a DEL fails once: the next DEL frees the rest. strace(1) does the harm.
 */

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import * as assert from 'uvu/assert';
import type { PodSpace } from '../lab/bare-host.ts';
import { describeNamespace, readLinks } from '../lab/kernel-state.ts';
import { pluginHost } from '../lab/plugin.ts';
import { succeeds } from '../support/cni.ts';
import { fixture } from '../support/fixture.ts';
import { conformance } from './rows.ts';
import { type Site, Sites } from './site.ts';

const { before, after, test, run } = conformance('faults');
const sites = fixture(
  { before, after },
  () => new Sites('faults'),
  (made) => made.remove(),
);

/** Those by which an ADD changes or learns something, and what each of them may well answer. */
const failures: Readonly<Record<string, string>> = {
  open: 'EMFILE',
  flock: 'EIO',
  write: 'ENOSPC',
  ftruncate: 'EIO',
  renameat: 'EIO',
  linkat: 'EIO',
  unlinkat: 'EIO',
  utimensat: 'EPERM',
  mkdirat: 'EROFS',
  getdents64: 'EIO',
  socket: 'EMFILE',
  setns: 'EPERM',
  sendto: 'ENOBUFS',
  recvfrom: 'ENOBUFS',
  clone: 'EAGAIN',
};

/** How often ADD, or DEL, makes each of these calls. */
function countCalls(
  verb: 'ADD' | 'DEL',
  site: Site,
  pod: PodSpace,
  configuration: Record<string, unknown>,
): Map<string, number> {
  const file = join(site.folder, 'trace');
  const names = Object.keys(failures);
  succeeds(
    site.weft(verb, pod, configuration, { through: ['strace', '-qq', '-o', file, '-e', `trace=${names.join()}`] }),
  );
  const counts = new Map<string, number>();
  for (const line of readFileSync(file, 'utf8').split('\n')) {
    // The kernel itself repeats a call for as long as somebody else holds its lock of the network.
    if (line.includes('ERESTART')) continue;
    const name = line.slice(0, line.indexOf('('));
    if (names.includes(name)) counts.set(name, (counts.get(name) ?? 0) + 1);
  }
  return counts;
}

/** One failure at each call in turn: its name, which one, and the arguments of strace. */
function* injections(counts: ReadonlyMap<string, number>, fault: (name: string) => string) {
  for (const [name, count] of counts) {
    for (let nth = 1; nth <= count; nth++) {
      const expression = `inject=${name}:${fault(name)}:when=${nth}`;
      const through = ['strace', '-qq', '-o', '/dev/null', '-e', `trace=${name}`, '-e', expression];
      yield { what: `${name} ${nth} of ${count}`, nth, last: nth === count, name, through };
    }
  }
}

const stateOf = (site: Site, pod: PodSpace): string[] => [
  ...describeNamespace(site.namespace).map((line) => `host: ${line}`),
  ...describeNamespace(pod.namespace).map((line) => `pod: ${line}`),
  ...site.reservations('weft').map((name) => `store: ${name}`),
];

/** A host on which an ADD was made and undone, so that bridge and store are there. */
function preparedSite() {
  const site = sites().make();
  site.writeNodeFile({ networks: ['10.96.0.0/16', 'fd00:96::/48'], subnets: ['10.96.7.0/24', 'fd00:96:0:7::/64'] });
  const pod = site.addPod();
  const configuration = site.overlay();
  site.add(pod, configuration);
  site.delete(pod, configuration);
  const counts = countCalls('ADD', site, pod, configuration);
  site.delete(pod, configuration);
  return { site, pod, configuration, counts };
}

// Under Bun it is another program that makes the calls.
if (pluginHost === 'native') {
  test('if any one system call of ADD fails, the error has its cause and nothing is left', () => {
    const { site, pod, configuration, counts } = preparedSite();
    const problems: string[] = [];
    let [refused, tolerated] = [0, 0];
    for (const { what, through, name, nth, last } of injections(counts, (call) => `error=${failures[call]}`)) {
      // The last write is that of the answer itself.
      if (name === 'write' && last) continue;
      // Every other setns is the way back: without it nothing but the error can be told, and DEL does the rest.
      const isWayBack = name === 'setns' && nth % 2 === 0;
      const clean = stateOf(site, pod);
      const outcome = site.weft('ADD', pod, configuration, { through });
      if (outcome.status === 0) {
        tolerated++;
        site.delete(pod, configuration);
        continue;
      }
      refused++;
      const { code, msg } = outcome.document ?? {};
      if (outcome.status !== 1 || typeof code !== 'number' || !msg) {
        problems.push(`${what}: status ${outcome.status}, ${outcome.stdout}${outcome.stderr}`);
      } else if (code === 999) problems.push(`${what}: ${outcome.stdout.trim()}`);
      if (isWayBack) site.delete(pod, configuration);
      const now = stateOf(site, pod);
      const left = now.filter((line) => !clean.includes(line));
      if (left.length > 0) problems.push(`${what}: left ${left.join('; ')}`);
      site.delete(pod, configuration);
    }
    console.log(
      `\n  ${refused + tolerated} system calls failed in turn: ${refused} refused, ${tolerated} done without`,
    );
    assert.equal(problems, [], problems.join('\n'));
    assert.ok(refused > 30, `${refused} refused`);
    site.add(pod, configuration);
  });

  test('if any one system call of DEL fails, the next DEL frees the rest', () => {
    const { site, pod, configuration } = preparedSite();
    site.add(pod, configuration);
    const clean = readLinks(site.namespace).filter(({ kind }) => kind === 'bridge').length;
    const counts = countCalls('DEL', site, pod, configuration);
    const problems: string[] = [];
    let [failed, finished] = [0, 0];
    for (const { what, through, name, nth } of injections(counts, (call) => `error=${failures[call]}`)) {
      if (name === 'setns' && nth % 2 === 0) continue;
      site.add(pod, configuration);
      const { status, document } = site.weft('DEL', pod, configuration, { through });
      if (status === 0) finished++;
      else {
        failed++;
        if (!document?.msg || document.code === 999) problems.push(`${what}: ${JSON.stringify(document)}`);
        site.delete(pod, configuration);
      }
      const links = [
        ...readLinks(site.namespace).map((link) => link.name),
        ...readLinks(pod.namespace).map((link) => link.name),
      ];
      if (links.length !== clean) problems.push(`${what}: left ${links}`);
      const reserved = site.reservations('weft');
      if (reserved.length > 0) problems.push(`${what}: left ${reserved}`);
    }
    console.log(
      `\n  ${failed + finished} system calls of DEL failed in turn: ${finished} times it got to its end all the same`,
    );
    assert.equal(problems, [], problems.join('\n'));
  });

  test('DEL frees everything that an ADD leaves which is killed at any system call', () => {
    const { site, pod, configuration, counts } = preparedSite();
    const problems: string[] = [];
    let kills = 0;
    for (const { what, through } of injections(counts, () => 'signal=KILL')) {
      const clean = stateOf(site, pod);
      site.weft('ADD', pod, configuration, { through });
      kills++;
      site.delete(pod, configuration, kills % 2 === 0 ? { netns: '' } : {});
      const left = stateOf(site, pod).filter((line) => !clean.includes(line));
      if (left.length > 0) problems.push(`${what}: left ${left.join('; ')}`);
    }
    console.log(`\n  killed at each of ${kills} system calls`);
    assert.equal(problems, [], problems.join('\n'));
    assert.equal(readLinks(pod.namespace), []);
    site.add(pod, configuration);
  });
}

run();
