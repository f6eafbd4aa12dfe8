/** The lines that weftd keeps in memory. */

import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { openLogger } from '../../../../daemon/report/log.ts';
import { RecentLines } from '../../../../daemon/report/recent-lines.ts';

const test = suite('daemon/report/recent-lines');

const line = (message: string, fields: Record<string, string | number | boolean> = {}) => ({
  time: '1970-01-01T00:00:00.000Z',
  level: 'info',
  message,
  fields,
});

test('the last thousand are kept, by their numbers', () => {
  const lines = new RecentLines('then');
  for (let i = 1; i <= 2500; i++) lines.add(line(`line ${i}`));
  const { startedAt, entries } = lines.after(0);
  assert.equal(
    [startedAt, entries.length, entries[0]?.number, entries.at(-1)?.message],
    ['then', 1000, 1501, 'line 2500'],
  );
  assert.equal(
    lines.after(2498).entries.map(({ number }) => number),
    [2499, 2500],
  );
  assert.equal(lines.after(9999).entries, []);
});

test('long lines are cut, and their sum is bounded', () => {
  const lines = new RecentLines('then');
  for (let i = 0; i < 1000; i++) lines.add(line('x'.repeat(1_000_000), { a: 'y'.repeat(1_000_000), n: 7 }));
  const { entries } = lines.after(0);
  assert.ok(JSON.stringify(entries).length < 300_000);
  assert.ok(entries.length > 10);
  assert.is(entries[0]?.fields['n'], 7);
});

test('the logger keeps what it writes, and no more', () => {
  const written: string[] = [];
  const logger = openLogger({ level: 'warn', format: 'json', write: (text) => written.push(text), now: () => 0 });
  logger.info('no');
  logger.warn('two\nlines', { error: new Error('why'), none: undefined });
  assert.equal(logger.recent.after(0).entries, [{ number: 1, ...line('two lines', { error: 'why' }), level: 'warn' }]);
  assert.is(written.length, 1);
});

test.run();
