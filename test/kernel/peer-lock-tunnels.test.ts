/** The peer lock for tunnels other than VXLAN: IPIP and GRE, with packets made by hand. As root. */

import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import type { PeerLock } from '../../daemon/filter/peer-lock.ts';
import { sys } from '../../linux/sys-bun.ts';
import { type Address, parseAddress } from '../../net/address.ts';
import { parsePrefix } from '../../net/prefix.ts';
import { run } from '../lab/commands.ts';
import { openRules, type RuleSettings, type Rules } from '../lab/filter-rules.ts';
import { insideNamespace as inside } from '../lab/namespaces.ts';
import { sendRaw } from '../lab/raw-packets.ts';
import { Scratch } from '../lab/scratch.ts';
import { waitFor } from '../lab/wait.ts';
import { fixture } from '../support/fixture.ts';

const test = suite('peer lock of other tunnels');

const address = (text: string): Address => parseAddress(text)!;
const [ipip, udp, gre] = [4, 17, 47];

/** GRE's header with what its flags announce, and a few bytes to carry. */
function greHeader(options: { key?: number; checksum?: boolean; protocol?: string; version?: number } = {}): string {
  const { key, checksum = false, protocol = '0800', version = 0 } = options;
  const flags = (checksum ? 0x8000 : 0) | (key === undefined ? 0 : 0x2000) | version;
  return [
    flags.toString(16).padStart(4, '0'),
    protocol,
    checksum ? '00000000' : '',
    key === undefined ? '' : key.toString(16).padStart(8, '0'),
    '45000014',
    '00'.repeat(16),
  ].join('');
}
/** An IPv4 header without anything behind it: the kernel has no device for it, the packet filter sees it all the same. */
const innerPacket = `45000014000000004001${'00'.repeat(10)}`;

/** A host on a wire with another one, whose addresses .2 are a peer's and .3 a stranger's; and a container. */
class Bench {
  readonly scratch = new Scratch('tunnels');
  readonly host: string;
  readonly other: string;
  readonly pod: string;
  readonly opened: Rules[] = [];

  constructor() {
    const [host, other, pod] = this.scratch.addNamespaces(['host', 'other', 'pod']) as [string, string, string];
    this.host = host;
    this.other = other;
    this.pod = pod;
    const wires = [
      [
        host,
        'eth0',
        ['192.0.2.1/24', '2001:db8::1/64'],
        other,
        ['192.0.2.2/24', '192.0.2.3/24', '2001:db8::2/64', '2001:db8::3/64'],
      ],
      [host, 'cni0', ['10.1.1.1/24', 'fd00:0:0:1::1/64'], pod, ['10.1.1.7/24', 'fd00:0:0:1::7/64']],
    ] as const;
    for (const [near, device, own, far, theirs] of wires) {
      run(['ip', 'link', 'add', device, 'netns', near, 'type', 'veth', 'peer', 'name', 'eth0', 'netns', far]);
      for (const [namespace, link, addresses] of [
        [near, device, own],
        [far, 'eth0', theirs],
      ] as const) {
        for (const each of addresses) run(['ip', '-n', namespace, 'addr', 'add', each, 'dev', link, 'nodad']);
        run(['ip', '-n', namespace, 'link', 'set', link, 'up']);
      }
    }
    for (const via of ['10.1.1.1', 'fd00:0:0:1::1']) run(['ip', '-n', pod, 'route', 'add', 'default', 'via', via]);
    run(['sysctl', '-qw', 'net.ipv4.ip_forward=1', 'net.ipv6.conf.all.forwarding=1'], { namespace: host });
  }

  open(name = 'weft'): Rules {
    const silent = { debug() {}, info() {}, warn() {}, error() {} };
    const options = { name, now: () => 0, addresses: () => [] };
    const roads = () => ({ peers: [], external: 'eth0', containers: ['cni0'] });
    const rules = openRules(sys, silent, { ...options, roads });
    this.opened.push(rules);
    return rules;
  }

  /** Opens a keeper of the table and has it put the lock there. */
  lock(outer: PeerLock['outer'], name = 'weft', lifeMs = 600_000): Rules {
    const rules = this.open(name);
    assert.is(
      inside(this.host, () => rules.ensure(settingsFor(outer, lifeMs)).changes),
      1,
    );
    return rules;
  }

  from(sender: string, protocol: number, payload: string): void {
    sendRaw(this.other, sender, sender.includes(':') ? '2001:db8::1' : '192.0.2.1', protocol, payload);
  }

  clear(): void {
    for (const rules of this.opened.splice(0)) {
      inside(this.host, () => rules.remove());
      rules.close();
    }
  }
}

const settingsFor = (outer: PeerLock['outer'], lifeMs = 600_000): RuleSettings => ({
  networks: { 4: parsePrefix('10.1.0.0/16')!, 6: parsePrefix('fd00::/48')! },
  subnets: [{ 4: parsePrefix('10.1.1.0/24')!, 6: parsePrefix('fd00:0:0:1::/64')! }],
  ipMasq: false,
  randomPorts: true,
  forward: false,
  lock: {
    outer,
    lifeMs,
    peers: ['192.0.2.2', '2001:db8::2'].map(address),
    containers: ['10.1.0.0/16', 'fd00::/48'].map((text) => parsePrefix(text)!),
  },
});

const bench = fixture(
  test,
  () => new Bench(),
  (made) => {
    made.clear();
    made.scratch.remove();
  },
);

test.after.each(() => bench().clear());

const dropped = (rules: Rules): number => rules.counters()!.packets;
const strangers = ['192.0.2.3', '2001:db8::3'];
const peers = ['192.0.2.2', '2001:db8::2'];

test('IPIP: packets from others than peers are dropped and counted, other protocols are left alone', () => {
  const rules = bench().lock({ 4: { ipProtocol: 4 } });
  bench().from('192.0.2.2', ipip, innerPacket);
  bench().from('192.0.2.3', gre, greHeader());
  bench().from('192.0.2.3', udp, `1234211800080000`);
  // The network has no such tunnel by IPv6.
  bench().from('2001:db8::3', ipip, innerPacket);
  assert.is(dropped(rules), 0);
  bench().from('192.0.2.3', ipip, innerPacket);
  bench().from('192.0.2.3', ipip, innerPacket);
  assert.equal(rules.counters(), { packets: 2, bytes: 80 });
});

test('GRE with a key: packets with that key from others than peers, by both families', () => {
  const header = { ipProtocol: 47, key: 0x01020304 } as const;
  const rules = bench().lock({ 4: header, 6: header });
  const key = 0x01020304;
  for (const peer of peers) bench().from(peer, gre, greHeader({ key }));
  for (const stranger of strangers) {
    // Another network's, one's without a key, a bridge's, PPTP's, and what is too short to be anyone's.
    bench().from(stranger, gre, greHeader({ key: 7 }));
    bench().from(stranger, gre, greHeader());
    bench().from(stranger, gre, greHeader({ key, protocol: '6558' }));
    bench().from(stranger, gre, greHeader({ key, version: 1 }));
    bench().from(stranger, gre, '20000800');
  }
  assert.is(dropped(rules), 0);
  for (const [i, stranger] of strangers.entries()) {
    bench().from(stranger, gre, greHeader({ key }));
    bench().from(stranger, gre, greHeader({ key, protocol: '86dd' }));
    // The checksum moves the key; the sender may choose to have one.
    bench().from(stranger, gre, greHeader({ key, checksum: true }));
    assert.is(dropped(rules), 3 * (i + 1));
  }
});

test('GRE without a key: those without one alone', () => {
  const rules = bench().lock({ 4: { ipProtocol: 47 }, 6: { ipProtocol: 47 } });
  for (const peer of peers) bench().from(peer, gre, greHeader());
  for (const stranger of strangers) bench().from(stranger, gre, greHeader({ key: 7 }));
  assert.is(dropped(rules), 0);
  for (const stranger of strangers) {
    bench().from(stranger, gre, greHeader());
    bench().from(stranger, gre, greHeader({ checksum: true }));
  }
  assert.is(dropped(rules), 4);
  // The kernel's IPv6 takes key 0 for none, its IPv4 does not.
  for (const stranger of strangers) bench().from(stranger, gre, greHeader({ key: 0 }));
  assert.is(dropped(rules), 5);
});

test('a GRE device that takes every key: packets with and without one, but not those of bridges', () => {
  const rules = bench().lock({ 6: { ipProtocol: 47, key: 'any' } });
  bench().from('2001:db8::2', gre, greHeader({ key: 7 }));
  bench().from('2001:db8::3', gre, greHeader({ key: 7, protocol: '6558' }));
  bench().from('192.0.2.3', gre, greHeader({ key: 7 }));
  assert.is(dropped(rules), 0);
  const ours = [
    greHeader(),
    greHeader({ key: 7 }),
    greHeader({ checksum: true }),
    greHeader({ key: 8, checksum: true }),
  ];
  for (const packet of ours) bench().from('2001:db8::3', gre, packet);
  assert.is(dropped(rules), ours.length);
});

test('several networks on a host: each drops its own tunnel’s packets alone', () => {
  const tables = [
    bench().lock({ 4: { ipProtocol: 47, key: 7 } }),
    bench().lock({ 4: { ipProtocol: 47, key: 8 } }, 'weft/eight'),
    bench().lock({ 4: { ipProtocol: 47 } }, 'weft/none'),
    bench().lock({ 4: { ipProtocol: 4 } }, 'weft/ipip'),
    bench().lock({ 4: { ipProtocol: 17, udpPort: 8472, vni: 1 } }, 'weft/vxlan'),
  ];
  const packets: [protocol: number, payload: string][] = [
    [gre, greHeader({ key: 7 })],
    [gre, greHeader({ key: 8 })],
    [gre, greHeader()],
    [ipip, innerPacket],
    [udp, `1234211800100000${'0800000000000100'}`],
  ];
  const expected = tables.map(() => 0);
  for (const [i, [protocol, payload]] of packets.entries()) {
    bench().from('192.0.2.3', protocol, payload);
    expected[i] = 1;
    assert.equal(tables.map(dropped), expected);
  }
});

test('containers cannot speak to peers’ tunnels in the name of their host', () => {
  const header = { ipProtocol: 47, key: 7 } as const;
  const keyed = bench().lock({ 4: header, 6: header });
  const { pod } = bench();
  const [own4, own6] = ['10.1.1.7', 'fd00:0:0:1::7'];
  // No peer; not this network's key.
  sendRaw(pod, own4, '192.0.2.3', gre, greHeader({ key: 7 }));
  sendRaw(pod, own6, '2001:db8::3', gre, greHeader({ key: 7 }));
  sendRaw(pod, own4, '192.0.2.2', gre, greHeader({ key: 8 }));
  assert.is(dropped(keyed), 0);
  sendRaw(pod, own4, '192.0.2.2', gre, greHeader({ key: 7 }));
  sendRaw(pod, own6, '2001:db8::2', gre, greHeader({ key: 7, checksum: true }));
  assert.is(dropped(keyed), 2);
  // Nor to this host's own.
  sendRaw(pod, own4, '192.0.2.1', gre, greHeader({ key: 7 }));
  assert.is(dropped(keyed), 3);
  bench().clear();
  const plain = bench().lock({ 4: { ipProtocol: 4 } });
  sendRaw(pod, own4, '192.0.2.3', ipip, innerPacket);
  assert.is(dropped(plain), 0);
  sendRaw(pod, own4, '192.0.2.2', ipip, innerPacket);
  assert.is(dropped(plain), 1);
});

test('it opens by itself when it is not renewed; a weftd that starts anew changes nothing where all is right', async () => {
  const outer = { 4: { ipProtocol: 4 } } as const;
  const rules = bench().lock(outer, 'weft', 1000);
  const stranger = (): void => bench().from('192.0.2.3', ipip, innerPacket);
  for (const startedAt = performance.now(); performance.now() - startedAt < 1500; ) {
    inside(bench().host, () => rules.renewLock());
    const before = dropped(rules);
    stranger();
    assert.is(dropped(rules), before + 1);
  }
  await waitFor('the lock to be open', () => {
    const already = dropped(rules);
    stranger();
    return dropped(rules) === already;
  });
  const [count, handles] = [
    dropped(rules),
    () => run(['nft', '-a', 'list', 'table', 'inet', 'weft'], { namespace: bench().host }).match(/# handle \d+/g)!,
  ];
  const places = handles();
  const fresh = bench().open();
  assert.is(
    inside(bench().host, () => fresh.ensure(settingsFor(outer, 1000)).changes),
    0,
  );
  stranger();
  assert.is(dropped(fresh), count + 1);
  assert.equal(handles(), places);
  const renewing = { 4: { ipProtocol: 47, key: 7 } } as const;
  assert.is(
    inside(bench().host, () => fresh.ensure(settingsFor(renewing)).changes),
    1,
  );
  const another = bench().open();
  assert.is(
    inside(bench().host, () => another.ensure(settingsFor(renewing)).changes),
    0,
    'GRE’s rules are read back as they were written',
  );
});

test.run();
