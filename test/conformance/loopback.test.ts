/** The executable called `loopback`. */

import { join } from 'node:path';
import * as assert from 'uvu/assert';
import { run as runProgram } from '../lab/commands.ts';
import type { CallOptions } from '../lab/plugin.ts';
import { fails, own, succeeds } from '../support/cni.ts';
import { fixture } from '../support/fixture.ts';
import { readResult, versions } from '../support/versions.ts';
import { environment } from './reference.ts';
import { conformance } from './rows.ts';
import { Sites } from './site.ts';

const { before, after, test, run } = conformance('loopback');
const sites = fixture(
  { before, after },
  () => new Sites('loopback'),
  (made) => made.remove(),
);

const isUpIn = (namespace: string): boolean =>
  /<[^>]*\bUP\b/.test(runProgram(['ip', '-n', namespace, 'link', 'show', 'lo']));

/** A site with a pod whose lo is down, as a runtime makes it. */
function make() {
  const site = sites().make();
  const pod = site.addPod();
  runProgram(['ip', '-n', pod.namespace, 'link', 'set', 'lo', 'down']);
  const call = (command: string, stdin: unknown, options: CallOptions = {}) =>
    site.call('loopback', { command, containerId: pod.id, netns: pod.path, ifname: 'eth0', stdin, ...options });
  const isUp = (): boolean => isUpIn(pod.namespace);
  return { site, pod, call, isUp };
}

const configuration = (cniVersion: string, keys = {}) => ({ cniVersion, name: 'lo-net', type: 'loopback', ...keys });

test('loopback sets lo up at every version, and DEL sets it down, any number of times', () => {
  for (const version of versions) {
    const { pod, call, isUp } = make();
    assert.not(isUp());
    const result = readResult(succeeds(call('ADD', configuration(version))));
    assert.ok(isUp());
    assert.equal(
      result.ips?.map(({ address }) => address),
      ['127.0.0.1/8', '::1/128'],
    );
    if (version >= '0.3.0') {
      assert.equal(result.interfaces, [{ name: 'lo', mac: '00:00:00:00:00:00', sandbox: pod.path }]);
    }
    for (let i = 0; i < 2; i++) succeeds(call('DEL', configuration(version)));
    assert.not(isUp());
  }
});

test("loopback answers what the reference's plugin answers", () => {
  const { site, pod, call } = make();
  const stdin = configuration('1.0.0');
  const ours = succeeds(call('ADD', stdin));
  const executable = join('/usr/lib/cni', 'loopback');
  const theirs = succeeds(call('ADD', stdin, { executable, environment }));
  assert.equal({ ...ours, dns: undefined }, { ...theirs, dns: undefined });
  const prevResult = { cniVersion: '1.0.0', interfaces: [{ name: 'eth0', sandbox: pod.path }], ips: [], extra: 1 };
  assert.equal(succeeds(call('ADD', { ...stdin, prevResult })), prevResult);
  succeeds(site.call('loopback', { command: 'VERSION' }));
});

test('loopback: CHECK finds lo down, a missing namespace is an error of ADD alone, and the own one is refused', () => {
  const { site, call } = make();
  const stdin = configuration('1.1.0');
  fails(call('CHECK', { ...stdin, prevResult: {} }), own, /"lo" is down/);
  succeeds(call('ADD', stdin));
  succeeds(call('CHECK', { ...stdin, prevResult: {} }));
  for (const command of ['STATUS', 'GC']) succeeds(call(command, stdin));
  const netns = '/run/netns/none-such';
  fails(call('ADD', stdin, { netns }), 8);
  for (const gone of [netns, '', undefined]) succeeds(call('DEL', stdin, { netns: gone }));
  const host = `/run/netns/${site.namespace}`;
  fails(call('ADD', stdin, { netns: host }), 8);
  succeeds(call('DEL', stdin, { netns: host }));
  assert.ok(isUpIn(site.namespace));
});

test('the text about a program has the version that Nomad reads', () => {
  for (const program of ['weft', 'weft-ipam', 'flannel', 'loopback'] as const) {
    const { stderr, status } = sites().make().call(program, {});
    assert.is(status, 0);
    // The first word that is a semantic version is Weft's, not the protocol's.
    const words = stderr.split(/\s+/);
    assert.match(words.find((word) => /^v?\d+\.\d+\.\d+$/.test(word)) ?? '', /^v0\./);
    assert.match(stderr, new RegExp(`^CNI ${program} plugin v`));
  }
});

run();
