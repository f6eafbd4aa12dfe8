/** Lines of the plugins' trace: what is read, and how it is summed up. */

import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { longestStage, readTraceLine, summarize } from '../../../cli/trace/summary.ts';
import type { TraceLine } from '../../../net/trace-file.ts';

const line = (keys: Partial<TraceLine> = {}): TraceLine => ({
  at: 1_700_000_000_000,
  command: 'ADD',
  network: 'weft',
  container: 'abc',
  ifname: 'eth0',
  result: 'ok',
  us: 3000,
  kernelUs: 1000,
  stages: { start: { us: 500, kernelUs: 0, calls: 0 }, network: { us: 2000, kernelUs: 900, calls: 14 } },
  ...keys,
});

test('a line is read as it was written', () => {
  for (const written of [line(), line({ result: 104, stages: {} })]) {
    assert.equal(readTraceLine(JSON.stringify(written)), written);
  }
});

test('anything else is no line', () => {
  const texts = ['', '{', 'null', '[]', '3', '"ADD"', '{}', JSON.stringify(line()).slice(0, 80)];
  const changed: unknown[] = [
    { ...line(), at: '1' },
    { ...line(), us: -1 },
    { ...line(), us: null },
    { ...line(), kernelUs: 1e300 },
    { ...line(), command: 7 },
    { ...line(), container: undefined },
    { ...line(), result: 'failed' },
    { ...line(), stages: [] },
    { ...line(), stages: { network: 7 } },
    { ...line(), stages: { network: { us: 1, kernelUs: 1 } } },
  ];
  for (const text of [...texts, ...changed.map((value) => JSON.stringify(value))]) {
    assert.is(readTraceLine(text), undefined, text);
  }
});

test('stages that nobody knows are left out', () => {
  const text = JSON.stringify({ ...line(), stages: { ...line().stages, other: 7 } });
  assert.equal(readTraceLine(text)?.stages, line().stages);
});

test('usual times are those of each command and stage', () => {
  const adds = Array.from({ length: 200 }, (_, i) =>
    line({ us: (i + 1) * 100, kernelUs: i + 1, stages: { network: { us: i + 1, kernelUs: 1, calls: 3 } } }),
  );
  const [add, del, ...others] = summarize(
    [...adds, line({ command: 'DEL' }), line({ command: 'EVIL' })],
    ['ADD', 'DEL'],
  );
  assert.equal(others, []);
  assert.equal(add!.all, { calls: 200, p50Us: 10_100, p99Us: 19_900, mostUs: 20_000, p50KernelUs: 101 });
  assert.equal(
    add!.stages.map(({ stage, p50Us, p99Us }) => [stage, p50Us, p99Us]),
    [['network', 101, 199]],
  );
  assert.equal(
    del!.stages.map(({ stage, calls }) => [stage, calls]),
    [
      ['start', 1],
      ['network', 1],
    ],
  );
});

test('the longest stage is named', () => {
  assert.is(longestStage(line()), 'network');
  assert.is(longestStage(line({ stages: {} })), undefined);
});

test.run();
