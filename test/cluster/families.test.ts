/**
 * IPv6 alone and dual stack, by tunnel and by plain routes: every container reaches every other, at exactly the MTU.
 * The first packet must come back within a second, so nothing else runs meanwhile.
 * @alone
 */

import { readFileSync } from 'node:fs';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import type { Family } from '../../net/address.ts';
import { type Cluster, startCluster } from '../lab/cluster.ts';
import { executeAsync } from '../lab/commands.ts';
import type { Host } from '../lab/host.ts';
import { readLink, readNeighbours, readRoutes } from '../lab/kernel-state.ts';
import { askEcho, ping, startEcho } from '../lab/packets.ts';
import { waitFor } from '../lab/wait.ts';
import { fixture } from '../support/fixture.ts';

/** Headers before the payload of a ping: IP's and ICMP's. */
const pingOverhead = { 4: 28, 6: 48 } as const;

const familyOf = (address: string): Family => (address.includes(':') ? 6 : 4);

const ipv4 = { Network: '10.244.0.0/16' };
const ipv6 = { EnableIPv6: true, IPv6Network: 'fd00:10:244::/48' };

/** What is expected of a cluster whose underlay takes 1500 bytes. */
interface Expectation {
  readonly families: readonly Family[];
  readonly config: object;
  /** Of a container's interface. */
  readonly mtuBytes: number;
  /** Of each tunnel device. */
  readonly devices: Readonly<Record<string, number>>;
}

const clusters: Readonly<Record<string, Expectation>> = {
  'IPv6 alone by VXLAN': {
    families: [6],
    config: { EnableIPv4: false, ...ipv6, Backend: { Type: 'vxlan' } },
    mtuBytes: 1430,
    devices: { 'flannel-v6.1': 1430 },
  },
  'IPv6 alone by host-gw': {
    families: [6],
    config: { EnableIPv4: false, ...ipv6, Backend: { Type: 'host-gw' } },
    mtuBytes: 1500,
    devices: {},
  },
  'dual stack by VXLAN': {
    families: [4, 6],
    config: { ...ipv4, ...ipv6, Backend: { Type: 'vxlan' } },
    mtuBytes: 1430,
    devices: { 'flannel.1': 1450, 'flannel-v6.1': 1430 },
  },
  'dual stack by host-gw': {
    families: [4, 6],
    config: { ...ipv4, ...ipv6, Backend: { Type: 'host-gw' } },
    mtuBytes: 1500,
    devices: {},
  },
};

/** subnet.env as flannel writes it, for a host with these subnets. */
function subnetEnv({ config, mtuBytes }: Expectation, subnets: readonly string[]): string {
  const { Network, IPv6Network } = config as { Network?: string; IPv6Network?: string };
  const first = (family: Family): string =>
    subnets
      .find((subnet) => familyOf(subnet) === family)!
      .replace(family === 4 ? '.0/' : '::/', family === 4 ? '.1/' : '::1/');
  return [
    ...(Network ? [`FLANNEL_NETWORK=${Network}`, `FLANNEL_SUBNET=${first(4)}`] : []),
    ...(IPv6Network ? [`FLANNEL_IPV6_NETWORK=${IPv6Network}`, `FLANNEL_IPV6_SUBNET=${first(6)}`] : []),
    `FLANNEL_MTU=${mtuBytes}`,
    'FLANNEL_IPMASQ=false\n',
  ].join('\n');
}

/** The length of the longest packet between the hosts that `work` sends by the tunnel: of IP, headers included. */
async function longestOutside(host: Host, family: Family, leastBytes: number, work: () => void): Promise<number> {
  const filter = ['udp', 'port', '8472', 'and', 'greater', String(leastBytes)];
  const finished = executeAsync(['timeout', '5', 'tcpdump', '-ni', 'eth0', '-c', '1', '-v', ...filter], {
    namespace: host.namespace,
  });
  let ended = false;
  void finished.finally(() => {
    ended = true;
  });
  // Until tcpdump listens, nothing is seen.
  await waitFor('a packet between the hosts', () => {
    work();
    return ended;
  });
  const { stdout } = await finished;
  const match = /payload length: (\d+)/.exec(stdout) ?? /, length (\d+)\)/.exec(stdout);
  return Number(match?.[1]) + (family === 6 ? 40 : 0);
}

for (const [label, expected] of Object.entries(clusters)) {
  const test = suite(label);
  const cluster = fixture(
    test,
    async (): Promise<Cluster> => {
      const { families, config } = expected;
      return await startCluster('families', { hosts: 2, families, config: JSON.stringify(config) });
    },
    (made) => made.remove(),
  );

  test(`${label}: the first containers are reachable at once`, () => {
    const [here, there] = cluster().hosts.map((host) => host.attachPods(1)[0]!);
    for (const [from, to] of [
      [here!, there!],
      [there!, here!],
    ] as const) {
      for (const address of to.addresses) assert.is(ping(from.namespace, address).received, 1, address);
    }
  });

  test(`${label}: devices, routes and subnet.env`, () => {
    for (const host of cluster().hosts) {
      for (const name of ['flannel.1', 'flannel-v6.1']) {
        assert.is(readLink(host.namespace, name)?.mtu, expected.devices[name], name);
      }
      for (const family of expected.families) {
        const name = family === 4 ? 'flannel.1' : 'flannel-v6.1';
        const to = cluster().hosts.find((other) => other !== host)!;
        const route = readRoutes(host.namespace, family).find(({ destination }) => to.subnets.includes(destination))!;
        const tunnelled = name in expected.devices;
        assert.is(route.device, tunnelled ? name : 'eth0');
        const gateway = tunnelled ? to.subnets[expected.families.indexOf(family)]!.split('/')[0]! : undefined;
        assert.is(route.gateway, gateway ?? to.addresses[expected.families.indexOf(family)]);
        const neighbours = readNeighbours(host.namespace).filter(({ device }) => device === name);
        assert.equal(
          neighbours.map(({ address }) => address),
          gateway === undefined ? [] : [gateway],
        );
      }
      assert.is(readFileSync(host.subnetFile, 'utf8'), subnetEnv(expected, host.subnets));
    }
  });

  test(`${label}: TCP and UDP both ways, and the MTU is exact`, async () => {
    const [here, there] = cluster().hosts.map(({ pods }) => pods[0]!);
    for (const pod of [here!, there!]) await startEcho(cluster().scratch, pod.namespace);
    for (const [from, to] of [
      [here!, there!],
      [there!, here!],
    ] as const) {
      assert.equal(from.addresses.map(familyOf), [...expected.families]);
      assert.is(readLink(from.namespace, 'eth0')!.mtu, expected.mtuBytes);
      for (const address of to.addresses) {
        for (const protocol of ['tcp', 'udp'] as const) {
          const text = `${protocol} from ${from.name} to ${address}`;
          assert.is(await askEcho(from.namespace, protocol, address, text), text);
        }
        const most = expected.mtuBytes - pingOverhead[familyOf(address)];
        const whole = (payloadBytes: number, timeoutMs: number) =>
          ping(from.namespace, address, { payloadBytes, whole: true, timeoutMs }).received;
        assert.is(whole(most, 1000), 1, `${address}: ${most} bytes`);
        // The container's own kernel refuses it: there is nothing to be waited for.
        assert.is(whole(most + 1, 100), 0, `${address}: ${most + 1} bytes`);
        assert.is(ping(from.namespace, address, { payloadBytes: 4000 }).received, 1, 'larger ones are cut');
      }
    }
  });

  if (expected.devices['flannel-v6.1'] !== undefined) {
    test(`${label}: the longest packet fills the hosts’ network exactly`, async () => {
      const [one, two] = cluster().hosts as [Host, Host];
      const [from, to] = [one.pods[0]!, two.pods[0]!];
      const address = to.addresses.find((candidate) => familyOf(candidate) === 6)!;
      const payloadBytes = expected.mtuBytes - pingOverhead[6];
      const longest = await longestOutside(one, 6, 1400, () => {
        ping(from.namespace, address, { payloadBytes, whole: true });
      });
      assert.is(longest, 1500);
    });
  }

  test.run();
}
