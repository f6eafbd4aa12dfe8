import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { CniError, errorCodes, formatError } from '../../../../cni/spec/errors.ts';
import { quote, shorten } from '../../../../cni/spec/text.ts';

const test = suite('cni/spec/text');

test('values are quoted, long ones are cut, and deep ones are described by their kind', () => {
  assert.equal([quote('a"b'), quote(5), quote(null), quote(undefined)], ['"a\\"b"', '5', 'null', 'nothing']);
  assert.equal([quote({ a: 1 }), quote([1, 2])], ['{"a":1}', '[1,2]']);
  assert.is(quote('x'.repeat(50_000)).length, 120);
  let deep: unknown = 1;
  for (let i = 0; i < 100_000; i++) deep = { a: deep };
  assert.equal([quote(deep), quote([deep])], ['a large object', 'a long list']);
});

test('a shortened text keeps its two ends', () => {
  assert.is(shorten('short', 10), 'short');
  assert.is(shorten('0123456789abcdef', 12), '01234...cdef');
});

test('no error document is longer than a line of a log should be', () => {
  const error = new CniError(errorCodes.badEnvironment, 'm'.repeat(50_000), { details: 'd'.repeat(50_000) });
  assert.ok(formatError(error, undefined).length < 5_000);
  const forged = JSON.parse(formatError(new CniError(errorCodes.badNamespace, 'a "\nb"\u0000\tc'), undefined));
  assert.is(forged.msg, 'a "\\nb"\\u0000\\tc');
});

test.run();
