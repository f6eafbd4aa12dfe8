import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { LeaseSet } from '../../../../cluster/lease-set.ts';
import { parseNetworkConfig } from '../../../../cluster/network-config.ts';
import { backends } from '../../../../daemon/backends/map.ts';
import { fibComment } from '../../../../daemon/filter/container-lock.ts';
import { FilterFeatures } from '../../../../daemon/filter/features.ts';
import type { FilterOutcome, FilterWish } from '../../../../daemon/filter/packet-filter.ts';
import type { ElementChange, FilterPart, FilterView } from '../../../../daemon/filter/part.ts';
import { untrackedComment, untracking } from '../../../../daemon/filter/untracked.ts';
import { FilterUpkeep, partsFor } from '../../../../daemon/filter/upkeep.ts';
import { Ways } from '../../../../daemon/filter/ways.ts';
import { openLogger } from '../../../../daemon/report/log.ts';
import { Problems } from '../../../../daemon/report/problems.ts';
import { errno, NetlinkError } from '../../../../linux/errors.ts';
import { address, type OwnBackend, peer } from '../overlay/cluster-of.ts';

const test = suite('daemon/filter/upkeep');

const config = parseNetworkConfig('{"Network":"10.1.0.0/16","Backend":{"Type":"vxlan"}}', backends);
const view = (n = 2): FilterView => ({
  config,
  backend: config.backend as OwnBackend,
  own: { subnets: { 4: peer(1).subnets[4]! }, publicAddresses: {} },
  peers: LeaseSet.of([peer(n)]),
  formerSubnets: [],
});

/** A part that is no part of weftd: its elements are the number of peers, and it counts its questions. */
class Toy implements FilterPart {
  readonly name = 'toy';
  readonly family = 'inet';
  asked = 0;
  validMs = Number.POSITIVE_INFINITY;
  links: FilterView['links'];
  placementSource: unknown;
  followedView: FilterView | undefined;

  wants({ peers, links, placements }: FilterView) {
    this.asked++;
    this.links = links;
    this.placementSource = placements?.placementSource;
    const { name, family, validMs } = this;
    return { name, family, structure: String(peers.size), sets: [], chains: () => [], validMs } as const;
  }

  followed(of: FilterView): void {
    this.followedView = of;
  }

  changes(_view: FilterView, added: readonly unknown[], removed: readonly unknown[]): readonly ElementChange[] {
    const bytes = (list: readonly unknown[]) => list.map((_, i) => new Uint8Array([i]));
    return [{ family: 'inet', set: 'toy', added: bytes(added), removed: bytes(removed) }];
  }
}

class Bench {
  readonly toy = new Toy();
  readonly wishes: FilterWish[] = [];
  readonly changes: (readonly ElementChange[])[] = [];
  readonly noted: string[] = [];
  followed = 0;
  readonly features = new FilterFeatures();
  readonly warnings: string[] = [];
  readonly lines: string[] = [];
  judges: readonly string[] = [];
  dropped = 3;
  senders: { readonly key: Uint8Array; readonly packets: number }[] = [];
  nowMs = 0;
  readonly problems = new Problems(
    openLogger({ level: 'error', format: 'text', write: () => {}, now: () => 0 }),
    () => 0,
  );
  outcome: FilterOutcome | Error = { changes: 0, mended: [], forward: [], againMs: 5 };
  readonly upkeep = new FilterUpkeep({
    filter: {
      ensure: (wish) => {
        this.wishes.push(wish);
        if (this.outcome instanceof Error) throw this.outcome;
        return this.outcome;
      },
      change: (changes) => {
        if (this.outcome instanceof Error) throw this.outcome;
        this.changes.push(changes);
        return true;
      },
      followed: () => void this.followed++,
      counters: (part) => (part === 'peer-lock' ? { packets: this.dropped, bytes: 60 * this.dropped } : undefined),
      remove() {},
      senders: () => this.senders,
      stateJudges: () => ({ judges: this.judges, againMs: Number.POSITIVE_INFINITY }),
    },
    parts: [this.toy, untracking({ lifeMs: 1000, isPossible: () => this.features.canUntrack })],
    features: this.features,
    logger: {
      info: (line) => void this.lines.push(line),
      warn: (line, fields) => void this.warnings.push(fields ? `${line} ${JSON.stringify(fields)}` : line),
    },
    now: () => this.nowMs,
    foreignChains: true,
    healing: {
      noteSettings: (_kind, key, wanted, done) => void this.noted.push([key, wanted(), ...done].join('|')),
      noteFailure: () => void this.noted.push('failure'),
    },
    problems: this.problems,
    ways: new Ways(() => [
      { index: 3, name: 'cni0', up: true, loopback: false, mtuBytes: 1500, addresses: [address('10.1.1.1')] },
      { index: 4, name: 'flannel.1', up: true, loopback: false, mtuBytes: 1450, addresses: [address('10.1.1.0')] },
    ]),
  });
}

test('parts are asked once for a view, and their wish is put in place', () => {
  const bench = new Bench();
  const now = view();
  for (const options of [{ keepPeers: true, trust: true }, { trust: true }, {}]) {
    assert.equal(bench.upkeep.ensure(now, options), { changes: 0, againMs: 5 });
  }
  assert.equal([bench.toy.asked, new Set(bench.wishes).size], [1, 1]);
  bench.upkeep.ensure(view(3));
  assert.is(bench.toy.asked, 2);
  bench.upkeep.useInterfaces({ peers: ['flannel.1'], external: 'eth0' });
  const { contents, foreign, containers } = bench.wishes[0]!;
  assert.equal(
    contents.map(({ name }) => name),
    ['toy'],
  );
  assert.is(containers.length, 1);
  const names = new Set(foreign!().packets.flatMap(({ input, output }) => [input, output]));
  assert.equal([...names].sort(), ['cni0', 'eth0', 'flannel.1']);
});

test('changes and repairs are counted; problems of other programs’ chains are reported', () => {
  const bench = new Bench();
  const forward = [
    { place: 'ip filter FORWARD', mended: 'gone' },
    { place: 'inet fw forward', problem: 'refused' },
  ];
  bench.outcome = { changes: 2, mended: ['toy'], forward, againMs: 7 };
  assert.equal(bench.upkeep.ensure(view()), { changes: 3, againMs: 7 });
  const wanted = '[["toy","1"]]';
  assert.equal(bench.noted, [
    `packet filter table|${wanted}|set packet filter table`,
    `ip filter FORWARD|${wanted}|set packet filter rules in "ip filter FORWARD"`,
    `inet fw forward|${wanted}`,
    'failure',
  ]);
  assert.equal(bench.problems.list(), ['refused']);
});

test('an error is a problem, and another look soon', () => {
  const bench = new Bench();
  bench.outcome = new Error('the kernel refused');
  assert.equal(bench.upkeep.ensure(view()), { changes: 0, againMs: 1000 });
  assert.equal([bench.noted, bench.problems.list()], [['failure'], ['the kernel refused']]);
  assert.not(bench.upkeep.change(view(), [peer(2)], []));
  bench.outcome = { changes: 0, mended: [], forward: [], againMs: 5 };
  bench.upkeep.ensure(view());
  assert.equal(bench.problems.list(), []);
});

test('where the kernel refuses a rule for want of nft_fib, the parts are asked again, and it is told once', () => {
  const bench = new Bench();
  bench.outcome = new NetlinkError(['add rule', fibComment, 'to chain "x"'], errno.ENOENT);
  assert.is(bench.upkeep.ensure(view()).againMs, 1000);
  assert.equal([bench.toy.asked, bench.wishes.length, bench.features.hasFib], [2, 2, false]);
  assert.is(bench.warnings.length, 1);
  assert.match(bench.warnings[0]!, /no nft_fib.* load the module "nft_fib_inet"/);
  bench.upkeep.ensure(view());
  assert.is(bench.warnings.length, 1);
  const other = new Bench();
  other.outcome = new NetlinkError(['add rule', 'weft', 'to chain "x"'], errno.ENOENT);
  other.upkeep.ensure(view());
  assert.equal([other.features.hasFib, other.warnings], [true, []]);
});

test('the tunnel’s packets are untracked unless others’ rules go by their state, and changes are told once', () => {
  const bench = new Bench();
  const addresses = { 4: address('192.0.2.1') };
  const now = { ...view(), own: { ...view().own, publicAddresses: addresses } };
  const parts = (): string[] => bench.wishes.at(-1)!.contents.map(({ name }) => name);
  bench.upkeep.ensure(now);
  assert.equal(parts(), ['toy'], 'before the interfaces are known');
  bench.upkeep.useInterfaces({ peers: [], external: 'eth0', addresses });
  bench.upkeep.ensure(now);
  assert.equal([parts(), bench.upkeep.tracking()], [['toy', 'untracked'], { tunnelIsTracked: false, because: [] }]);
  bench.judges = ['ip filter INPUT'];
  for (let i = 0; i < 2; i++) bench.upkeep.ensure(now);
  const tracked = { tunnelIsTracked: true, because: ['ip filter INPUT'] };
  assert.equal([parts(), bench.upkeep.tracking()], [['toy'], tracked]);
  bench.judges = [];
  bench.upkeep.ensure(now);
  assert.equal(parts(), ['toy', 'untracked']);
  assert.equal(bench.lines, [
    "the tunnel's packets stay tracked as connections",
    "the tunnel's packets are not tracked as connections any longer",
  ]);
  // An address that is translated, perhaps on this host.
  bench.upkeep.useInterfaces({ peers: [], external: 'eth0', addresses: { 4: address('10.9.9.9') } });
  bench.upkeep.ensure(now);
  assert.equal(parts(), ['toy']);
  bench.upkeep.useInterfaces({ peers: [], external: 'eth0', addresses });
  bench.outcome = new NetlinkError(['add rule', untrackedComment, 'to chain "x"'], errno.ENOENT);
  bench.upkeep.ensure(now);
  assert.equal([parts(), bench.warnings.length, bench.features.canUntrack], [['toy'], 1, false]);
});

test('the log tells from whom packets were dropped since the start, not more often than every ten minutes', () => {
  const bench = new Bench();
  bench.upkeep.ensure(view());
  bench.upkeep.tellDropped();
  assert.equal(bench.warnings, []);
  const sender = (text: string, packets: number) => ({ key: address(text).bytes, packets });
  bench.senders = [sender('192.0.2.9', 1), sender('2001:db8::9', 4), sender('192.0.2.8', 1)];
  bench.dropped = 9;
  bench.upkeep.tellDropped();
  const from = '2001:db8::9 (4), 192.0.2.8 (1), 192.0.2.9 (1)';
  const line = (packets: number): string => `the peer lock has dropped packets {"packets":${packets},"from":"${from}"}`;
  assert.equal(bench.warnings, [line(6)]);
  bench.dropped = 20;
  bench.nowMs = 599_999;
  bench.upkeep.tellDropped();
  assert.is(bench.warnings.length, 1);
  bench.nowMs = 600_000;
  bench.upkeep.tellDropped();
  assert.equal(bench.warnings, [line(6), line(11)]);
  // The table was made anew.
  bench.nowMs = 2_000_000;
  bench.dropped = 1;
  bench.upkeep.tellDropped();
  assert.is(bench.warnings.length, 2);
  // A flood of forged addresses fills no line.
  bench.senders = Array.from({ length: 16 }, (_, i) => sender(`192.0.2.${100 + i}`, 1));
  bench.dropped = 17;
  bench.nowMs = 4_000_000;
  bench.upkeep.tellDropped();
  assert.is(bench.warnings.at(-1)!.split('(1)').length - 1, 5);
});

test('placements that are derived anew from the same leases count as the same', () => {
  const bench = new Bench();
  const leases = [peer(2).subnets[4], peer(3).subnets[4]];
  const sources: unknown[] = [];
  for (const source of [leases, [...leases], leases.slice(1), [...leases]]) {
    bench.upkeep.usePlacements({ placementSource: source, placements: [] });
    bench.upkeep.ensure(view());
    sources.push(bench.toy.placementSource);
  }
  assert.is(sources[0], leases);
  assert.is(sources[1], leases);
  assert.is.not(sources[2], leases);
  assert.is.not(sources[3], sources[2]);
});

test('a wish holds as long as its parts say, and until interfaces change', () => {
  const bench = new Bench();
  const now = view();
  bench.toy.validMs = 3;
  assert.is(bench.upkeep.ensure(now).againMs, 3);
  bench.nowMs = 2;
  bench.upkeep.ensure(now);
  assert.is(bench.toy.asked, 1);
  bench.nowMs = 3;
  bench.upkeep.ensure(now);
  assert.is(bench.toy.asked, 2);
  const links = { peers: [], external: 'eth0', inner: ['cni0'] };
  for (const each of [links, { ...links, inner: ['cni0'] }]) bench.upkeep.useInterfaces(each);
  bench.upkeep.ensure(now);
  assert.equal(
    [bench.toy.asked, bench.toy.links],
    [3, { external: 'eth0', inner: ['cni0'], networks: [], addresses: {} }],
  );
});

test('changes of peers go to the parts, and what those make of them to the filter', () => {
  const bench = new Bench();
  assert.ok(bench.upkeep.change(view(), [peer(2), peer(3)], [peer(4)]));
  assert.equal(
    bench.changes[0]!.map(({ set, added, removed }) => [set, added.length, removed.length]),
    [['toy', 2, 1]],
  );
  assert.equal(bench.upkeep.peerLock(), { enabled: true, droppedPackets: 3, droppedBytes: 180 });
});

test('a wish holds for the next view if the changes up to it were followed', () => {
  const bench = new Bench();
  bench.upkeep.followed(view());
  assert.is(bench.followed, 0, 'nothing is known yet');
  bench.upkeep.ensure(view());
  const after = view(3);
  bench.upkeep.followed(after);
  assert.equal([bench.followed, bench.toy.followedView], [1, after]);
  bench.upkeep.ensure(after);
  assert.equal([bench.toy.asked, new Set(bench.wishes).size], [1, 1]);
});

test('which parts the command line asks for', () => {
  const names = (peerLock: boolean, forward: boolean, ipMasq: boolean): string[] =>
    partsFor(
      { peerLock, forward, randomPorts: true },
      { ipMasq, lockLifeMs: 1, now: () => 0, features: new FilterFeatures() },
    ).map(({ name }) => name);
  assert.equal(names(true, true, true), [
    'container-lock',
    'peer-lock',
    'inner-lock',
    'untracked',
    'forward',
    'masquerade',
  ]);
  assert.equal(names(false, true, false), ['untracked', 'forward']);
  assert.equal(names(false, false, false), ['untracked']);
});

test.run();
