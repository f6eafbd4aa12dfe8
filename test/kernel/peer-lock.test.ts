/** The peer lock against this machine's kernel: what it drops, what it counts, and what it costs to keep. As root. */

import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import type { PeerLock } from '../../daemon/filter/peer-lock.ts';
import { sys } from '../../linux/sys-bun.ts';
import { type Address, parseAddress } from '../../net/address.ts';
import { parsePrefix } from '../../net/prefix.ts';
import { execute, run } from '../lab/commands.ts';
import { openRules, type RuleSettings, type Rules, type RulesOptions } from '../lab/filter-rules.ts';
import { addCable, insideNamespace as inside, ipBatch } from '../lab/namespaces.ts';
import { sendRaw } from '../lab/raw-packets.ts';
import { Scratch } from '../lab/scratch.ts';
import { timed, waitFor } from '../lab/wait.ts';
import { fixture } from '../support/fixture.ts';

const test = suite('peer lock');

/** Two hosts on a wire; each of the first's addresses is told from the second's by the last number. */
const host = fixture(
  test,
  () => {
    const scratch = new Scratch('lock');
    const [name, other] = scratch.addNamespaces(['host', 'other']) as [string, string];
    addCable({ namespace: name, device: 'eth0' }, { namespace: other, device: 'eth0' });
    for (const [namespace, addresses] of [
      [name, ['192.0.2.1/24', '2001:db8::1/64']],
      [other, ['192.0.2.2/24', '192.0.2.3/24', '2001:db8::2/64', '2001:db8::3/64']],
    ] as const) {
      for (const address of addresses) run(['ip', '-n', namespace, 'addr', 'add', address, 'dev', 'eth0', 'nodad']);
      run(['ip', '-n', namespace, 'link', 'set', 'eth0', 'up']);
    }
    const rules = inside(name, () => openRulesNow());
    return { scratch, name, other, rules };
  },
  ({ scratch, rules }) => {
    rules.close();
    scratch.remove();
  },
);

const lines: string[] = [];
const logger = { debug() {}, info: (line: string) => void lines.push(line), warn() {}, error() {} };
const options = (name: string): RulesOptions => ({
  name,
  now: () => 0,
  roads: () => ({ peers: [], external: 'eth0', containers: [] }),
  addresses: () => [],
});
const openRulesNow = (): Rules => {
  const rules = openRules(sys, logger, options('weft'));
  // The socket is of the namespace that it is opened in.
  rules.remove();
  return rules;
};

const nft = (...words: string[]): string => run(['nft', ...words], { namespace: host().name });
const address = (text: string): Address => parseAddress(text)!;
const containers = ['10.1.0.0/16', 'fd00::/48'].map((text) => parsePrefix(text)!);
const vxlanOuter = (vni: number): PeerLock['outer'] => {
  const header = { ipProtocol: 17, udpPort: 8472, vni } as const;
  return { 4: header, 6: header };
};
const lock: PeerLock = {
  containers,
  outer: vxlanOuter(1),
  lifeMs: 600_000,
  peers: ['192.0.2.2', '2001:db8::2'].map(address),
};
const settings: RuleSettings = {
  networks: { 4: parsePrefix('10.1.0.0/16')!, 6: parsePrefix('fd00::/48')! },
  subnets: [{ 4: parsePrefix('10.1.1.0/24')!, 6: parsePrefix('fd00:0:0:1::/64')! }],
  ipMasq: true,
  randomPorts: true,
  forward: true,
  lock,
};
const withPeers = (...peers: string[]): RuleSettings => ({ ...settings, lock: { ...lock, peers: peers.map(address) } });

/** VXLAN's header with that VNI, and something to carry. */
const vxlan = (vni: number): string => `08000000${vni.toString(16).padStart(6, '0')}00${'00'.repeat(60)}`;

const sender = `
  const [from, to, port, hex, count] = process.argv.slice(1);
  const socket = require('node:dgram').createSocket(from.includes(':') ? 'udp6' : 'udp4');
  socket.bind({ address: from }, async () => {
    for (let i = 0; i < Number(count); i++) await new Promise((resolve) => socket.send(Buffer.from(hex, 'hex'), Number(port), to, resolve));
    socket.close();
  });
`;

/** Sends so many datagrams from an address of the other host. */
function send(
  from: string,
  hex: string,
  options: { port?: number; count?: number; to?: string; namespace?: string } = {},
): void {
  const { port = 8472, count = 1, to = from.includes(':') ? '2001:db8::1' : '192.0.2.1' } = options;
  const { status, stderr } = execute([process.execPath, '-e', sender, from, to, String(port), hex, String(count)], {
    namespace: options.namespace ?? host().other,
  });
  if (status !== 0) throw new Error(stderr);
}

const dropped = (): number => host().rules.counters()!.packets;

test('only packets of its own network from hosts that are not peers are dropped, and each is counted', () => {
  const { rules } = host();
  assert.is(rules.counters(), undefined);
  assert.is(rules.ensure(settings).changes, 1);
  assert.equal(rules.counters(), { packets: 0, bytes: 0 });
  for (const peer of ['192.0.2.2', '2001:db8::2']) send(peer, vxlan(1));
  // Another network's, another port's, and what is too short to be anyone's.
  send('192.0.2.3', vxlan(2));
  send('192.0.2.3', vxlan(1), { port: 8473 });
  send('192.0.2.3', '0800');
  assert.is(dropped(), 0);
  send('192.0.2.3', vxlan(1), { count: 3 });
  assert.is(dropped(), 3);
  send('2001:db8::3', vxlan(1));
  assert.is(dropped(), 4);
  assert.ok(rules.counters()!.bytes > 4 * 68);
});

test('the senders of dropped packets are known, at most sixteen of a family; a flood of others is dropped all the same', () => {
  const { rules, name, other } = host();
  assert.equal(rules.senders(), [
    ['192.0.2.3', 3],
    ['2001:db8::3', 1],
  ]);
  const before = dropped();
  const flood = Array.from({ length: 30 }, (_, i) => `192.0.2.${100 + i}`);
  ipBatch(
    other,
    flood.map((each) => `addr add ${each}/24 dev eth0`),
  );
  for (const each of flood) sendRaw(other, each, '192.0.2.1', 17, `1234211800000000${vxlan(1)}`);
  ipBatch(
    other,
    flood.map((each) => `addr del ${each}/24 dev eth0`),
  );
  assert.is(dropped(), before + flood.length);
  assert.is(rules.senders().filter(([address]) => !address.includes(':')).length, 16);
  // Nobody else's elements: a look leaves them, and a change by others is no damage.
  assert.is(rules.ensure(settings).changes, 0);
  nft('add', 'table', 'inet', 'others');
  assert.is(rules.ensure(settings).changes, 0);
  nft('delete', 'table', 'inet', 'others');
  assert.is(rules.senders().length, 17);
  run(['nft', '-c', '-f', '-'], { namespace: name, stdin: nft('list', 'ruleset') });
});

test('fragmented packets are judged as a whole', () => {
  const before = dropped();
  send('192.0.2.3', `${vxlan(1)}${'00'.repeat(4000)}`);
  assert.is(dropped(), before + 1);
  send('192.0.2.2', `${vxlan(1)}${'00'.repeat(4000)}`);
  assert.is(dropped(), before + 1);
});

test('packets that the host forwards for others are not dropped', () => {
  const { name, other } = host();
  run(['sysctl', '-qw', 'net.ipv4.ip_forward=1'], { namespace: name });
  run(['ip', '-n', other, 'route', 'add', '198.51.100.0/24', 'via', '192.0.2.1']);
  run(['ip', '-n', name, 'route', 'add', '198.51.100.0/24', 'via', '192.0.2.2']);
  const before = dropped();
  send('192.0.2.3', vxlan(1), { to: '198.51.100.1' });
  assert.is(dropped(), before);
});

test('containers cannot send to the tunnels of peers in the name of their host', () => {
  const { name, scratch } = host();
  const namespace = scratch.addNamespace('pod');
  run(['ip', 'link', 'add', 'cni0', 'netns', name, 'type', 'veth', 'peer', 'name', 'eth0', 'netns', namespace]);
  for (const [at, link, address] of [
    [name, 'cni0', '10.1.1.1/24'],
    [namespace, 'eth0', '10.1.1.7/24'],
  ] as const) {
    run(['ip', '-n', at, 'addr', 'add', address, 'dev', link]);
    run(['ip', '-n', at, 'link', 'set', link, 'up']);
  }
  run(['ip', '-n', namespace, 'route', 'add', 'default', 'via', '10.1.1.1']);
  const before = dropped();
  // What is no peer, no tunnel's port, no packet of this network.
  send('10.1.1.7', vxlan(1), { namespace, to: '192.0.2.3' });
  send('10.1.1.7', vxlan(1), { namespace, to: '192.0.2.2', port: 8473 });
  send('10.1.1.7', vxlan(2), { namespace, to: '192.0.2.2' });
  assert.is(dropped(), before);
  send('10.1.1.7', vxlan(1), { namespace, to: '192.0.2.2', count: 2 });
  assert.is(dropped(), before + 2);
  // Nor to this host's own.
  send('10.1.1.7', vxlan(1), { namespace, to: '192.0.2.1' });
  assert.is(dropped(), before + 3);
});

test('an accept in another chain does not let forged packets in', () => {
  nft('add', 'table', 'inet', 'lax');
  nft('add', 'chain', 'inet', 'lax', 'input', '{ type filter hook input priority -400; policy accept; }');
  nft('add', 'rule', 'inet', 'lax', 'input', 'accept');
  const before = dropped();
  send('192.0.2.3', vxlan(1));
  assert.is(dropped(), before + 1);
  nft('delete', 'table', 'inet', 'lax');
});

const handles = (): string[] => nft('-a', 'list', 'table', 'inet', 'weft').match(/# handle \d+/g)!;

test('peers are added and removed in the sets alone, and counters continue', () => {
  const { rules } = host();
  const [before, places] = [dropped(), handles()];
  const three = withPeers('192.0.2.3', '2001:db8::2');
  assert.is(rules.ensure(three, { keepPeers: true }).changes, 0);
  for (const peer of ['192.0.2.2', '192.0.2.3']) send(peer, vxlan(1));
  assert.is(dropped(), before);
  assert.is(rules.ensure(three).changes, 0);
  send('192.0.2.2', vxlan(1));
  assert.is(dropped(), before + 1);
  assert.is(rules.ensure(settings).changes, 0);
  assert.equal(handles(), places);
});

test('the lock opens if it is not renewed, and the next look closes it again', async () => {
  const { rules } = host();
  const short = { ...settings, lock: { ...lock, lifeMs: 1000 } };
  const stranger = (): void => send('192.0.2.3', vxlan(1));
  assert.is(rules.ensure(short).changes, 1);
  const before = dropped();
  for (const startedAt = performance.now(); performance.now() - startedAt < 1500; ) {
    // A fault elsewhere costs the connection, and what was known of the table.
    inside(host().name, () => {
      rules.close();
      rules.renewLock();
    });
    stranger();
  }
  const renewed = dropped();
  assert.ok(renewed > before + 3);
  assert.is(rules.ensure(short).changes, 0, 'nobody has changed anything');
  await waitFor('the lock to be open', () => {
    const already = dropped();
    stranger();
    return dropped() === already;
  });
  const [count, places] = [dropped(), handles()];
  const fresh = inside(host().name, () => openRules(sys, logger, options('weft')));
  assert.is(
    inside(host().name, () => fresh.ensure(short).changes),
    0,
  );
  fresh.close();
  stranger();
  assert.is(dropped(), count + 1);
  assert.equal(handles(), places);
  assert.is(rules.ensure(settings).changes, 1);
});

test('a restarted weftd keeps the lock of the earlier one closed before it knows its peers', async () => {
  const { name, rules } = host();
  const short = { ...settings, lock: { ...lock, lifeMs: 1000 } };
  const stranger = (): void => send('192.0.2.3', vxlan(1));
  const open = (keepLock: boolean): Rules =>
    inside(name, () => openRules(sys, logger, { ...options('weft'), keepLock }));
  const [keeper, other] = [open(true), open(false)];
  assert.is(rules.ensure(short).changes, 1);
  const [before, places] = [dropped(), handles()];
  for (const startedAt = performance.now(); performance.now() - startedAt < 2000; ) {
    inside(name, () => keeper.renewLock());
    stranger();
  }
  assert.ok(dropped() > before + 3);
  assert.equal(handles(), places);
  // One that has opened stays so: whoever is in weftd's place may know of others. So it is with --peer-lock=off.
  await waitFor('the lock to be open', () => {
    inside(name, () => other.renewLock());
    const already = dropped();
    stranger();
    return dropped() === already;
  });
  inside(name, () => keeper.renewLock());
  const afterwards = dropped();
  stranger();
  assert.is(dropped(), afterwards);
  for (const each of [keeper, other]) each.close();
  assert.is(rules.ensure(settings).changes, 1);
  const nobody = open(true);
  inside(name, () => nobody.remove());
  inside(name, () => nobody.renewLock());
  nobody.close();
  assert.is(rules.ensure(settings).changes, 1);
});

test('two networks on one port judge only their own packets', () => {
  const { name } = host();
  const other = inside(name, () => openRules(sys, logger, options('weft/other')));
  const theirs = { ...settings, lock: { ...lock, outer: vxlanOuter(2), peers: [address('192.0.2.3')] } };
  assert.is(
    inside(name, () => other.ensure(theirs).changes),
    1,
  );
  const before = dropped();
  send('192.0.2.3', vxlan(2));
  send('192.0.2.2', vxlan(1));
  assert.equal([dropped(), other.counters()!.packets], [before, 0]);
  send('192.0.2.2', vxlan(2));
  assert.equal([dropped(), other.counters()!.packets], [before, 1]);
  other.remove();
  other.close();
});

test('changes to the table by others are undone, and counts are not lost', () => {
  const { rules } = host();
  const harms = [
    ['delete', 'element', 'inet', 'weft', 'peers4', '{ 192.0.2.2 }'],
    ['add', 'element', 'inet', 'weft', 'peers4', '{ 192.0.2.3 }'],
    ['flush', 'set', 'inet', 'weft', 'peers6'],
    ['flush', 'chain', 'inet', 'weft', 'postrouting'],
    ['insert', 'rule', 'inet', 'weft', 'forward', 'drop'],
    ['insert', 'rule', 'inet', 'weft', 'peer-lock', 'accept'],
    ['rename', 'chain', 'inet', 'weft', 'forward', 'backward'],
    ['add', 'chain', 'inet', 'weft', 'more'],
    ['flush', 'table', 'inet', 'weft'],
    ['delete', 'table', 'inet', 'weft'],
    ['flush', 'ruleset'],
  ];
  const counted = dropped();
  assert.ok(counted > 0);
  const list = (): string => nft('list', 'ruleset').replace(/expires \w+/, 'expires');
  const before = list();
  for (const harm of harms) {
    nft(...harm);
    assert.is.not(list(), before, harm.join(' '));
    assert.is(rules.ensure(settings).changes, 1, harm.join(' '));
    assert.is(list(), before, harm.join(' '));
    assert.is(dropped(), counted);
  }
});

test('a restarted weftd changes nothing if everything is right', () => {
  const { name, rules } = host();
  const before = [handles(), dropped()];
  const another = inside(name, () => openRules(sys, logger, options('weft')));
  assert.is(
    inside(name, () => another.ensure(settings).changes),
    0,
  );
  assert.is(another.counters()!.packets, before[1]);
  assert.equal([handles(), dropped()], before);
  another.close();
  assert.is(rules.ensure(settings).changes, 0);
});

test('with the lock switched off, none of its rules exist', () => {
  const { rules } = host();
  assert.is(rules.ensure({ ...settings, lock: undefined }).changes, 1);
  assert.not.match(nft('list', 'ruleset'), /8472|peers/);
  assert.is(rules.counters(), undefined);
  assert.is(rules.ensure(settings).changes, 1);
});

test('five thousand peers are set in one transaction, followed one by one, and not read again', async () => {
  const { rules } = host();
  const many = Array.from({ length: 5000 }, (_, i) => `192.0.${2 + (i >> 8)}.${i & 255}`);
  const figures: string[] = [];
  const measure = async (what: string, work: () => void): Promise<number> => {
    const { ms } = await timed(work);
    figures.push(`${what} ${ms.toFixed(1)} ms`);
    return ms;
  };
  const all = withPeers(...many);
  await measure('set', () => assert.is(rules.ensure(all).changes, 0));
  const nothing = await measure('nothing changed', () => assert.is(rules.ensure(all).changes, 0));
  const more = withPeers(...many, '198.51.100.1');
  await measure('one more', () => assert.is(rules.ensure(more).changes, 0));
  send('192.0.2.3', vxlan(1));
  nft('add', 'table', 'inet', 'others');
  const read = await measure('read after a change by others', () => assert.is(rules.ensure(more).changes, 0));
  nft('delete', 'element', 'inet', 'weft', 'peers4', '{ 192.0.2.3 }');
  await measure('one mended', () => assert.is(rules.ensure(more).changes, 1));
  assert.ok(nft('list', 'set', 'inet', 'weft', 'peers4').includes('192.0.2.3,'));
  await measure('all gone', () => assert.is(rules.ensure(withPeers()).changes, 0));
  console.log(`\n  5000 peers: ${figures.join(', ')}`);
  assert.ok(nothing < read);
});

test.run();
