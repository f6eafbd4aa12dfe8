import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { PathHealth, type ProbedNetwork } from '../../../../daemon/probes/path-health.ts';
import { Survey } from '../../../../daemon/probes/survey.ts';
import type { ProbedPeer } from '../../../../daemon/probes/targets.ts';
import type { EchoPort } from '../../../../daemon/probes/volley.ts';
import { openLogger } from '../../../../daemon/report/log.ts';
import type { Received } from '../../../../linux/echo-socket.ts';
import { type Address, formatAddress, parseAddress } from '../../../../net/address.ts';
import { networkOf, parsePrefix } from '../../../../net/prefix.ts';

const peer = (number: number): ProbedPeer => ({
  path: 'vxlan',
  lease: {
    ownerId: String(number),
    subnets: { 4: parsePrefix(`10.5.${number >> 8}.${number & 0xff}/32`)! },
    publicAddresses: { 4: parseAddress(`192.0.${number >> 8}.${number & 0xff}`)! },
    backendType: 'vxlan',
    backendData: {},
    node: `host${number}`,
    reservation: false,
    ofFlannel: false,
    seniority: '1',
    handle: undefined,
  },
});

const backend = { tunnelAddress: (subnet: { address: Address; length: number }) => networkOf(subnet).address };

/** A network whose peers answer unless they are down; replies can be changed on their way. */
class Wire {
  nowMs = 0;
  readonly down = new Set<string>();
  readonly sent: { readonly to: string; readonly atMs: number }[] = [];
  open = 0;
  change: (reply: Received) => readonly (Received | 'other')[] = (reply) => [reply];
  mtuBytes = 1500;
  readonly lines: string[] = [];
  readonly #queue: (Received | 'other')[] = [];

  socket(): EchoPort {
    this.open++;
    return {
      family: 4,
      send: (target, sequence, payload) => {
        const to = formatAddress(target);
        this.sent.push({ to, atMs: this.nowMs });
        if (this.down.has(to) || payload.length + 28 > this.mtuBytes) return true;
        this.#queue.push(...this.change({ source: target, sequence: sequence & 0xffff, payload: payload.slice() }));
        return true;
      },
      receive: () => this.#queue.shift(),
      close: () => void this.open--,
    };
  }

  health(network: () => ProbedNetwork | undefined): PathHealth {
    return new PathHealth({
      network,
      open: () => this.socket(),
      randomBytes: (count) => new Uint8Array(count).fill(9),
      logger: openLogger({ level: 'info', format: 'text', write: (line) => this.lines.push(line), now: () => 0 }),
      now: () => this.nowMs,
      time: () => this.nowMs,
    });
  }

  /** Runs the task as its schedule does. */
  runFor(health: PathHealth, ms: number): void {
    for (const end = this.nowMs + ms; this.nowMs < end; ) this.nowMs += health.run();
  }
}

const network = (count: number): ProbedNetwork => ({
  own: { 4: parsePrefix('10.5.255.0/24')! },
  backend,
  peers: Array.from({ length: count }, (_, i) => peer(i + 1)),
});

for (const [count, perSecond] of [
  [120, 50],
  [2000, 10],
] as const) {
  test(`each of ${count} peers is asked at most once a minute, and at most ${perSecond} are asked a second, 50 at once`, () => {
    const wire = new Wire();
    const state = network(count);
    const health = wire.health(() => state);
    wire.runFor(health, 600_000);
    const times = new Map<string, number>();
    for (const { to, atMs } of wire.sent) {
      assert.ok(atMs - (times.get(to) ?? Number.NEGATIVE_INFINITY) >= 60_000);
      times.set(to, atMs);
    }
    assert.is(times.size, count);
    const mostIn = (windowMs: number): number => {
      const windows = new Map<number, number>();
      for (const { atMs } of wire.sent) {
        const window = Math.floor(atMs / windowMs);
        windows.set(window, (windows.get(window) ?? 0) + 1);
      }
      return Math.max(...windows.values());
    };
    assert.ok(mostIn(1000) <= 50);
    assert.ok(mostIn(5000) <= 5 * perSecond);
    assert.is(health.status.asked, count);
    assert.is(health.silentCount, 0);
  });
}

test('a peer that missed two rounds is silent until it answers; one that has left is forgotten', () => {
  const wire = new Wire();
  let state = network(3);
  const health = wire.health(() => state);
  assert.is(health.silentCount, undefined);
  wire.down.add('10.5.0.2');
  wire.runFor(health, 59_000);
  assert.is(health.silentCount, 0);
  wire.runFor(health, 60_000);
  assert.is(health.silentCount, 1);
  assert.equal(
    health.status.list.map(({ node, address }) => [node, address]),
    [['host2', '10.5.0.2']],
  );
  assert.match(wire.lines.join(''), /peers do not answer through the network.*silent=1.*such=host2/);
  wire.down.clear();
  wire.runFor(health, 60_000);
  assert.is(health.silentCount, 0);
  assert.match(wire.lines.join(''), /peers answer again/);
  wire.down.add('10.5.0.3');
  wire.runFor(health, 120_000);
  assert.is(health.silentCount, 1);
  state = network(2);
  wire.runFor(health, 60_000);
  assert.is(health.silentCount, 0);
  assert.is(wire.open, 0);
});

test('replies count only from the peer, with the number and the payload of the request; a flood of others is bounded', () => {
  const forged: ((reply: Received) => readonly (Received | 'other')[])[] = [
    (reply) => [{ ...reply, source: parseAddress('10.5.0.9')! }],
    (reply) => [{ ...reply, sequence: reply.sequence + 500 }],
    (reply) => [{ ...reply, payload: reply.payload.slice(1) }],
    (reply) => [{ ...reply, payload: reply.payload.map((byte, i) => (i === 5 ? byte ^ 1 : byte)) }],
    () => Array.from({ length: 100_000 }, () => 'other' as const),
  ];
  for (const change of forged) {
    const wire = new Wire();
    wire.change = change;
    const state = network(1);
    const health = wire.health(() => state);
    wire.runFor(health, 120_000);
    assert.is(health.silentCount, 1);
  }
});

test('of thousands that are silent, a bounded number is kept, and all are counted', () => {
  const wire = new Wire();
  wire.open = 0;
  const state = network(3000);
  const health = wire.health(() => state);
  for (const { lease } of state.peers) wire.down.add(formatAddress(lease.subnets[4]!.address));
  wire.runFor(health, 700_000);
  assert.is(health.silentCount, 3000);
  assert.is(health.suspects.length, 1000);
  assert.is(health.status.list.length, 20);
});

test('a host that may not ask says so, and asks again in the next round', () => {
  const wire = new Wire();
  const state = network(2);
  let may = false;
  const health = new PathHealth({
    network: () => state,
    open: () => {
      if (!may) throw new Error('Cannot open a socket for ICMP: EPERM');
      return wire.socket();
    },
    randomBytes: (count) => new Uint8Array(count),
    logger: openLogger({ level: 'info', format: 'text', write: () => {}, now: () => 0 }),
    now: () => wire.nowMs,
    time: () => wire.nowMs,
  });
  wire.runFor(health, 50_000);
  assert.is(health.status.unavailable, 'Cannot open a socket for ICMP: EPERM');
  assert.is(health.silentCount, undefined);
  may = true;
  wire.runFor(health, 60_000);
  assert.equal(health.status, { asked: 2, silent: 0, list: [] });
});

test('a survey tells peers that are down from those whose large packets are lost, and finds the largest that arrives', async () => {
  const wire = new Wire();
  const state = { ...network(150), mtuBytes: 1450 };
  wire.down.add('10.5.0.2').add('10.5.0.3').add('192.0.0.3');
  const survey = new Survey({
    network: () => state,
    suspects: () => [state.peers[1]!, state.peers[2]!],
    device: () => undefined,
    open: () => wire.socket(),
    witness: () => undefined,
    randomBytes: (count) => new Uint8Array(count).fill(3),
    pause: async () => {},
  });
  const { peers, left, mtuBytes } = await survey.run();
  assert.is(peers.length, 100);
  assert.is(left, 50);
  assert.is(mtuBytes, 1450);
  assert.equal(
    peers.filter(({ answers }) => !answers).map(({ node, hostAnswers }) => [node, hostAnswers]),
    [
      ['host2', true],
      ['host3', false],
    ],
  );
  wire.mtuBytes = 1400;
  const narrow = (await survey.run()).peers.filter(({ largestBytes }) => largestBytes !== undefined);
  assert.is(narrow.length, 20);
  for (const { largestBytes } of narrow) assert.is(largestBytes, 1400);
  assert.is(wire.open, 0);
});

test.run();
