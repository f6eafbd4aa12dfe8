import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { Bell } from '../../../../daemon/pace/bell.ts';

const test = suite('daemon/pace/bell');

test('every listener hears each ring, and how long it may wait', () => {
  const bell = new Bell();
  const heard: [string, number][] = [];
  bell.ring();
  bell.listen((delayMs) => heard.push(['a', delayMs]));
  bell.listen((delayMs) => heard.push(['b', delayMs]));
  bell.ring(20);
  bell.ring();
  assert.equal(heard, [
    ['a', 20],
    ['b', 20],
    ['a', 0],
    ['b', 0],
  ]);
});

test.run();
