import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import type { Check } from '../../../../daemon/report/check.ts';
import { openLogger } from '../../../../daemon/report/log.ts';
import { problemKinds } from '../../../../daemon/report/problem-catalogue.ts';
import { Problems } from '../../../../daemon/report/problems.ts';

const test = suite('daemon/report/problems');

function problemsAt(clock: { nowMs: number }): { problems: Problems; lines: string[] } {
  const lines: string[] = [];
  const logger = openLogger({ level: 'info', format: 'text', write: (line) => lines.push(line), now: () => 0 });
  return { problems: new Problems(logger, () => clock.nowMs), lines };
}

test('the catalogue has one code, one title and one severity a kind; codes are lower-case words', () => {
  const heads = Object.values(problemKinds);
  const codes = heads.map(({ code }) => code);
  assert.is(new Set(codes).size, codes.length);
  assert.is(new Set(heads.map(({ title }) => title)).size, heads.length);
  for (const [kind, { code, title, severity }] of Object.entries(problemKinds)) {
    assert.is(code, kind.toLowerCase().replaceAll(' ', '-'));
    assert.match(title, /^\S.*[^.]$/);
    assert.ok(severity === 'error' || severity === 'warning');
  }
});

test('a problem has its code, its subject, its words and its time', () => {
  const clock = { nowMs: 5 };
  const { problems } = problemsAt(clock);
  problems.report('external interface', 'There is none');
  clock.nowMs = 9;
  problems.report('external interface', 'There is none by that name');
  problems.reportAll('peer', new Map([['/p/subnets/x', 'Peer x is left out']]));
  assert.equal(
    problems.all.map(({ head, subject, message, sinceMs }) => [head.code, subject, message, sinceMs]),
    [
      ['external-interface', '', 'There is none by that name', 5],
      ['peer', '/p/subnets/x', 'Peer x is left out', 9],
    ],
  );
});

test("others' problems are not this node's", () => {
  const { problems } = problemsAt({ nowMs: 0 });
  problems.reportAll('peer', new Map([['a', 'A']]));
  problems.reportAll('lease', new Map([['b', 'B']]));
  assert.equal(problems.ofThisNode(), []);
  problems.report('etcd', 'E');
  assert.equal(problems.ofThisNode(), ['E']);
  assert.equal(problems.list(['peer']), ['B', 'E']);
});

test('another check plugs in: its findings are problems, as weftd reports its own', async () => {
  const clock = { nowMs: 0 };
  const { problems, lines } = problemsAt(clock);
  const full = new Set(['/run', '/var']);
  const check: Check = {
    code: 'disk-full',
    title: 'a folder of weftd has no room left',
    severity: 'error',
    costMs: 1,
    run: () => [...full].map((folder) => ({ subject: folder, facts: { freeBytes: 0 } })),
    advice: ({ subject, facts }) => `"${subject}" has ${facts['freeBytes']} bytes left: make room there`,
  };
  const run = async (): Promise<void> => problems.reportFindings(check, await check.run(new AbortController().signal));
  await run();
  await run();
  assert.equal(problems.list(), [
    '"/run" has 0 bytes left: make room there',
    '"/var" has 0 bytes left: make room there',
  ]);
  assert.equal(
    problems.all.map(({ head, facts }) => [head.code, head.severity, facts]),
    [
      ['disk-full', 'error', { freeBytes: 0 }],
      ['disk-full', 'error', { freeBytes: 0 }],
    ],
  );
  assert.is(problems.ofThisNode().length, 2);
  clock.nowMs = 3000;
  full.delete('/run');
  await run();
  assert.equal(problems.list(), ['"/var" has 0 bytes left: make room there']);
  assert.match(lines.at(-1)!, /disk-full \/run: all right again afterSeconds=3/);
  assert.is(lines.length, 3);
});

test('others’ problems that change without end are logged within a budget', () => {
  const clock = { nowMs: 0 };
  const { problems, lines } = problemsAt(clock);
  assert.not.ok(problems.isFlooded);
  for (let i = 0; i < 200; i++) problems.reportAll('lease', new Map([[`k${i}`, `Cannot read lease ${i}`]]));
  assert.is(lines.length, 23);
  assert.match(lines.at(-1)!, /lease: too many changes to log all of them; weftctl status lists the problems/);
  assert.ok(problems.isFlooded);
  problems.reportAll('peer', new Map([['a', 'A']]));
  assert.is(lines.length, 24, 'another kind has its own');
  clock.nowMs = 60_000;
  problems.reportAll('lease', new Map([['x', 'Cannot read lease x']]));
  assert.is(lines.length, 26);
  assert.equal(problems.list(['peer']), ['Cannot read lease x']);
  clock.nowMs = 600_000;
  assert.not.ok(problems.isFlooded);
});

test('all kinds of others’ problems together have a budget, too', () => {
  const clock = { nowMs: 0 };
  const { problems, lines } = problemsAt(clock);
  for (let i = 0; i < 200; i++) {
    for (const kind of ['lease', 'peer', 'younger rival'] as const) {
      problems.reportAll(kind, new Map([[`k${i}`, `${kind} ${i}`]]));
    }
  }
  assert.is(lines.length, 44, '40, and each kind says once that there are more');
  problems.report('etcd', 'etcd does not answer');
  assert.match(lines.at(-1)!, /etcd does not answer/, 'this node’s own are logged');
});

test('whatever the writes, a kind has few lines in any minute', () => {
  const clock = { nowMs: 0 };
  const { problems, lines } = problemsAt(clock);
  const written: number[] = [];
  for (; clock.nowMs < 600_000; clock.nowMs += 500) {
    const before = lines.length;
    problems.reportAll('lease', new Map([[`k${clock.nowMs}`, `Cannot read lease ${clock.nowMs}`]]));
    problems.report('node name', clock.nowMs % 1000 === 0 ? 'Another host has it' : undefined);
    written.push(...Array(lines.length - before).fill(clock.nowMs));
  }
  const kinds = { lease: 28, 'node name': 12 };
  for (const from of written) {
    const within = lines.filter((_, i) => written[i]! >= from && written[i]! < from + 60_000);
    const ofName = within.filter((line) => /node name|Another host/.test(line)).length;
    assert.ok(ofName <= kinds['node name'] && within.length - ofName <= kinds.lease, `${ofName} of ${within.length}`);
  }
  assert.ok(written.length > 80);
});

test.run();
