import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { limitLines } from '../../../../daemon/report/line-budget.ts';
import { openLogger } from '../../../../daemon/report/log.ts';

const test = suite('daemon/report/line-budget');

test('lines beyond the budget are left out and counted; errors never are', () => {
  const lines: string[] = [];
  let nowMs = 0;
  const write = (line: string): void => void lines.push(line.slice(25).trim());
  const logger = limitLines(
    openLogger({ level: 'info', format: 'text', write, now: () => nowMs }),
    'lease',
    { burst: 2, perMinute: 6 },
    () => nowMs,
  );
  for (let i = 0; i < 5; i++) logger.info('lease renewed', { i });
  logger.warn('lease lost');
  logger.error('the end');
  nowMs = 10_000;
  logger.warn('lease lost', { key: 'k' });
  logger.warn('lease lost');
  nowMs = 100_000;
  for (let i = 0; i < 4; i++) logger.info('lease renewed');
  assert.equal(lines, [
    'info  lease renewed i=0',
    'info  lease renewed i=1',
    'warn  lease: too many changes to log all of them; weftctl status shows the state',
    'error the end',
    'warn  lease lost key=k linesLeftOut=4',
    'info  lease renewed linesLeftOut=1',
    'info  lease renewed',
    'warn  lease: too many changes to log all of them; weftctl status shows the state',
  ]);
});

test.run();
