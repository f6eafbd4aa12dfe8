import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { CAP_NET_ADMIN, hasCapability } from '../../../linux/capability.ts';
import type { Sys } from '../../../linux/sys.ts';
import { sys } from '../../../linux/sys-bun.ts';

const test = suite('linux/capability');

/** A process whose /proc/self/status has this text. */
function processOf(status: string): Sys {
  const bytes = new TextEncoder().encode(status);
  let at = 0;
  return {
    ...sys,
    open: () => 1000,
    close: () => 0,
    read(_fd, buffer, offset, length) {
      const part = bytes.subarray(at, at + length);
      new Uint8Array(buffer, offset).set(part);
      at += part.length;
      return part.length;
    },
  };
}

test('a capability is in effect if its bit of CapEff is set', () => {
  const has = (mask: string) => hasCapability(processOf(`Name:\tx\nCapEff:\t${mask}\nCapBnd:\tffff\n`), CAP_NET_ADMIN);
  assert.is(has('0000000000001000'), true);
  assert.is(has('000001ffffffffff'), true);
  assert.is(has('0000000000000fff'), false);
  assert.is(hasCapability(processOf('Name:\tx\n'), CAP_NET_ADMIN), false);
});

test.run();
