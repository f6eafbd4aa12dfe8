/** weftd reports each problem at its start once, clearly, with the remedy. */

import { readFileSync } from 'node:fs';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { Cluster } from '../lab/cluster.ts';
import type { Finished } from '../lab/commands.ts';
import { difference } from '../lab/kernel-state.ts';
import { exampleConfig } from '../lab/project.ts';
import { waitFor } from '../lab/wait.ts';
import { fixture } from '../support/fixture.ts';

const test = suite('errors');
const cluster = fixture(
  test,
  () => new Cluster('errors'),
  (made) => made.remove(),
);

/** weftd ends with status 1 and one message, with nothing of a stack and nothing left in the kernel. */
function refuses(pattern: RegExp, ...words: string[]): void {
  const host = cluster().addHost();
  const before = host.describe();
  const outcome = host.runWeftd(...words);
  saysOnce(outcome, pattern);
  assert.equal(difference(before, host.describe()), []);
}

function saysOnce({ status, stdout, stderr }: Finished, pattern: RegExp): void {
  const said = `${stdout}${stderr}`;
  assert.ok(status !== 0 && status !== null, `status ${status}: ${said}`);
  assert.match(said, pattern);
  assert.not.match(said, /^\s+at /m, 'no stack');
  const matching = said
    .trim()
    .split('\n')
    .filter((line) => pattern.test(line));
  assert.is(matching.length, 1, said);
}

/** weftd goes on trying, having said once why. */
async function waits(pattern: RegExp, prepare: () => void, ...words: string[]) {
  prepare();
  const host = cluster().addHost();
  const before = host.describe();
  const service = host.startWeftd(...words);
  await waitFor(`"${pattern}" in the log`, () => pattern.test(host.log));
  assert.ok(service.alive);
  assert.not.match(host.log, /^\s+at /m, 'no stack');
  assert.equal(difference(before, host.describe()), []);
  return {
    host,
    said: () => host.log.split('\n').filter((line) => pattern.test(line)).length,
  };
}

test('an unknown option, and an invalid value', () => {
  refuses(/--colour/, '--colour', 'red');
  refuses(/etcd-endpoints/, '--etcd-endpoints', 'not a url');
  refuses(/log-level/, '--log-level', 'loud');
});

test('no etcd at the start: weftd says so once, and waits', async () => {
  const { host, said } = await waits(/(warn|error) .*192\.168\.77\.1:2379/, () => undefined);
  assert.is(said() <= 2, true, host.log);
  await cluster().startEtcd();
  cluster().put('config', readFileSync(exampleConfig, 'utf8'));
  await host.reaches([]);
  await host.weftd!.stop();
});

test('a wrong etcd address', async () => {
  const { host } = await waits(
    /(warn|error) .*192\.168\.77\.1:2999/,
    () => undefined,
    '--etcd-endpoints',
    'http://192.168.77.1:2999',
  );
  await host.weftd!.stop();
});

test('an external interface that is not there', async () => {
  const { host } = await waits(/absent0/, () => undefined, '--iface', 'absent0');
  await host.weftd!.stop();
});

test('no network config: the message names key and command; weftd continues once the config exists', async () => {
  cluster().etcdctl('del', '/coreos.com/network/config');
  const { host } = await waits(/\/coreos\.com\/network\/config/, () => undefined);
  assert.match(host.log, /weftctl config set/);
  cluster().put('config', readFileSync(exampleConfig, 'utf8'));
  await host.reaches([]);
  await host.weftd!.stop();
});

for (const [what, config, pattern] of [
  ['no JSON', '{"Network": ', /config.*JSON/i],
  ['no network', '{"Backend": {"Type": "vxlan"}}', /Network/],
  ['a network that is none', '{"Network": "10.5.0.0/99", "Backend": {"Type": "vxlan"}}', /10\.5\.0\.0\/99/],
  ['an unknown backend', '{"Network": "10.5.0.0/16", "Backend": {"Type": "pigeon"}}', /pigeon/],
  [
    'a subnet length that does not fit',
    '{"Network": "10.5.0.0/16", "SubnetLen": 12, "Backend": {"Type": "vxlan"}}',
    /SubnetLen/,
  ],
] as const) {
  test(`a bad network config in etcd: ${what}`, async () => {
    const { host } = await waits(pattern, () => cluster().put('config', config));
    await host.weftd!.stop();
  });
}

test('missing root', () => {
  const host = cluster().addHost();
  saysOnce(host.runWeftdAsNobody(), /root|CAP_NET_ADMIN/);
});

test.run();
