import { createHash } from 'node:crypto';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { sha512 } from '../../../cni/sha512.ts';

const test = suite('cni/sha512');

test("the digest equals OpenSSL's for every length around the ends of blocks", () => {
  for (let length = 0; length < 300; length++) {
    const bytes = Uint8Array.from({ length }, (_, i) => (i * 131 + length * 7) & 255);
    assert.is(sha512(bytes), createHash('sha512').update(bytes).digest('hex'), `${length} bytes`);
  }
});

test.run();
