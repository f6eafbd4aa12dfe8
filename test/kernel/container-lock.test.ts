/**
 * Where the cluster's packets may come in: what this machine's kernel drops of forged ones. As root.
 * @guest
 */

import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { type ContainerLock, containerLockContent, containerLockPart } from '../../daemon/filter/container-lock.ts';
import type { PeerLock } from '../../daemon/filter/peer-lock.ts';
import { sys } from '../../linux/sys-bun.ts';
import { parseAddress } from '../../net/address.ts';
import { parsePrefix } from '../../net/prefix.ts';
import { run } from '../lab/commands.ts';
import { openRules, type RuleSettings, type Rules } from '../lab/filter-rules.ts';
import { readLink } from '../lab/kernel-state.ts';
import { addCable, insideNamespace as inside, ipBatch } from '../lab/namespaces.ts';
import { sendRaw } from '../lab/raw-packets.ts';
import { Scratch } from '../lab/scratch.ts';
import { waitFor } from '../lab/wait.ts';
import { fixture } from '../support/fixture.ts';

const test = suite('container lock');

const header = { ipProtocol: 17, udpPort: 8472, vni: 1 } as const;
const lock: PeerLock = {
  outer: { 4: header, 6: header },
  lifeMs: 600_000,
  peers: ['192.0.2.2', '192.0.2.3', '172.17.0.9', '2001:db8::2', '2001:db8::3'].map((text) => parseAddress(text)!),
  containers: [],
};
const settings: RuleSettings = {
  networks: { 4: parsePrefix('10.1.0.0/16')!, 6: parsePrefix('fd00::/48')! },
  subnets: [{ 4: parsePrefix('10.1.1.0/24')!, 6: parsePrefix('fd00:0:0:1::/64')! }],
  ipMasq: false,
  randomPorts: true,
  forward: false,
  lock,
};
const links = { external: 'eth0', inner: ['cni0', 'docker0', 'flannel.1'], networks: [], addresses: {} };
const ways: ContainerLock = { ...lock, prefixes: settings, links, isTunnelOnly: true, hasFib: true };

/** The host's device, what is at its far end, and the addresses of both; then others' addresses that the far end forges. */
const wires: readonly (readonly [device: string, end: string, own: string, theirs: string, forged: string])[] = [
  [
    'eth0',
    'lan',
    '192.0.2.1/24 2001:db8::1/64',
    '192.0.2.2/24 192.0.2.3/24 192.0.2.4/24 2001:db8::2/64 2001:db8::3/64',
    '10.1.2.7/32 10.1.1.9/32 10.1.9.9/32 fd00:0:0:2::7/128 fd00:0:0:1::1/128',
  ],
  [
    'cni0',
    'pod',
    '10.1.1.1/24 fd00:0:0:1::1/64',
    '10.1.1.7/24 fd00:0:0:1::7/64',
    '192.0.2.3/32 2001:db8::3/128 2001:db8::1/128',
  ],
  ['docker0', 'docker', '172.17.0.1/16', '172.17.0.2/16 172.17.0.9/16', '192.0.2.1/32'],
  ['flannel.1', 'far', '10.1.2.1/24 fd00:0:0:2::1/64', '10.1.2.7/24 fd00:0:0:2::7/64', '192.0.2.3/32'],
];

class Bench {
  readonly scratch = new Scratch('ways');
  readonly host = this.scratch.addNamespace('host');
  readonly ends: Record<string, string> = {};
  readonly rules: Rules;

  constructor() {
    const words = (text: string): string[] => text.split(' ').filter((word) => word !== '');
    const off = (name: string): string => `net.ipv4.conf.${name.replace('.', '/')}.rp_filter=0`;
    for (const [device, name, own, theirs, others] of wires) {
      const end = this.scratch.addNamespace(name);
      this.ends[name] = end;
      addCable({ namespace: this.host, device }, { namespace: end, device: 'eth0' });
      const add = (text: string, link: string): string[] =>
        words(text).map((address) => `addr add ${address} dev ${link} nodad`);
      ipBatch(this.host, [...add(own, device), `link set ${device} up`]);
      const defaults = words(own).map((address) => `route add default via ${address.split('/')[0]}`);
      ipBatch(end, [...add(theirs, 'eth0'), 'link set eth0 up', 'link set lo up', ...add(others, 'lo'), ...defaults]);
      // No packet waits for the host's MAC.
      const { mac } = readLink(this.host, device)!;
      ipBatch(
        end,
        words(own).map((address) => `neigh add ${address.split('/')[0]} lladdr ${mac} dev eth0`),
      );
    }
    ipBatch(this.host, ['route add default via 192.0.2.4']);
    const settings = ['net.ipv4.ip_forward=1', 'net.ipv6.conf.all.forwarding=1'];
    run(['sysctl', '-qw', ...settings, ...['all', ...wires.map(([device]) => device)].map(off)], {
      namespace: this.host,
    });
    const silent = { debug() {}, info() {}, warn() {}, error() {} };
    const roads = () => ({ peers: [], external: 'eth0', containers: ['cni0'] });
    this.rules = openRules(sys, silent, { name: 'weft', now: () => 0, addresses: () => [], roads });
  }

  set(changed: Partial<ContainerLock> = {}): number {
    const further = [containerLockContent({ ...ways, ...changed })];
    return inside(this.host, () => this.rules.ensure(settings, {}, further).changes);
  }

  send(from: string, source: string, to: string, protocol: number, payload: string): void {
    sendRaw(this.ends[from]!, source, to, protocol, payload);
  }

  get dropped(): number {
    return this.rules.counters(containerLockPart)!.packets;
  }
}

const bench = fixture(
  test,
  () => new Bench(),
  ({ rules, scratch }) => {
    rules.close();
    scratch.remove();
  },
);

/** VXLAN by UDP, without a checksum: over IPv6 nobody takes it, but the packet filter sees it. */
function vxlan(port = 8472, vni = 1): string {
  const hex = (value: number, digits = 4): string => value.toString(16).padStart(digits, '0');
  const body = `08000000${hex(vni, 6)}00${'00'.repeat(60)}`;
  return `1234${hex(port)}${hex(body.length / 2 + 8)}0000${body}`;
}
const udp = 17;
/** Any protocol that the kernel leaves alone. */
const experiment = 253;

type Packet = [from: string, source: string, to: string, protocol?: number, payload?: string];

/** How many of the packets were dropped. */
function drops(...packets: Packet[]): number {
  const before = bench().dropped;
  for (const [from, source, to, protocol = udp, payload = vxlan()] of packets) {
    bench().send(from, source, to, protocol, payload);
  }
  return bench().dropped - before;
}

test('containers send nothing to peers’ tunnels in the name of a peer or of their host', () => {
  assert.is(bench().set(), 1);
  assert.is(bench().set(), 0, 'the rules are read back as they were written');
  assert.is(drops(['pod', '192.0.2.3', '192.0.2.2'], ['pod', '2001:db8::3', '2001:db8::2']), 2);
  // Over IPv4 the kernel itself drops packets with this host's own address.
  assert.is(drops(['docker', '192.0.2.1', '192.0.2.2'], ['pod', '2001:db8::1', '2001:db8::2']), 1);
  // To no peer, to another port, of another network.
  const others: Packet[] = [
    ['pod', '192.0.2.3', '192.0.2.4'],
    ['pod', '192.0.2.3', '192.0.2.2', udp, vxlan(8473)],
    ['pod', '192.0.2.3', '192.0.2.2', udp, vxlan(8472, 2)],
  ];
  assert.is(drops(...others), 0);
});

test('Docker’s containers send nothing to peers’ tunnels, unless such a container is a peer', () => {
  assert.is(drops(['docker', '172.17.0.2', '192.0.2.2']), 1);
  assert.is(drops(['docker', '172.17.0.9', '192.0.2.2'], ['lan', '192.0.2.2', '172.17.0.9']), 0);
});

test('the tunnel takes no packets that come in by interfaces of containers, or through the tunnel', () => {
  assert.is(drops(['pod', '192.0.2.3', '192.0.2.1'], ['pod', '192.0.2.3', '10.1.1.1']), 2);
  assert.is(drops(['pod', '2001:db8::3', 'fd00:0:0:1::1']), 1);
  assert.is(drops(['far', '192.0.2.3', '10.1.2.1']), 1);
  assert.is(drops(['lan', '192.0.2.3', '192.0.2.1'], ['lan', '2001:db8::3', '2001:db8::1']), 0);
  assert.is(drops(['docker', '172.17.0.9', '172.17.0.1']), 0);
});

test('containers’ packets come through the tunnel, not from the local network', () => {
  const plain = (source: string, to: string): Packet => ['lan', source, to, experiment, '00'];
  const forged = [
    plain('10.1.2.7', '10.1.1.7'),
    plain('10.1.1.9', '10.1.1.7'),
    plain('fd00:0:0:2::7', 'fd00:0:0:1::7'),
    plain('fd00:0:0:1::1', 'fd00:0:0:1::7'),
  ];
  assert.is(drops(...forged), 4);
  // Of an address that no node has; to the host itself; from others; through the tunnel.
  assert.is(drops(plain('10.1.9.9', '10.1.1.7'), plain('10.1.2.7', '192.0.2.1'), plain('192.0.2.4', '10.1.1.7')), 0);
  assert.is(drops(['far', '10.1.2.7', '10.1.1.7', experiment, '00']), 0);
  assert.is(bench().set({ isTunnelOnly: false }), 1);
  assert.is(drops(...forged), 0, 'where plain routes are in use');
  assert.is(bench().set(), 1);
});

test('interfaces that come and go are changed in the set alone', () => {
  const less = { links: { ...links, inner: ['cni0', 'flannel.1'] } };
  assert.is(bench().set(less), 0);
  assert.is(drops(['docker', '172.17.0.2', '192.0.2.2']), 0);
  assert.is(bench().set(), 0);
  assert.is(drops(['docker', '172.17.0.2', '192.0.2.2']), 1);
});

test('all of it ends with the peer lock, unless it is renewed', async () => {
  assert.is(bench().set({ lifeMs: 1000 }), 1);
  await waitFor('the lock to be open', () => drops(['lan', '10.1.2.7', '10.1.1.7', experiment, '00']) === 0);
  inside(bench().host, () => bench().rules.renewLock());
  assert.is(drops(['lan', '10.1.2.7', '10.1.1.7', experiment, '00'], ['pod', '192.0.2.3', '192.0.2.2']), 2);
});

test.run();
