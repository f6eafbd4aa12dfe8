import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { bytesOf, elementsOf, keyOf, without } from '../../../../daemon/filter/elements.ts';

const samples = [[0, 0, 0, 0], [10, 1, 2, 3], [255, 255, 255, 255], [0x20, 0xff], [0], Array(16).fill(0xfe)];

test('the bytes of an element come back', () => {
  for (const sample of samples) {
    const bytes = Uint8Array.from(sample);
    assert.equal(bytesOf(keyOf(bytes)), bytes, sample.join('.'));
  }
});

test('elements are compared by their bytes', () => {
  const [a, b] = [Uint8Array.of(10, 1, 2, 3), Uint8Array.of(192, 0, 2, 1)];
  const some = elementsOf([a, b, a.slice()]);
  assert.is(some.size, 2);
  assert.equal(without(some, elementsOf([b])), [a]);
  assert.equal(without(some, some), []);
});

test.run();
