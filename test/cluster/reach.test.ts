/** Containers on different hosts reach each other: attached by the real cnitool and the examples, real packets. */

import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { startCluster } from '../lab/cluster.ts';
import { executeAsync, type Finished } from '../lab/commands.ts';
import type { Host, Pod } from '../lab/host.ts';
import { readLinks } from '../lab/kernel-state.ts';
import { askEcho, ping, startEcho } from '../lab/packets.ts';
import { type CniDocument, pluginFolder } from '../lab/plugin.ts';
import { fixture } from '../support/fixture.ts';

const test = suite('reach');
const cluster = fixture(
  test,
  () => startCluster('reach', { hosts: 3 }),
  (made) => made.remove(),
);

/** `cnitool VERB weft NETNS` on a host, with the example's configuration and this host's paths. */
function cnitool(pod: Pod, verb: string): Promise<Finished> {
  const { host } = pod;
  const configurations = join(host.folder, 'net.d');
  mkdirSync(configurations, { recursive: true });
  writeFileSync(join(configurations, '10-weft.conflist'), JSON.stringify(host.conflist));
  const environment = {
    PATH: process.env['PATH'] ?? '',
    CNI_PATH: pluginFolder,
    NETCONFPATH: configurations,
  };
  const argv = ['cnitool', verb, host.conflist.name, pod.attachment.netns];
  return executeAsync(argv, { namespace: host.namespace, environment });
}

async function succeeds(pod: Pod, verb: string): Promise<string> {
  const { status, stdout, stderr } = await cnitool(pod, verb);
  assert.is(status, 0, `cnitool ${verb}: ${stdout}${stderr}`);
  return stdout;
}

test('cnitool adds, checks and deletes, and deletes again', async () => {
  const [one, two] = cluster().hosts as [Host, Host];
  for (const host of [one, two]) {
    const [pod] = host.addPods(1);
    pod!.result = JSON.parse(await succeeds(pod!, 'add')) as CniDocument;
    await succeeds(pod!, 'check');
  }
  const [here, there] = [one.pods.at(-1)!, two.pods.at(-1)!];
  for (const [from, to] of [
    [here, there],
    [there, here],
  ] as const) {
    assert.equal(ping(from.namespace, to.address, { count: 3 }), { sent: 3, received: 3 });
  }
  for (const pod of [here, there]) {
    await succeeds(pod, 'del');
    assert.equal(readLinks(pod.namespace), []);
    await succeeds(pod, 'del');
    assert.is.not((await cnitool(pod, 'check')).status, 0, 'a check after the deletion fails');
  }
});

test('TCP and UDP go both ways between hosts', async () => {
  const [one, two] = cluster().hosts as [Host, Host];
  const [here, there] = [one.attachPods(1)[0]!, two.attachPods(1)[0]!];
  for (const pod of [here, there]) await startEcho(cluster().scratch, pod.namespace);
  for (const [from, to] of [
    [here, there],
    [there, here],
  ] as const) {
    for (const protocol of ['tcp', 'udp'] as const) {
      const text = `${protocol} from ${from.name} to ${to.name}`;
      assert.is(await askEcho(from.namespace, protocol, to.address, text), text);
    }
  }
});

test('the MTU is exact: 1422 bytes pass whole, 1423 do not', () => {
  const [one, , three] = cluster().hosts as [Host, Host, Host];
  const [here, there] = [one.attachPods(1)[0]!, three.attachPods(1)[0]!];
  assert.is(ping(here.namespace, there.address, { payloadBytes: 1422, whole: true }).received, 1);
  assert.is(ping(there.namespace, here.address, { payloadBytes: 1422, whole: true }).received, 1);
  assert.is(ping(here.namespace, there.address, { payloadBytes: 1423, whole: true }).received, 0);
  assert.is(ping(here.namespace, there.address, { payloadBytes: 4000 }).received, 1, 'larger ones are cut');
});

test('every container reaches every other, with its own source address', async () => {
  const pods = cluster().hosts.flatMap((host) => host.attachPods(2));
  for (const from of pods) {
    for (const to of pods) assert.is(ping(from.namespace, to.address).received, 1, `${from.name} → ${to.name}`);
  }
  // Nothing on the way changes the sender's address.
  const [first, last] = [pods[0]!, pods.at(-1)!];
  assert.is.not(first.host, last.host);
  const capture = executeAsync(
    ['timeout', '5', 'tcpdump', '-ni', 'eth0', '-c', '1', '-l', 'icmp', 'and', 'icmp[0]=8'],
    { namespace: last.namespace },
  );
  const answered = async (): Promise<string> => {
    const seen = await Promise.race([
      capture,
      new Promise<undefined>((resolve) => setTimeout(() => resolve(undefined), 50)),
    ]);
    if (seen) return seen.stdout;
    ping(first.namespace, last.address);
    return await answered();
  };
  assert.match(await answered(), new RegExp(`IP ${first.address} > ${last.address}`));
});

test('containers and the other hosts reach each other', () => {
  const [one, two] = cluster().hosts as [Host, Host];
  const pod = one.pods.at(-1)!;
  assert.is(ping(one.namespace, pod.address).received, 1, 'its own host');
  assert.is(ping(two.namespace, pod.address).received, 1, 'another host');
});

test.run();
