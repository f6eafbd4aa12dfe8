import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { openLogger } from '../../../../daemon/report/log.ts';
import { Problems } from '../../../../daemon/report/problems.ts';

const test = suite('daemon/report/log');

function recorder(format: 'text' | 'json', level: 'debug' | 'info' = 'info') {
  const lines: string[] = [];
  const logger = openLogger({ level, format, write: (line) => lines.push(line), now: () => 0 });
  return { lines, logger };
}

test('text: one line, values quoted where they need it', () => {
  const { lines, logger } = recorder('text');
  logger.info('peer\nadded', { subnet: '10.1.2.0/24', why: 'it is new', none: undefined, error: new Error('a "b"') });
  assert.equal(lines, [
    '1970-01-01T00:00:00.000Z info  peer added subnet=10.1.2.0/24 why="it is new" error="a \\"b\\""\n',
  ]);
});

test('json: one object a line', () => {
  const { lines, logger } = recorder('json');
  logger.warn('x', { n: 1, error: new Error('e') });
  assert.is(lines.length, 1);
  assert.equal(JSON.parse(lines[0]!), {
    time: '1970-01-01T00:00:00.000Z',
    level: 'warn',
    message: 'x',
    n: 1,
    error: 'e',
  });
});

test('control characters are spelled out', () => {
  const name = 'h\x1b[2J\x07\x7f\u009b31mé';
  const [text, json] = [recorder('text'), recorder('json')];
  for (const { logger } of [text, json]) logger.info(`peer "${name}"`, { name });
  const spelled = 'h\\u001b[2J\\u0007\\u007f\\u009b31mé';
  assert.equal(text.lines, [`1970-01-01T00:00:00.000Z info  peer "${spelled}" name=${spelled}\n`]);
  assert.not.match(json.lines[0]!.trimEnd(), /\p{Cc}/u);
  assert.is(JSON.parse(json.lines[0]!).name, name);
});

test('a flood of info lines is cut and counted; warnings are always written', () => {
  const lines: string[] = [];
  let now = 0;
  const logger = openLogger({ level: 'info', format: 'text', write: (line) => lines.push(line), now: () => now });
  for (let i = 0; i < 5000; i++) logger.info('again');
  assert.is(lines.length, 2000);
  logger.warn('wrong');
  assert.match(lines.at(-1)!, / wrong linesLeftOut=3000\n$/);
  now = 60_000;
  for (let i = 0; i < 5000; i++) logger.info('again');
  assert.is(lines.length, 2001 + 600);
  // A clock that is set back takes nothing away.
  now = 0;
  logger.info('no');
  now = 1000;
  logger.info('yes');
  assert.match(lines.at(-1)!, / yes linesLeftOut=4401\n$/);
});

test('levels', () => {
  const { lines, logger } = recorder('text');
  logger.debug('no');
  logger.error('yes');
  assert.is(lines.length, 1);
});

test('a problem is logged when it appears, when it changes, and when it is over', () => {
  const { lines, logger } = recorder('text');
  let now = 0;
  const problems = new Problems(logger, () => now);
  problems.report('etcd', 'Cannot reach etcd');
  problems.report('etcd', 'Cannot reach etcd');
  problems.report('etcd', 'Cannot reach etcd at all', 'debug');
  assert.is(lines.length, 1);
  assert.equal(problems.list(), ['Cannot reach etcd at all']);
  now = 1500;
  problems.report('etcd', undefined);
  problems.report('etcd', undefined);
  assert.equal(
    lines.map((line) => line.slice(25)),
    ['warn  Cannot reach etcd\n', 'info  etcd: all right again afterSeconds=1.5\n'],
  );
});

test('of a thousand problems at once, some are logged, with the number of the rest', () => {
  const { lines, logger } = recorder('text');
  const problems = new Problems(logger, () => 0);
  const messages = new Map(Array.from({ length: 1000 }, (_, i) => [String(i), `peer ${i} is left out`]));
  problems.reportAll('peer', messages);
  problems.reportAll('peer', messages);
  assert.is(lines.length, 11);
  assert.match(lines.at(-1)!, /peer: 990 more have problems/);
  assert.is(problems.list().length, 1000);
  problems.reportAll('peer', new Map());
  assert.is(lines.length, 22);
  assert.match(lines.at(-1)!, /peer: 990 more are all right again/);
  assert.equal(problems.list(), []);
});

test('problems of a kind are reported as a whole', () => {
  const { lines, logger } = recorder('text');
  const problems = new Problems(logger, () => 0);
  problems.report('etcd', 'e');
  problems.reportAll(
    'peer',
    new Map([
      ['a', 'A'],
      ['b', 'B'],
    ]),
  );
  problems.reportAll('peer', new Map([['b', 'B']]));
  assert.equal(problems.list(), ['e', 'B']);
  assert.equal(problems.list(['peer']), ['e']);
  assert.is(lines.length, 4);
});

test.run();
