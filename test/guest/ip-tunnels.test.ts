/** The backends ipip and gre on Debian's stock kernel, which has their devices: packets, exact MTU, healing. */

import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { Cluster } from '../lab/cluster.ts';
import { run } from '../lab/commands.ts';
import { patience } from '../lab/guest.ts';
import type { Host } from '../lab/host.ts';
import { readLinks } from '../lab/kernel-state.ts';
import { ping } from '../lab/packets.ts';
import { waitFor } from '../lab/wait.ts';
import { fixture } from '../support/fixture.ts';

/** etcd and two of weftd share one emulated processor. */
process.env['WEFTD_TEST_ETCD_TIMEOUT_MS'] = String(5000 * patience);

const outerMtu = 1500;
const headerBytes = { 4: 28, 6: 48 } as const;

/** What a backend makes of a host: its devices, each with the family's overhead. */
interface Expected {
  readonly name: string;
  readonly backend: object;
  readonly devices: readonly { readonly name: string; readonly family: 4 | 6; readonly overheadBytes: number }[];
}

const cases: readonly Expected[] = [
  {
    name: 'ipip, of which IPv6 is left out',
    backend: { Type: 'ipip' },
    devices: [{ name: 'flannel.ipip', family: 4, overheadBytes: 20 }],
  },
  {
    name: 'gre',
    backend: { Type: 'gre' },
    devices: [
      { name: 'weft-gre', family: 4, overheadBytes: 24 },
      { name: 'weft-gre6', family: 6, overheadBytes: 44 },
    ],
  },
  {
    name: 'gre with a key',
    backend: { Type: 'gre', Key: 7 },
    devices: [
      { name: 'weft-gre', family: 4, overheadBytes: 28 },
      { name: 'weft-gre6', family: 6, overheadBytes: 48 },
    ],
  },
];

const configOf = (backend: object): string =>
  JSON.stringify({ Network: '10.95.0.0/16', EnableIPv6: true, IPv6Network: 'fd00:95::/48', Backend: backend });

/** The routes to the other host by the devices; undefined until all is there. */
function peerRoutes(
  host: Host,
  { devices }: Expected,
): { destination: string; device: string; family: 4 | 6 }[] | undefined {
  if (!host.weftd!.alive) throw new Error(`weftd has ended:\n${host.log}`);
  const links = readLinks(host.namespace);
  const found = devices.flatMap(({ name: device, family, overheadBytes }) => {
    const link = links.find(({ name }) => name === device);
    if (link?.mtu !== outerMtu - overheadBytes || !link.up || link.addresses.length === 0) return [];
    // As text: in `ip`'s JSON the destination of an encapsulation takes the name of the route's own.
    const routes = run(['ip', `-${family}`, 'route', 'show', 'dev', device], { namespace: host.namespace });
    const destination = routes
      .split('\n')
      .map((line) => line.split(' ')[0]!)
      .find((word) => /^(10\.|fd00:).*\//.test(word));
    return destination ? [{ destination, device, family }] : [];
  });
  return found.length === devices.length ? found : undefined;
}

const programmed = (host: Host, expected: Expected, after = 'a new config') =>
  waitFor(`${host.name} to have all of ${expected.name} after ${after}`, () => peerRoutes(host, expected), {
    intervalMs: 1000,
  }).catch((error) => {
    throw new Error(`${error.message}\n${host.log}`);
  });

const test = suite('guest/ip-tunnels');
const cluster = fixture(
  test,
  async () => {
    const made = new Cluster('gt');
    try {
      await made.startEtcd();
      made.put('config', configOf(cases[0]!.backend));
      for (const number of [1, 2]) {
        const host = made.addHost();
        host.ip('addr', 'add', `fd00:77::${number}/64`, 'dev', 'eth0', 'nodad');
        host.startWeftd();
      }
      return made;
    } catch (error) {
      made.remove();
      throw error;
    }
  },
  (made) => made.remove(),
);

for (const expected of cases) {
  test(`${expected.name}: containers reach each other, with the exact MTU`, async () => {
    cluster().put('config', configOf(expected.backend));
    const hosts = cluster().hosts as [Host, Host];
    for (const host of hosts) await programmed(host, expected);
    const [here, there] = hosts.map((host) => host.attachPods(1)[0]!) as [
      ReturnType<Host['attachPods']>[0],
      ReturnType<Host['attachPods']>[0],
    ];
    assert.is(there.addresses.length, expected.devices.length);
    const mtu = outerMtu - Math.max(...expected.devices.map(({ overheadBytes }) => overheadBytes));
    for (const address of there.addresses) {
      const payloadBytes = mtu - headerBytes[address.includes(':') ? 6 : 4];
      const whole = (bytes: number) =>
        ping(here.namespace, address, { whole: true, payloadBytes: bytes, timeoutMs: 5000 });
      assert.is(whole(payloadBytes).received, 1, `${address}: the largest packet`);
      assert.is(whole(payloadBytes + 1).received, 0, `${address}: one byte more`);
    }
  });

  test(`${expected.name}: what somebody breaks is mended`, async () => {
    const host = cluster().hosts[0]!;
    for (const { destination, device, family } of (await programmed(host, expected))!) {
      host.ip(`-${family}`, 'route', 'del', destination);
      await programmed(host, expected, 'a deleted route');
      host.ip('link', 'set', device, 'mtu', '1300');
      await programmed(host, expected, 'a changed MTU');
      host.ip(`-${family}`, 'addr', 'flush', 'dev', device, 'scope', 'global');
      await programmed(host, expected, 'a deleted address');
      host.ip('link', 'del', device);
      await programmed(host, expected, 'a deleted device');
    }
    const [here, there] = cluster().hosts.map((each) => each.attachPods(1)[0]!);
    for (const address of there!.addresses) assert.is(ping(here!.namespace, address, { timeoutMs: 5000 }).received, 1);
  });
}

test.run();
