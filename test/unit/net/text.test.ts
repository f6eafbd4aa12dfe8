import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { joinLines, withoutTrailing, withoutTrailingSlashes } from '../../../net/text.ts';

const test = suite('net/text');

test('lines become one line, without the blanks around each', () => {
  assert.is(joinLines('one', '; '), 'one');
  assert.is(joinLines(' one ', '; '), ' one ');
  assert.is(joinLines('\n one \r\n\n\ttwo\nthree\n', '; '), 'one; two; three');
  assert.is(joinLines(`${' '.repeat(60_000)}x\ny`, ' '), 'x y');
});

test('a path ends without slashes, and the root stays', () => {
  assert.is(withoutTrailingSlashes('/run/weft'), '/run/weft');
  assert.is(withoutTrailingSlashes('/run//weft///'), '/run//weft');
  assert.is(withoutTrailingSlashes('///'), '/');
  assert.is(withoutTrailingSlashes(''), '');
  assert.is(withoutTrailing('a..b..', '.'), 'a..b');
});

test.run();
