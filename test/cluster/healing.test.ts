/**
 * weftd repairs every damage in the kernel within a second.
 * @alone
 */

import { readFileSync } from 'node:fs';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import type { NodeStatus } from '../../cluster/status.ts';
import type { Family } from '../../net/address.ts';
import { type Cluster, etcdPrefix, startCluster } from '../lab/cluster.ts';
import { execute, run } from '../lab/commands.ts';
import { type Damage, findTarget, inflict, ruleDamages, type Target, tunnelDamages } from '../lab/damage.ts';
import type { Host } from '../lab/host.ts';
import { difference, readLink, readRoutes } from '../lab/kernel-state.ts';
import { ping } from '../lab/packets.ts';
import { waitFor } from '../lab/wait.ts';
import { fixture } from '../support/fixture.ts';

const test = suite('healing');
const dualStack = { Network: '10.244.0.0/16', EnableIPv6: true, IPv6Network: 'fd00:10:244::/48' };

const start = async (label: string, backend: object): Promise<Cluster> => {
  const config = JSON.stringify({ ...dualStack, Backend: backend });
  const made = await startCluster(label, { hosts: 2, families: [4, 6], config, arguments: ['--ip-masq'] });
  for (const host of made.hosts) host.attachPods(1);
  return made;
};
const clusterOf = (label: string, backend: object): (() => Cluster) =>
  fixture(
    test,
    () => start(label, backend),
    (made) => made.remove(),
  );
const tunnels = clusterOf('healing', { Type: 'vxlan' });
const plain = clusterOf('healgw', { Type: 'host-gw' });
const direct = clusterOf('healdr', { Type: 'vxlan', DirectRouting: true });

/** What matters for packets, without what a new device or table has new anyway, and without what the damage needs. */
const essence = (host: Host): string[] =>
  host
    .describe()
    .filter((line) => !line.includes('foreign0'))
    .map((line) => line.replace(/"(index|handle|peerIndex)":\s*\d+,?/g, ''));

/**
 * Breaks something and waits until all is as it was, the log and the figures say so, and the host's container reaches the
 * other host's.
 * @param isKernels it is the kernel's state that was broken, and not etcd's
 */
async function heals(
  { hosts: [one, two] }: Cluster,
  what: string,
  damage: () => void,
  isRight = () => true,
  isKernels = true,
): Promise<void> {
  const before = essence(one!);
  const from = one!.log.length;
  const healedBefore = one!.status().changes.healed;
  damage();
  const began = performance.now();
  let left: string[] = [];
  await waitFor(
    `${what} to heal`,
    () => {
      left = difference(before, essence(one!));
      if (left.length > 0) throw new Error(`${left.join('\n')}\n${one!.log.slice(from)}`);
      return isRight();
    },
    { deadlineMs: 5000 },
  );
  const ms = performance.now() - began;
  console.log(`\n  ${what}: healed in ${ms.toFixed(0)} ms`);
  assert.ok(ms < 1500, `${ms.toFixed(0)} ms`);
  if (isKernels) {
    await waitFor(`the log to say that it is healed: ${what}`, () => one!.log.slice(from).includes(' healed: '));
    const { changes } = one!.status();
    assert.ok(changes.healed > healedBefore, `${what}: ${JSON.stringify(changes)}`);
  }
  for (const address of two!.pods[0]!.addresses) {
    assert.is(ping(one!.pods[0]!.namespace, address).received, 1, `${address}\n${one!.log.slice(from)}`);
  }
}

/** The peer as host1 has it. */
const target = (family: Family): Target => {
  const [one, two] = tunnels().hosts as [Host, Host];
  return findTarget(one, family, two.addresses[family === 4 ? 0 : 1]!);
};

/** A kernel setting as the host's namespace has it. */
const readSetting = (host: Host, path: string): string =>
  execute(['cat', `/proc/sys/${path}`], { namespace: host.namespace }).stdout.trim();

async function healsDamage(damage: Damage): Promise<void> {
  const [one] = tunnels().hosts as [Host];
  const at = target(damage.family);
  const { setting } = damage;
  const isRight = setting && (() => readSetting(one, setting.path(at)) === setting.value);
  const from = one.log.length;
  await heals(tunnels(), damage.what, () => inflict(one, damage, at), isRight);
  await waitFor('the log to say so', () => one.log.length > from);
  for (const command of damage.after ?? []) one.ip(...command.split(' ').slice(1));
}

for (const family of [4, 6] as const) {
  for (const damage of tunnelDamages(family)) test(damage.what, () => healsDamage(damage));
}
for (const damage of ruleDamages) test(damage.what, () => healsDamage(damage));

test('a recreated device has the same MAC', async () => {
  const { namespace } = tunnels().hosts[0]!;
  const mac = (): string => readLink(namespace, 'flannel.1')!.mac;
  const before = mac();
  await heals(tunnels(), 'device deleted', () => tunnels().hosts[0]!.ip('link', 'del', 'flannel.1'));
  assert.is(mac(), before);
});

test('the external interface without its IPv6 address: weftd still repairs IPv4', async () => {
  const [one] = tunnels().hosts as [Host];
  const before = essence(one);
  const isTold = ({ problems }: NodeStatus): boolean =>
    problems.some((text) => text.includes('"eth0" has no IPv6 address'));
  one.ip('-6', 'addr', 'flush', 'dev', 'eth0', 'scope', 'global');
  await one.waitForStatus('the problem', isTold);
  const { subnet } = target(4);
  one.ip('route', 'del', subnet);
  await waitFor('the route', () => readRoutes(one.namespace).some(({ destination }) => destination === subnet));
  assert.ok(readLink(one.namespace, 'flannel-v6.1'), 'what is IPv6’s stays as it is');
  one.ip('-6', 'addr', 'add', `${one.addresses[1]}/64`, 'dev', 'eth0', 'nodad');
  // The kernel has taken the default route with the address, or not.
  one.ip('-6', 'route', 'replace', 'default', 'via', 'fd77::1');
  await one.waitForStatus('no problem', (status) => !isTold(status));
  await waitFor('all to be as before', () => difference(before, essence(one)).length === 0);
});

test('everything at once', () =>
  heals(tunnels(), 'everything at once', () => {
    const [one] = tunnels().hosts as [Host];
    const lines = [4, 6].map((family) => `link del ${target(family as Family).device}`);
    run(['ip', '-n', one.namespace, '-batch', '-'], { stdin: `${lines.join('\n')}\n` });
    run(['nft', 'flush', 'ruleset'], { namespace: one.namespace });
    run(['sysctl', '-qw', 'net.ipv4.ip_forward=0', 'net.ipv6.conf.all.forwarding=0'], { namespace: one.namespace });
  }));

/** The host's lease: its key, and what it says. */
function readLease({ subnet }: Host): { key: string; value: string } {
  const [key, value] = tunnels()
    .etcdctl('get', '--prefix', `${etcdPrefix}/subnets/${subnet.replace('/', '-')}`)
    .split('\n');
  return { key: key!, value: value! };
}

test('the host’s own lease is deleted in etcd', async () => {
  const [one, two] = tunnels().hosts as [Host, Host];
  const { key, value } = readLease(one);
  const before = essence(two);
  await heals(
    tunnels(),
    'own lease deleted',
    () => tunnels().etcdctl('del', key),
    () => readLease(one).value === value && difference(before, essence(two)).length === 0,
    false,
  );
});

test('a peer’s lease is overwritten with another MAC: its owner restores it, and no FDB entry is left', async () => {
  const [, two] = tunnels().hosts as [Host, Host];
  const { key, value } = readLease(two);
  const other = value.replaceAll(/"VtepMAC":"[^"]*"/g, '"VtepMAC":"02:00:00:00:0b:ad"');
  const lease = /"lease":(\d+)/.exec(tunnels().etcdctl('get', key, '-w', 'json'))![1]!;
  await heals(
    tunnels(),
    'peer’s lease overwritten',
    () => tunnels().etcdctl('put', `--lease=${BigInt(lease).toString(16)}`, key, other),
    () => readLease(two).value === value,
    false,
  );
});

for (const [kind, cluster] of [
  ['host-gw', plain],
  ['DirectRouting', direct],
] as const) {
  for (const family of [4, 6] as const) {
    const route = (): { destination: string; gateway: string } => {
      const [one, two] = cluster().hosts as [Host, Host];
      const found = readRoutes(one.namespace, family).find(({ gateway }) => two.addresses.includes(gateway ?? ''));
      return { destination: found!.destination, gateway: found!.gateway! };
    };
    const ip = (...words: string[]): string => cluster().hosts[0]!.ip(`-${family}`, ...words);
    test(`${kind}: IPv${family} route deleted`, () =>
      heals(cluster(), `${kind} IPv${family} route deleted`, () => ip('route', 'del', route().destination)));
    test(`${kind}: IPv${family} route redirected to another next hop`, () =>
      heals(cluster(), `${kind} IPv${family} route changed`, () =>
        ip('route', 'replace', route().destination, 'via', family === 4 ? '192.168.77.99' : 'fd77::99'),
      ));
    test(`${kind}: IPv${family} route made a blackhole`, () =>
      heals(cluster(), `${kind} IPv${family} route a blackhole`, () =>
        ip('route', 'replace', 'blackhole', route().destination),
      ));
  }
  test(`${kind}: the external interface's forwarding set to 0`, () =>
    heals(
      cluster(),
      `${kind} forwarding`,
      () =>
        void execute(['sysctl', '-qw', 'net/ipv4/conf/eth0/forwarding=0'], {
          namespace: cluster().hosts[0]!.namespace,
        }),
      () => readSetting(cluster().hosts[0]!, 'net/ipv4/conf/eth0/forwarding') === '1',
    ));
}

test('weftd removes unneeded entries only if they are its own', async () => {
  const [one] = tunnels().hosts as [Host];
  one.ip('route', 'add', '198.51.100.0/24', 'via', '192.168.77.1');
  await heals(tunnels(), 'route deleted beside a foreign one', () => one.ip('route', 'del', target(4).subnet));
  assert.ok(readRoutes(one.namespace).some(({ destination }) => destination === '198.51.100.0/24'));
});

test('weftd has not restarted meanwhile', () => {
  for (const cluster of [tunnels, plain, direct]) {
    for (const { weftd, logFile } of cluster().hosts) {
      assert.ok(weftd!.alive);
      assert.is(readFileSync(logFile, 'utf8').split('weftd starts').length, 2);
    }
  }
});

test.run();
