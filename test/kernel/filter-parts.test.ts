/** Parts that weftd does not have, plugged into the keeper of its tables: in its own table, and in another family's. */

import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import type { PartContent } from '../../daemon/filter/part.ts';
import { withNft } from '../../linux/nft/connection.ts';
import { accept, counter, drop, rule, sourceInSet } from '../../linux/nft/match.ts';
import { nftPriority } from '../../linux/nft/table.ts';
import { sys } from '../../linux/sys-bun.ts';
import { parseAddress } from '../../net/address.ts';
import { FilterHost, filterSettings as settings } from '../lab/filter-host.ts';
import { openRules, type Rules } from '../lab/filter-rules.ts';
import { insideNamespace } from '../lab/namespaces.ts';
import { sendRaw } from '../lab/raw-packets.ts';
import { Scratch } from '../lab/scratch.ts';
import { fixture } from '../support/fixture.ts';
import { destinationPort } from '../support/nft-match.ts';

const test = suite('filter parts');

/** Counts datagrams to a port that some addresses send: a chain and a set of its own. */
const audit = (port: number, sources: readonly string[]): PartContent => ({
  name: 'audit',
  family: 'inet',
  structure: String(port),
  sets: [
    {
      name: 'audited',
      keyType: 'ipv4_addr',
      source: sources,
      elements: () => sources.map((text) => parseAddress(text)!.bytes),
    },
  ],
  chains: () => [
    {
      name: 'audit',
      base: { type: 'filter', hook: 'forward', priority: nftPriority.mangle, policy: 'accept' },
      rules: [rule([destinationPort('UDP', port), sourceInSet('audited', 4), counter()], { comment: 'audit' })],
    },
  ],
});

/** Drops what the part above accepts, or the other way round. */
const verdict = (name: string, priority: number, verdictItem: typeof accept): PartContent => ({
  name,
  family: 'inet',
  structure: '',
  sets: [],
  chains: () => [
    {
      name,
      base: { type: 'filter', hook: 'forward', priority, policy: 'accept' },
      rules: [rule([destinationPort('UDP', 7777), counter(), verdictItem()])],
    },
  ],
});

const bridged: PartContent = {
  name: 'seen',
  family: 'bridge',
  structure: '',
  sets: [],
  chains: () => [
    {
      name: 'seen',
      base: { type: 'filter', hook: 'forward', priority: 0, policy: 'accept' },
      rules: [rule([counter()], { family: 'bridge', comment: 'seen' })],
    },
  ],
};

class Bench {
  readonly scratch = new Scratch('parts');
  readonly host = new FilterHost(this.scratch);
  readonly rules: Rules;

  constructor() {
    const silent = { debug() {}, info() {}, warn() {}, error() {} };
    this.rules = openRules(sys, silent, {
      name: 'weft',
      families: ['bridge'],
      now: () => 0,
      addresses: () => [],
      roads: () => ({ peers: ['flannel.1'], external: 'eth0', containers: ['cni0'] }),
    });
  }

  ensure(...parts: PartContent[]): { changes: number; mended: readonly string[] } {
    const { changes, mended } = insideNamespace(this.host.namespace, () => this.rules.ensure(settings, {}, parts));
    return { changes, mended };
  }

  send(port: number, count = 1): void {
    const header = `1234${port.toString(16).padStart(4, '0')}00080000`;
    for (let i = 0; i < count; i++) sendRaw(this.host.here, '10.5.1.2', '10.5.2.2', 17, header);
  }

  counted(part: string): number | undefined {
    return this.rules.counters(part)?.packets;
  }

  nft(...words: string[]): string {
    return this.host.run('nft', ...words);
  }
}

const bench = fixture(
  test,
  async () => {
    const made = new Bench();
    await made.host.whenForwarding();
    return made;
  },
  (made) => {
    made.rules.close();
    made.scratch.remove();
  },
);

const still = { changes: 0, mended: [] };

test('it is made beside the others, counts, and is healed and reported by itself', () => {
  const part = audit(6000, ['10.5.1.2']);
  assert.equal(bench().ensure(), { changes: 1, mended: [] });
  assert.is(bench().counted('audit'), undefined);
  assert.equal(bench().ensure(part), { changes: 1, mended: [] });
  assert.equal(bench().ensure(part), still);
  bench().send(6000, 3);
  bench().send(6001);
  assert.is(bench().counted('audit'), 3);
  const before = bench().nft('list', 'ruleset');
  for (const [harm, mended] of [
    [['flush', 'chain', 'inet', 'weft', 'audit'], ['audit']],
    [['flush', 'set', 'inet', 'weft', 'audited'], ['audit']],
    [['flush', 'chain', 'inet', 'weft', 'postrouting'], ['masquerade']],
    [
      ['flush', 'table', 'inet', 'weft'],
      ['forward', 'masquerade', 'audit'],
    ],
    [
      ['add', 'chain', 'inet', 'weft', 'more'],
      ['forward', 'masquerade', 'audit'],
    ],
  ] as const) {
    bench().nft(...harm);
    assert.equal(bench().ensure(part), { changes: 1, mended }, harm.join(' '));
    assert.is(bench().nft('list', 'ruleset'), before, harm.join(' '));
    assert.is(bench().counted('audit'), 3, harm.join(' '));
  }
});

test('its elements come and go without the rest of the table', () => {
  const handles = (): string[] =>
    bench()
      .nft('-a', 'list', 'table', 'inet', 'weft')
      .match(/# handle \d+/g)!;
  const places = handles();
  assert.equal(bench().ensure(audit(6000, ['10.5.1.9'])), still);
  bench().send(6000);
  assert.is(bench().counted('audit'), 3);
  assert.equal(bench().ensure(audit(6000, ['10.5.1.2'])), still);
  bench().send(6000);
  assert.is(bench().counted('audit'), 4);
  assert.equal(handles(), places);
});

test('an accept of one part does not go past another’s drop, whichever comes first', () => {
  for (const [first, second] of [
    [accept, drop],
    [drop, accept],
  ] as const) {
    const parts = [verdict('one', -20, first), verdict('two', -10, second), audit(7777, ['10.5.1.2'])];
    assert.is(bench().ensure(...parts).changes, 1);
    const late: PartContent = {
      ...verdict('late', nftPriority.security, accept),
      chains: () => [
        {
          name: 'late',
          base: { type: 'filter', hook: 'postrouting', priority: nftPriority.security, policy: 'accept' },
          rules: [rule([destinationPort('UDP', 7777), counter()])],
        },
      ],
    };
    bench().ensure(...parts, late);
    bench().send(7777);
    assert.is(bench().counted('late'), 0);
  }
});

test('a part in another family has a table of its own, changed in the same transaction', () => {
  const part = audit(6000, ['10.5.1.2']);
  bench().ensure(part);
  assert.not.match(bench().nft('list', 'tables'), /bridge/);
  const generation = (): number =>
    insideNamespace(bench().host.namespace, () => withNft(sys, (nft) => nft.generation()!));
  assert.equal(bench().ensure(part, bridged), { changes: 1, mended: [] });
  assert.match(bench().nft('list', 'tables'), /table bridge weft/);
  assert.is(bench().counted('seen'), 0);
  const counted = bench().counted('audit');
  bench().nft('flush', 'ruleset');
  const before = generation();
  assert.equal(bench().ensure(part, bridged), { changes: 2, mended: ['forward', 'masquerade', 'audit', 'seen'] });
  assert.is(generation(), before + 1);
  bench().nft('flush', 'chain', 'bridge', 'weft', 'seen');
  assert.equal(bench().ensure(part, bridged), { changes: 1, mended: ['seen'] });
  assert.equal(bench().ensure(part, bridged), still);
  assert.is(bench().counted('audit'), counted);
  // Switched off, it leaves nothing.
  assert.equal(bench().ensure(part), { changes: 1, mended: [] });
  assert.is(bench().nft('list', 'tables').trim(), 'table inet weft');
  assert.is(bench().counted('seen'), undefined);
  assert.equal(bench().ensure(), { changes: 1, mended: [] });
  assert.not.match(bench().nft('list', 'ruleset'), /audit/);
});

test('two parts with a chain of one name are a mistake', () => {
  const part = audit(6000, []);
  assert.throws(() => bench().ensure(part, { ...part, name: 'other' }), /have sets named "audited"/);
});

test.run();
