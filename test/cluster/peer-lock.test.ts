/**
 * Only peers' VXLAN packets are accepted.
 * @alone
 */

import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { formatAddress } from '../../net/address.ts';
import { lastAddressOf, parsePrefix } from '../../net/prefix.ts';
import { startCluster } from '../lab/cluster.ts';
import { execute, run } from '../lab/commands.ts';
import type { Host } from '../lab/host.ts';
import { readLink } from '../lab/kernel-state.ts';
import { ping, reaches, startPing } from '../lab/packets.ts';
import { sendRaw } from '../lab/raw-packets.ts';
import { timed, waitFor } from '../lab/wait.ts';
import { fixture } from '../support/fixture.ts';

const test = suite('peer lock');
const cluster = fixture(
  test,
  async () => {
    const made = await startCluster('lock', { hosts: 2, arguments: ['--ip-masq'] });
    for (const host of made.hosts) host.attachPods(1);
    return made;
  },
  (made) => made.remove(),
);

const table = (host: Host): string => run(['nft', 'list', 'table', 'inet', 'weft'], { namespace: host.namespace });

const sender = `
  const [to, count, hex, source] = process.argv.slice(1);
  const socket = require('node:dgram').createSocket('udp4');
  (async () => {
    if (source) await new Promise((resolve) => socket.bind({ address: source }, resolve));
    for (let i = 0; i < Number(count); i++) await new Promise((resolve) => socket.send(Buffer.from(hex, 'hex'), 8472, to, resolve));
    socket.close();
  })();
`;

/**
 * A ping for `host`'s pod, as somebody would send it who knows the MAC of the host's tunnel device.
 * @param source the outer source, an address of the namespace `from`; by default the kernel's choice
 * @param inner the source of the ping
 */
function forge(host: Host, from: string, count: number, source = '', inner = '10.5.255.1'): void {
  const hex = (text: string): string => text.replaceAll(':', '');
  const address = (text: string): string =>
    text
      .split('.')
      .map((part) => Number(part).toString(16).padStart(2, '0'))
      .join('');
  const mac = hex(readLink(host.namespace, 'flannel.1')!.mac);
  const ip = `45000024000040004001${'0000'}${address(inner)}${address(host.pods[0]!.address)}`;
  const words = ip.match(/.{4}/g)!.map((word) => Number.parseInt(word, 16));
  const sum = words.reduce((a, b) => a + b, 0);
  const checksum = (~((sum & 0xffff) + (sum >>> 16)) & 0xffff).toString(16).padStart(4, '0');
  const packet = `${ip.slice(0, 20)}${checksum}${ip.slice(24)}0800f7ff00000000${'00'.repeat(8)}`;
  const frame = `${mac}0200000000aa0800${packet}`;
  const argv = [process.execPath, '-e', sender, host.address, String(count), `0800000000000100${frame}`, source];
  const { status, stderr } = execute(argv, { namespace: from });
  if (status !== 0) throw new Error(stderr);
}

/** Pings that have arrived in the host's first pod. */
function heard(host: Host): number {
  const text = run(['cat', '/proc/net/snmp'], { namespace: host.pods[0]!.namespace });
  const [names, values] = text.split('\n').filter((line) => line.startsWith('Icmp:')) as [string, string];
  return Number(values.split(' ')[names.split(' ').indexOf('InEchos')]);
}

test('strangers’ packets are dropped, counted and shown by status; peers’ packets pass', () => {
  const [one, two] = cluster().hosts as [Host, Host];
  assert.equal(one.status().peerLock, { enabled: true, droppedPackets: 0, droppedBytes: 0 });
  const before = heard(one);
  forge(one, cluster().switchNamespace, 5);
  assert.is(heard(one), before);
  const { droppedPackets, droppedBytes } = one.status().peerLock;
  assert.is(droppedPackets, 5);
  assert.ok(droppedBytes > 5 * 80);
  const stranger = one.status().peerLock.from![0]!;
  assert.is(stranger.packets, 5);
  const line = new RegExp(
    `Peer lock +on, 5 packets from strangers dropped\\n +lately from ${stranger.address} \\(5\\)`,
  );
  assert.match(one.weftctl('status').stdout, line);
  assert.ok(run(['ip', '-br', 'addr'], { namespace: cluster().switchNamespace }).includes(stranger.address));
  assert.is(ping(two.pods[0]!.namespace, one.pods[0]!.address).received, 1);
  assert.is(one.status().peerLock.droppedPackets, 5);
});

test('without the lock the same packets reach the container', async () => {
  const [one] = cluster().hosts as [Host];
  await one.weftd!.stop();
  one.startWeftd('--ip-masq', '--peer-lock=off');
  await one.reaches(cluster().hosts);
  assert.not.match(table(one), /peer-lock/);
  assert.match(one.weftctl('status').stdout, /Peer lock +off/);
  const before = heard(one);
  forge(one, cluster().switchNamespace, 5);
  await waitFor('the forged packets', () => heard(one) === before + 5);
  await one.weftd!.stop();
  one.startWeftd('--ip-masq');
  await one.reaches(cluster().hosts);
});

test('a new peer is let in at once: none of its packets is dropped', async () => {
  const [one] = cluster().hosts as [Host];
  const before = one.status().peerLock.droppedPackets;
  const three = cluster().addHost();
  three.startWeftd('--ip-masq');
  await three.reaches(cluster().hosts);
  const [newcomer] = three.attachPods(1);
  await waitFor('the first answer', () => reaches(newcomer!.namespace, one.pods[0]!.address));
  await one.reaches(cluster().hosts);
  assert.ok(table(one).includes(three.address));
  assert.is(ping(newcomer!.namespace, one.pods[0]!.address, { count: 3 }).received, 3);
  // Its first packets may come before the word of it.
  assert.ok(one.status().peerLock.droppedPackets - before <= 1);
});

test('a container that forges another peer’s address reaches no container, through no host', () => {
  const [one, two, three] = cluster().hosts as [Host, Host, Host];
  const forger = two.pods[0]!.namespace;
  run(['ip', '-n', forger, 'addr', 'add', `${three.address}/32`, 'dev', 'lo']);
  run(['ip', '-n', forger, 'link', 'set', 'lo', 'up']);
  for (const device of ['all', 'cni0', 'eth0']) {
    for (const { namespace } of [one, two])
      run(['sysctl', '-qw', `net.ipv4.conf.${device}.rp_filter=0`], { namespace });
  }
  const dropped = (): number[] => [one, two].map((host) => host.status().peerLock.droppedPackets);
  const before = [dropped(), heard(one), heard(two)];
  // By its own host to another one; to its own host's tunnel.
  forge(one, forger, 5, three.address);
  forge(two, forger, 3, three.address);
  run(['ip', '-n', forger, 'addr', 'del', `${three.address}/32`, 'dev', 'lo']);
  const [[fromOne, fromTwo]] = before as [[number, number]];
  assert.equal([dropped(), heard(one), heard(two)], [[fromOne, fromTwo + 8], before[1], before[2]]);
});

test('a peer sends packets of its own containers only', async () => {
  const [one, two, three] = cluster().hosts as [Host, Host, Host];
  const before = [one.status().peerLock.droppedPackets, heard(one)] as const;
  // Nobody's address, another peer's container, another peer's tunnel device, the host's own container.
  const nobody = formatAddress(lastAddressOf(parsePrefix(one.status().networks[0]!)!));
  const tunnel = three.attachPods(1)[0]!.address.replace(/\d+$/, '0');
  for (const inner of [nobody, three.pods[0]!.address, tunnel, one.pods[0]!.address]) {
    forge(one, two.namespace, 1, '', inner);
  }
  assert.equal([one.status().peerLock.droppedPackets, heard(one)], [before[0] + 4, before[1]]);
  // Its own container, its own tunnel device, and the host itself.
  for (const inner of [two.pods[0]!.address, two.pods[0]!.address.replace(/\d+$/, '0'), two.address]) {
    forge(one, two.namespace, 1, '', inner);
  }
  await waitFor('the honest packets', () => heard(one) === before[1] + 3);
  assert.is(one.status().peerLock.droppedPackets, before[0] + 4);
});

test('a container’s packet that comes in without the tunnel reaches no container', () => {
  const [one, two] = cluster().hosts as [Host, Host];
  const { switchNamespace } = cluster();
  const [from, to] = [two.pods[0]!.address, one.pods[0]!.address];
  const before = [one.status().peerLock.droppedPackets, heard(one)] as const;
  run(['ip', '-n', switchNamespace, 'addr', 'add', `${from}/32`, 'dev', 'lo']);
  run(['ip', '-n', switchNamespace, 'route', 'add', `${to}/32`, 'via', one.address]);
  sendRaw(switchNamespace, from, to, 1, '0800f7ff00000000');
  run(['ip', '-n', switchNamespace, 'addr', 'del', `${from}/32`, 'dev', 'lo']);
  assert.equal([one.status().peerLock.droppedPackets, heard(one)], [before[0] + 1, before[1]]);
  assert.is(ping(two.pods[0]!.namespace, to).received, 1);
});

test('peers that join or leave, and changes by others, neither reset the count nor stop other peers’ packets', async () => {
  const [one, two, three] = cluster().hosts as [Host, Host, Host];
  const { droppedPackets } = one.status().peerLock;
  const chain = (): string =>
    /chain peer-lock \{[^}]*\}/.exec(
      run(['nft', '-a', 'list', 'table', 'inet', 'weft'], { namespace: one.namespace }),
    )![0]!;
  const before = chain();
  const pings = startPing(cluster().scratch, two.pods[0]!.namespace, one.pods[0]!.address, 10);
  await three.weftd!.stop();
  assert.is(three.runWeftd('--leave').status, 0);
  await waitFor('the peer to be shut out', () => !table(one).includes(three.address));
  assert.is(chain(), before);
  run(['nft', 'delete', 'element', 'inet', 'weft', 'peers4', `{ ${two.address} }`], { namespace: one.namespace });
  const { ms } = await timed(() => waitFor('the peer to be let in again', () => table(one).includes(two.address)));
  run(['nft', 'delete', 'table', 'inet', 'weft'], { namespace: one.namespace });
  await waitFor('the table', () => table(one).includes(two.address));
  assert.ok(ms < 1000, `${ms}`);
  const { sent, received } = await pings.stop();
  // But for the moment in which somebody had taken it out.
  assert.ok(sent - received < ms / 10 + 3, `${sent - received} lost`);
  assert.ok(one.status().peerLock.droppedPackets >= droppedPackets);
});

test('a container cannot pose as a peer through its own host', () => {
  const [one, two] = cluster().hosts as [Host, Host];
  const before = heard(one);
  const counts = [one, two].map((host) => host.status().peerLock.droppedPackets);
  forge(one, two.pods[0]!.namespace, 5);
  assert.is(heard(one), before);
  assert.equal(
    [one, two].map((host) => host.status().peerLock.droppedPackets),
    [counts[0], counts[1]! + 5],
  );
  // Its own host's port is no way in, either.
  forge(two, two.pods[0]!.namespace, 5);
  assert.is(two.status().peerLock.droppedPackets, counts[1]! + 10);
});

test('the tunnel’s packets stay tracked while rules go by the state of connections, and status says so', async () => {
  const [one, two] = cluster().hosts as [Host, Host];
  const iptables = (words: string): string => run(['iptables-nft', ...words.split(' ')], { namespace: one.namespace });
  const says = (): boolean =>
    /Conntrack +sees the tunnel's packets: rules of "ip filter INPUT" go by the state of connections\n/.test(
      one.weftctl('status').stdout,
    );
  assert.match(table(one), /chain untracked-in/);
  assert.not.ok(says());
  iptables('-A INPUT -m state --state RELATED,ESTABLISHED -j ACCEPT');
  iptables('-A INPUT -p udp -m state --state NEW -m udp --dport 8472 -j ACCEPT');
  iptables('-A INPUT -p udp -j DROP');
  await waitFor('it to be told', says);
  assert.match(one.log, /the tunnel's packets stay tracked as connections.*ip filter INPUT/);
  assert.not.match(table(one), /untracked-in/);
  assert.is(ping(two.pods[0]!.namespace, one.pods[0]!.address).received, 1);
  iptables('-F INPUT');
  await waitFor('it to be over', () => !says());
  await waitFor('the rules', () => /chain untracked-in/.test(table(one)));
  assert.is(ping(two.pods[0]!.namespace, one.pods[0]!.address).received, 1);
});

test('a weftd that starts while etcd is unreachable keeps its predecessor’s lock closed', async () => {
  const [one] = cluster().hosts as [Host];
  await cluster().stopEtcd();
  await one.weftd!.stop();
  const seconds = (): number => {
    const [, text] = /expires (?:(\d+)s)?/.exec(table(one)) ?? [];
    return Number(text ?? 0);
  };
  await waitFor('some of its life to be over', () => seconds() < 26);
  one.startWeftd('--ip-masq');
  await waitFor('it to be renewed', () => seconds() > 27, { deadlineMs: 15_000 });
  const before = heard(one);
  forge(one, cluster().switchNamespace, 5);
  assert.is(heard(one), before);
});

test.run();
