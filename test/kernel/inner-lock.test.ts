/**
 * Packets of the tunnel whose inner source is not the sender's: what this machine's kernel drops. As root.
 * @guest
 */

import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { type InnerLock, innerLockContent, innerLockPart } from '../../daemon/filter/inner-lock.ts';
import type { Placement } from '../../daemon/filter/part.ts';
import type { PeerLock } from '../../daemon/filter/peer-lock.ts';
import { sys } from '../../linux/sys-bun.ts';
import { parseAddress } from '../../net/address.ts';
import { parsePrefix } from '../../net/prefix.ts';
import { run } from '../lab/commands.ts';
import { openRules, type RuleSettings, type Rules } from '../lab/filter-rules.ts';
import { addCable, insideNamespace as inside, ipBatch } from '../lab/namespaces.ts';
import { sendRaw } from '../lab/raw-packets.ts';
import { Scratch } from '../lab/scratch.ts';
import { timed } from '../lab/wait.ts';
import { fixture } from '../support/fixture.ts';

const test = suite('inner lock');

const vxlanOuter = { ipProtocol: 17, udpPort: 8472, vni: 1 } as const;
const networks = { 4: parsePrefix('10.1.0.0/16')!, 6: parsePrefix('fd00::/48')! };
const placement = (host: string, subnet: string): Placement => ({
  host: parseAddress(host)!,
  subnet: parsePrefix(subnet)!,
});
const placements = [
  placement('192.0.2.2', '10.1.2.0/24'),
  placement('192.0.2.2', '10.1.128.0/20'),
  placement('192.0.2.3', '10.1.3.0/24'),
  placement('2001:db8::2', 'fd00:0:0:2::/64'),
  placement('2001:db8::3', 'fd00:0:0:3::/64'),
];
const inner: InnerLock = {
  outer: { 4: vxlanOuter, 6: vxlanOuter },
  networks,
  spared: [],
  placed: { placementSource: placements, placements },
  lengths: { 4: [20, 24], 6: [64] },
};
const withPlacements = (list: readonly Placement[]): Partial<InnerLock> => ({
  placed: { placementSource: list, placements: list },
});
const rulesFor = (outer: PeerLock['outer']): RuleSettings => ({
  networks,
  subnets: [{ 4: parsePrefix('10.1.1.0/24')!, 6: parsePrefix('fd00:0:0:1::/64')! }],
  ipMasq: false,
  randomPorts: true,
  forward: false,
  lock: {
    outer,
    lifeMs: 600_000,
    peers: ['192.0.2.2', '192.0.2.3', '2001:db8::2', '2001:db8::3'].map((text) => parseAddress(text)!),
    containers: [],
  },
});

class Bench {
  readonly scratch = new Scratch('inner');
  readonly host = this.scratch.addNamespace('host');
  readonly other = this.scratch.addNamespace('other');
  readonly rules: Rules;

  constructor() {
    addCable({ namespace: this.host, device: 'eth0' }, { namespace: this.other, device: 'eth0' });
    const add = (addresses: string): string[] => [
      ...addresses.split(' ').map((address) => `addr add ${address} dev eth0 nodad`),
      'link set eth0 up',
    ];
    ipBatch(this.host, add('192.0.2.1/24 2001:db8::1/64'));
    ipBatch(this.other, add('192.0.2.2/24 192.0.2.3/24 192.0.2.4/24 2001:db8::2/64 2001:db8::3/64'));
    // No packet waits for the host's MAC, and no receipt of a packet depends on a checksum.
    const mac = /link\/ether (\S+)/.exec(run(['ip', 'link', 'show', 'eth0'], { namespace: this.host }))![1]!;
    ipBatch(
      this.other,
      ['192.0.2.1', '2001:db8::1'].map((address) => `neigh add ${address} lladdr ${mac} dev eth0`),
    );
    const silent = { debug() {}, info() {}, warn() {}, error() {} };
    const roads = () => ({ peers: [], external: 'eth0', containers: [] });
    this.rules = openRules(sys, silent, { name: 'weft', now: () => 0, addresses: () => [], roads });
  }

  set(changed: Partial<InnerLock> = {}, keepPeers = false): number {
    const lock = { ...inner, ...changed };
    return inside(
      this.host,
      () => this.rules.ensure(rulesFor(lock.outer), { keepPeers }, [innerLockContent(lock)]).changes,
    );
  }

  get dropped(): number {
    return this.rules.counters(innerLockPart)!.packets;
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

const hex = (value: number, digits = 4): string => value.toString(16).padStart(digits, '0');
const addressHex = (text: string): string => Buffer.from(parseAddress(text)!.bytes).toString('hex');

/** An IP packet's header with this source, and a few bytes. */
const packetFrom = (source: string): string =>
  source.includes(':')
    ? `6000000000083bff${addressHex(source)}${addressHex('fd00:0:0:1::7')}${'00'.repeat(8)}`
    : `4500001c00000000403d0000${addressHex(source)}${addressHex('10.1.1.7')}${'00'.repeat(8)}`;
const etherType = (source: string): string => (source.includes(':') ? '86dd' : '0800');
const frame = (type: string, payload: string): string => `0200000000010200000000aa${type}${payload}`;
const vxlanWith = (inner: string, vni = 1): string => {
  const body = `08000000${hex(vni, 6)}00${inner}`;
  return `1234${hex(8472)}${hex(body.length / 2 + 8)}0000${body}`;
};
const vxlan = (source: string): string => vxlanWith(frame(etherType(source), packetFrom(source)));

type Packet = [outer: string, protocol: number, payload: string];
const [ipip, udp, gre, fragment] = [4, 17, 47, 44];

/** How many of the packets were dropped for their inner source; others are not dropped at all. */
function drops(...packets: Packet[]): number {
  const { rules, other } = bench();
  const [before, strangers] = [bench().dropped, rules.counters()!.packets];
  for (const [outer, protocol, payload] of packets) {
    sendRaw(other, outer, outer.includes(':') ? '2001:db8::1' : '192.0.2.1', protocol, payload);
  }
  assert.is(rules.counters()!.packets, strangers);
  return bench().dropped - before;
}
const [two, three, two6, three6] = ['192.0.2.2', '192.0.2.3', '2001:db8::2', '2001:db8::3'];

test('a source inside the network comes from the peer that holds its subnet', () => {
  assert.is(bench().set(), 1);
  assert.is(bench().set(), 0, 'the rules are read back as they were written');
  const send = (outer: string, ...sources: string[]): Packet[] => sources.map((source) => [outer, udp, vxlan(source)]);
  // Its containers, its tunnel device, all its subnets.
  assert.is(drops(...send(two, '10.1.2.7', '10.1.2.0', '10.1.128.1', '10.1.143.255')), 0);
  assert.is(drops(...send(three, '10.1.3.7')), 0);
  assert.is(drops(...send(two6, 'fd00:0:0:2::7', 'fd00:0:0:2::')), 0);
  // Another peer's, this host's own, nobody's.
  assert.is(drops(...send(two, '10.1.3.7', '10.1.3.0', '10.1.1.7', '10.1.9.9', '10.1.144.0')), 5);
  assert.is(drops(...send(three6, 'fd00:0:0:2::7', 'fd00:0:0:1::7', 'fd00:0:0:9::')), 3);
});

test('sources outside of the networks pass: hosts’, multicast, link-local', () => {
  const sources = ['192.0.2.2', '198.51.100.7', '224.0.0.5', '0.0.0.0', '10.2.0.1'];
  assert.is(drops(...sources.map((source): Packet => [two, udp, vxlan(source)])), 0);
  assert.is(drops(...['fe80::1', '2001:db8::9', '::'].map((source): Packet => [two6, udp, vxlan(source)])), 0);
});

test('a packet of the other family is judged by its own network', () => {
  assert.is(drops([two, udp, vxlan('fd00:0:0:2::7')], [two6, udp, vxlan('10.1.2.7')]), 2);
  assert.is(drops([two, udp, vxlan('fe80::1')], [two6, udp, vxlan('192.0.2.9')]), 0);
});

test('ARP passes; frames with a VLAN tag do not, nor what is cut', () => {
  const arp = `00010800060400010200000000aa${addressHex('10.1.3.7')}000000000000${addressHex('10.1.1.7')}`;
  assert.is(drops([two, udp, vxlanWith(frame('0806', arp))], [two, udp, vxlanWith(frame('88cc', '00'.repeat(46)))]), 0);
  const tagged = (tag: string): Packet => [
    two,
    udp,
    vxlanWith(frame(tag, `0000${etherType(three)}${packetFrom('10.1.3.7')}`)),
  ];
  assert.is(drops(tagged('8100'), tagged('88a8')), 2);
  const whole = vxlan('10.1.2.7');
  // In the Ethernet header; in the IP header, before its source.
  assert.is(drops([two, udp, vxlanWith('0200')], [two, udp, whole.slice(0, 2 * (8 + 8 + 14 + 11))]), 2);
  // Another network's, whatever it carries.
  assert.is(drops([two, udp, vxlanWith(frame('0800', packetFrom('10.1.3.7')), 2)]), 0);
});

test('fragments: whole over IPv4; over IPv6 a first one that hides what it carries is dropped', () => {
  const long = (source: string): string =>
    vxlanWith(frame(etherType(source), `${packetFrom(source)}${'00'.repeat(4000)}`));
  assert.is(drops([two, udp, long('10.1.2.7')], [two, udp, long('10.1.3.7')]), 1);
  const first = (payload: string): string => `${hex(udp, 2)}0000010000${hex(7, 4)}${payload}`;
  const whole = vxlan('fd00:0:0:2::7');
  const cutTo = (bytes: number): Packet => [two6, fragment, first(whole.slice(0, 2 * bytes))];
  const foreign = vxlanWith('00'.repeat(40), 2);
  // Only the UDP header; up to the VNI; to the middle of the inner header.
  assert.is(drops(cutTo(8), cutTo(16), cutTo(40)), 3);
  assert.is(drops(cutTo(72), [two6, fragment, first(foreign.slice(0, 2 * 24))]), 0);
});

test('a subnet that moves to another host has both for a moment', () => {
  const moved = placements.map((each) =>
    each.subnet.address.bytes[2] === 3 ? placement('192.0.2.4', '10.1.3.0/24') : each,
  );
  assert.is(bench().set(withPlacements(moved), true), 0, 'no rule is touched');
  assert.is(drops([three, udp, vxlan('10.1.3.7')]), 0);
  const elements = (): string => run(['nft', 'list', 'set', 'inet', 'weft', 'inner4-24'], { namespace: bench().host });
  assert.match(elements(), /192\.0\.2\.4 \. 0x0?a010300/);
  assert.is(bench().set(withPlacements(moved)), 0);
  assert.not.match(elements(), /192\.0\.2\.3/);
  assert.is(drops([three, udp, vxlan('10.1.3.7')]), 1);
  assert.is(bench().set(), 0);
});

test('hosts whose network is a part of the cluster’s send in their own name, too', () => {
  const spared = [parsePrefix('10.1.200.0/24')!];
  assert.is(drops([two, udp, vxlan('10.1.200.9')]), 1);
  assert.is(bench().set({ spared }), 1);
  assert.is(drops([two, udp, vxlan('10.1.200.9')]), 0);
  assert.is(drops([two, udp, vxlan('10.1.3.7')]), 1);
  assert.is(bench().set(), 1);
});

test('IPIP', () => {
  assert.is(bench().set({ outer: { 4: { ipProtocol: 4 } } }), 1);
  assert.is(bench().set({ outer: { 4: { ipProtocol: 4 } } }), 0);
  const from = (source: string): Packet => [two, ipip, packetFrom(source)];
  assert.is(drops(from('10.1.2.7'), from('10.1.128.7'), from('192.0.2.2'), from('10.2.0.1')), 0);
  assert.is(drops(from('10.1.3.7'), from('10.1.1.7'), [two, ipip, packetFrom('10.1.2.7').slice(0, 24)]), 3);
});

function greWith(
  options: { key?: number; checksum?: boolean; sequence?: boolean; type?: string },
  source: string,
): string {
  const { key, checksum = false, sequence = false, type = etherType(source) } = options;
  const flags = (checksum ? 0x8000 : 0) | (key === undefined ? 0 : 0x2000) | (sequence ? 0x1000 : 0);
  const option = (isThere: boolean, value = 0): string => (isThere ? hex(value, 8) : '');
  return [
    hex(flags),
    type,
    option(checksum),
    option(key !== undefined, key),
    option(sequence, 1),
    packetFrom(source),
  ].join('');
}

for (const key of [undefined, 7]) {
  test(`GRE ${key === undefined ? 'without a key' : 'with a key'}, with every option of its header`, () => {
    const outer: PeerLock['outer'] = {
      4: { ipProtocol: 47, ...(key === undefined ? {} : { key }) },
      6: { ipProtocol: 47, key: 'any' },
    };
    assert.is(bench().set({ outer }), 1);
    assert.is(bench().set({ outer }), 0);
    const keyed = key === undefined ? {} : { key };
    const options = [false, true].flatMap((checksum) =>
      [false, true].map((sequence) => ({ checksum, sequence, ...keyed })),
    );
    const all = (outerSource: string, source: string): Packet[] =>
      options.map((each) => [outerSource, gre, greWith(each, source)]);
    assert.is(drops(...all(two, '10.1.2.7'), ...all(two, '198.51.100.1'), ...all(two6, 'fd00:0:0:2::7')), 0);
    assert.is(drops(...all(two, '10.1.3.7'), ...all(two6, 'fd00:0:0:3::7')), 8);
    assert.is(drops([two6, gre, greWith({ key: 99 }, 'fd00:0:0:3::7')]), 1);
    assert.is(drops(...all(two, 'fd00:0:0:2::7'), ...all(two6, '10.1.2.7')), 8, 'the other family');
    // The kernel takes it for IP.
    assert.is(drops([two, gre, greWith({ type: '883e', ...keyed }, '10.1.3.7')]), 1);
    // Another network's; a bridge's.
    assert.is(
      drops([two, gre, greWith({ key: 8 }, '10.1.3.7')], [two, gre, greWith({ type: '6558', ...keyed }, '10.1.3.7')]),
      0,
    );
  });
}

test('nft reads back what it lists, so that a saved ruleset can be loaded', () => {
  const outers: PeerLock['outer'][] = [
    { 4: vxlanOuter, 6: vxlanOuter },
    { 4: { ipProtocol: 4 } },
    { 4: { ipProtocol: 47, key: 7 }, 6: { ipProtocol: 47, key: 'any' } },
  ];
  for (const outer of outers) {
    assert.is(bench().set({ outer }), 1);
    const list = ['nft', 'list', 'ruleset'];
    const text = run(list, { namespace: bench().host });
    run(['nft', '-c', '-f', '-'], { namespace: bench().host, stdin: text });
    assert.ok(text.includes('goto inner-lock4'));
  }
});

test('five thousand pairs are set in one transaction, and followed one by one', async () => {
  const many = Array.from({ length: 5000 }, (_, i) =>
    placement(`192.${i >> 8}.2.${i & 255}`, `10.${i >> 8}.${i & 255}.0/24`),
  );
  const figures: string[] = [];
  const measure = async (what: string, work: () => void): Promise<void> => {
    figures.push(`${what} ${(await timed(work)).ms.toFixed(1)} ms`);
  };
  assert.is(bench().set(), 1);
  await measure('set', () => assert.is(bench().set(withPlacements(many)), 0));
  await measure('one more', () => assert.is(bench().set(withPlacements([...many, placements[2]!])), 0));
  run(['nft', 'delete', 'element', 'inet', 'weft', 'inner4-24', '{ 192.0.2.7 . 0x0a000700 }'], {
    namespace: bench().host,
  });
  await measure('one mended', () => assert.is(bench().set(withPlacements([...many, placements[2]!])), 1));
  await measure('all gone', () => assert.is(bench().set(withPlacements([])), 0));
  console.log(`\n  5000 pairs: ${figures.join(', ')}`);
});

test.run();
