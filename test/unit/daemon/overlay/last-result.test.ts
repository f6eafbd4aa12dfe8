import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { LastResult } from '../../../../daemon/overlay/last-result.ts';

test('a result is derived again only if an input differs, or after it was forgotten', () => {
  const last = new LastResult<number>();
  let derived = 0;
  const derive = (): number => ++derived;
  const peers = [1, 2];
  const rest = () => ({ name: 'eth0', mac: new Uint8Array([2, 1]), addresses: new Set([7]) });
  assert.is(last.of(peers, rest(), derive), 1);
  assert.is(last.of(peers, rest(), derive), 1, 'equal content, the same list');
  assert.is(last.of([1, 2], rest(), derive), 2, 'another list of the same content');
  const others = [{ name: 'eth1' }, { mac: new Uint8Array([2, 2]) }, { addresses: new Set([8]) }, { mtuBytes: 1400 }];
  const list = [3];
  for (const [i, other] of others.entries()) {
    assert.is(last.of(list, { ...rest(), ...other }, derive), 3 + i, JSON.stringify(other));
  }
  last.forget();
  assert.is(last.of(list, { ...rest(), ...others.at(-1) }, derive), 7);
});

test('a derivation that fails leaves no result', () => {
  const last = new LastResult<number>();
  const list: unknown[] = [];
  last.of(list, 'a', () => 1);
  const fail = (): number => {
    throw new Error('no interface');
  };
  assert.throws(() => last.of(list, 'b', fail), 'no interface');
  assert.is(
    last.of(list, 'a', () => 2),
    2,
  );
});

test.run();
