import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { ChangeLog } from '../../../cluster/change-log.ts';

const test = suite('cluster/change-log');

test('a version gives the changes after it', () => {
  const log = new ChangeLog<string>();
  assert.equal(log.between(0, 0), []);
  log.add([undefined, 'a']);
  const { version } = log;
  log.add(['a', 'b']);
  log.add(['b', undefined]);
  assert.equal(log.between(version, log.version), [
    ['a', 'b'],
    ['b', undefined],
  ]);
  assert.equal(log.between(0, version), [[undefined, 'a']]);
  assert.is(log.between(version, 0), undefined);
  assert.is(log.between(0, log.version + 1), undefined, 'what is to come');
});

test('old changes are dropped, and reported as unknown', () => {
  const log = new ChangeLog<number>();
  for (let i = 0; i < 10_000; i++) log.add([i, i + 1]);
  assert.is(log.version, 10_000);
  assert.is(log.between(0, 10_000), undefined);
  assert.equal(log.between(9999, 10_000), [[9999, 10_000]]);
});

test.run();
