/**
 * Containers reach one another and the outside although other programs drop forwarded packets.
 * @alone
 */

import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { startCluster } from '../lab/cluster.ts';
import { run } from '../lab/commands.ts';
import type { Host } from '../lab/host.ts';
import { ping, startPing } from '../lab/packets.ts';
import { timed, waitFor } from '../lab/wait.ts';
import { fixture } from '../support/fixture.ts';

const test = suite('forward');
const cluster = fixture(
  test,
  async () => {
    const made = await startCluster('forward', { hosts: 2, arguments: ['--ip-masq'] });
    for (const host of made.hosts) host.attachPods(1);
    return made;
  },
  (made) => made.remove(),
);

const on = (host: Host, ...argv: string[]): string => run(argv, { namespace: host.namespace });
const iptables = (host: Host, ...words: string[]): string => on(host, 'iptables-nft', ...words);

/** That both reach each other, and the outside: the switch knows no way to containers. */
function reachAll(): void {
  const [one, two] = cluster().hosts as [Host, Host];
  assert.is(ping(one.pods[0]!.namespace, two.pods[0]!.address, { count: 2 }).received, 2);
  assert.is(ping(two.pods[0]!.namespace, one.pods[0]!.address, { count: 2 }).received, 2);
  assert.is(ping(one.pods[0]!.namespace, '192.168.77.1', { count: 2 }).received, 2);
}

/** Does something on the first host under pings 10 ms apart: to the other's container, from it, and to the outside. */
async function under(what: string, work: () => Promise<void> | void): Promise<void> {
  const [one, two] = cluster().hosts as [Host, Host];
  const [here, there] = [one.pods[0]!, two.pods[0]!];
  const { scratch } = cluster();
  const streams = [
    startPing(scratch, here.namespace, there.address, 10),
    startPing(scratch, there.namespace, here.address, 10),
    startPing(scratch, here.namespace, '192.168.77.1', 10),
  ];
  await waitFor('pings', () => streams.every((stream) => stream.begun));
  await waitFor('an answer', () => ping(here.namespace, there.address).received === 1);
  await work();
  const counts = await Promise.all(streams.map((stream) => stream.stop()));
  const lost = counts.map(({ sent, received }) => sent - received);
  console.log(`\n  ${what}: ${lost.join(', ')} of ${counts.map(({ sent }) => sent).join(', ')} pings lost`);
  // Less than a second's.
  assert.ok(Math.max(...lost) < 100);
}

const accepted = (host: Host): boolean => {
  const rules = iptables(host, '-S', 'FORWARD').split('\n');
  return rules.includes('-A FORWARD -j WEFT-FORWARD');
};

test('FORWARD’s policy set to DROP while weftd runs', async () => {
  const [one] = cluster().hosts as [Host];
  await under('policy DROP', async () => {
    iptables(one, '-P', 'FORWARD', 'DROP');
    const { ms } = await timed(() => waitFor('the rules', () => accepted(one)));
    assert.ok(ms < 1000, `${ms} ms`);
    reachAll();
  });
  await waitFor('the log', () => one.log.includes('packets are accepted in "ip filter FORWARD"'));
});

test('the policy is set again while the rules exist: no packet is lost', async () => {
  const [one] = cluster().hosts as [Host];
  iptables(one, '-P', 'FORWARD', 'ACCEPT');
  await under('policy DROP again', () => {
    iptables(one, '-P', 'FORWARD', 'DROP');
    reachAll();
  });
});

test('every change that removes or bypasses the rules is undone within a second', async () => {
  const [one] = cluster().hosts as [Host];
  for (const harm of [
    ['-F', 'FORWARD'],
    ['-F'],
    ['-I', 'FORWARD', '-j', 'DROP'],
    ['-D', 'FORWARD', '-j', 'WEFT-FORWARD'],
    ['-I', 'WEFT-FORWARD', '-j', 'REJECT'],
  ]) {
    const lines = (): string => iptables(one, '-S').replace('-A FORWARD -j DROP\n', '');
    const before = lines();
    await under(harm.join(' '), async () => {
      iptables(one, ...harm);
      const { ms } = await timed(() =>
        waitFor(
          'the repair',
          () =>
            lines() === before &&
            /-A FORWARD -j WEFT-FORWARD\n(-A FORWARD -j DROP\n)?-A WEFT/.test(iptables(one, '-S')),
        ),
      );
      assert.ok(ms < 1000, `${harm.join(' ')}: ${ms} ms`);
    });
  }
  iptables(one, '-D', 'FORWARD', '-j', 'DROP');
  // The log says who it was.
  await waitFor('the log', () => /accepted in .* by=iptables/.test(one.log));
});

test('weftd does not fight a program that puts its chains first, as Docker does when it starts', async () => {
  const [one] = cluster().hosts as [Host];
  for (const words of [
    '-N DOCKER-USER',
    '-A DOCKER-USER -j RETURN',
    '-N DOCKER-ISOLATION-STAGE-1',
    '-A DOCKER-ISOLATION-STAGE-1 -i docker0 ! -o docker0 -j RETURN',
    '-I FORWARD -o docker0 -j ACCEPT',
    '-I FORWARD -j DOCKER-ISOLATION-STAGE-1',
    '-I FORWARD -j DOCKER-USER',
  ]) {
    iptables(one, ...words.split(' '));
  }
  const before = iptables(one, '-S');
  reachAll();
  assert.is(iptables(one, '-S'), before);
});

test('all rules are flushed and DROP is set: everything is back within a second', async () => {
  const [one] = cluster().hosts as [Host];
  await under('nft flush ruleset', async () => {
    on(one, 'nft', 'flush', 'ruleset');
    iptables(one, '-P', 'FORWARD', 'DROP');
    const { ms } = await timed(() => waitFor('the rules', () => accepted(one)));
    assert.ok(ms < 1000, `${ms} ms`);
  });
  reachAll();
});

test('a restart with everything in place changes nothing and loses nothing', async () => {
  const [one] = cluster().hosts as [Host];
  const before = on(one, 'nft', '-a', 'list', 'ruleset').replace(/packets \d+ bytes \d+|expires \w+/g, '');
  await under('a restart', async () => {
    await one.weftd!.stop('SIGKILL');
    one.startWeftd('--ip-masq');
    await one.reaches(cluster().hosts);
  });
  assert.is(on(one, 'nft', '-a', 'list', 'ruleset').replace(/packets \d+ bytes \d+|expires \w+/g, ''), before);
});

test('the older iptables, set to DROP while weftd runs', async () => {
  const [one] = cluster().hosts as [Host];
  on(one, 'iptables-legacy', '-P', 'FORWARD', 'DROP');
  await waitFor('the rules', () => on(one, 'iptables-legacy', '-S').includes('-A FORWARD -j WEFT-FORWARD'));
  reachAll();
  on(one, 'iptables-legacy', '-F');
  await waitFor('the rules', () => on(one, 'iptables-legacy', '-S').includes('-A FORWARD -j WEFT-FORWARD'));
  reachAll();
});

test('leaving removes them all', async () => {
  const [one] = cluster().hosts as [Host];
  assert.is(one.runWeftd('--leave').status, 0);
  assert.not.match(on(one, 'nft', 'list', 'ruleset'), /weft/i);
  assert.not.match(on(one, 'iptables-legacy', '-S'), /WEFT/);
});

test.run();
