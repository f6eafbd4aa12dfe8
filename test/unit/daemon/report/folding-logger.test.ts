import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { foldRepeats, linesInFull } from '../../../../daemon/report/folding-logger.ts';
import { openLogger } from '../../../../daemon/report/log.ts';

const test = suite('daemon/report/folding-logger');

const minuteMs = 60_000;

class Log {
  nowMs = 0;
  readonly lines: string[] = [];
  readonly logger = foldRepeats(
    openLogger({
      level: 'info',
      format: 'text',
      write: (line) => this.lines.push(line.slice(25).trim()),
      now: () => this.nowMs,
    }),
    () => this.nowMs,
  );
}

test('equal lines: the first few, then one with a count in ten minutes', () => {
  const log = new Log();
  for (; log.nowMs < 60 * minuteMs; log.nowMs += 1000) log.logger.info('healed: set route "a"', { by: 'x' });
  assert.equal(log.lines.slice(0, linesInFull + 1), [
    ...Array(linesInFull).fill('info  healed: set route "a" by=x'),
    'info  healed: set route "a" by=x times=600',
  ]);
  assert.is(log.lines.length, linesInFull + 5, 'in an hour');
});

test('another sentence, and one after a quiet hour, are told at once; warnings always', () => {
  const log = new Log();
  for (let i = 0; i < linesInFull + 7; i++) log.logger.info('a');
  log.logger.info('b');
  assert.is(log.lines.length, linesInFull + 1);
  for (let i = 0; i < 10; i++) log.logger.warn('a');
  assert.is(log.lines.length, linesInFull + 11);
  log.nowMs += 61 * minuteMs;
  for (let i = 0; i < 3; i++) log.logger.info('a');
  assert.equal(log.lines.slice(linesInFull + 11), ['info  a times=8', 'info  a', 'info  a']);
});

test('it remembers a thousand sentences', () => {
  const lines: string[] = [];
  const ignore = (): void => {};
  const info = (line: string): void => void lines.push(line);
  const logger = foldRepeats({ debug: ignore, info, warn: ignore, error: ignore }, () => 0);
  for (let round = 0; round < linesInFull + 5; round++) for (let i = 0; i < 900; i++) logger.info(`sentence ${i}`);
  assert.is(lines.filter((line) => line === 'sentence 7').length, linesInFull);
});

test.run();
