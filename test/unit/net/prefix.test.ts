import { Address4, Address6 } from 'ip-address';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { formatAddress } from '../../../net/address.ts';
import {
  defaultPrefix,
  formatPrefix,
  hasHostBits,
  hostPrefix,
  lastAddressOf,
  networkOf,
  type Prefix,
  parsePrefix,
  prefixContains,
  prefixesOverlap,
  samePrefix,
} from '../../../net/prefix.ts';
import { randomStream } from '../../support/random.ts';

const prefix = (text: string): Prefix => {
  const parsed = parsePrefix(text);
  if (!parsed) throw new Error(`"${text}" is no prefix`);
  return parsed;
};

test('prefixes are parsed and formatted as address/length', () => {
  assert.is(formatPrefix(prefix('10.5.52.7/24')), '10.5.52.7/24');
  for (const bad of [
    '10.0.0.0',
    '10.0.0.0/33',
    '::/129',
    '10.0.0.0/',
    '10.0.0.0/-1',
    '10.0.0.0/08',
    '10.0.0/8',
    '/8',
    '10.0.0.0/8/8',
  ]) {
    assert.is(parsePrefix(bad), undefined, bad);
  }
});

test('network and last address agree with ip-address at every length', () => {
  const random = randomStream(3);
  for (let length = 0; length <= 128; length++) {
    const bytes = new Uint8Array(16).map(() => Math.floor(random() * 256));
    const six: Prefix = { address: { family: 6, bytes }, length };
    const oracle = new Address6(formatPrefix(six));
    assert.is(formatAddress(networkOf(six).address), oracle.startAddress().correctForm());
    assert.is(formatAddress(lastAddressOf(six)), oracle.endAddress().correctForm());
    if (length > 32) continue;
    const four: Prefix = { address: { family: 4, bytes: bytes.slice(0, 4) }, length };
    const oracle4 = new Address4(formatPrefix(four));
    assert.is(formatAddress(networkOf(four).address), oracle4.startAddress().correctForm());
    assert.is(formatAddress(lastAddressOf(four)), oracle4.endAddress().correctForm());
  }
});

test('containment and overlap of prefixes are computed', () => {
  assert.ok(prefixContains(prefix('10.5.0.0/16'), prefix('10.5.255.255/32').address));
  assert.not(prefixContains(prefix('10.5.0.0/16'), prefix('10.6.0.0/32').address));
  assert.not(prefixContains(prefix('0.0.0.0/0'), prefix('::/128').address));
  assert.ok(prefixesOverlap(prefix('10.5.52.0/24'), prefix('10.5.0.0/16')));
  assert.ok(prefixesOverlap(prefix('10.5.0.0/16'), prefix('10.5.52.0/24')));
  assert.not(prefixesOverlap(prefix('10.5.52.0/24'), prefix('10.5.53.0/24')));
  assert.ok(samePrefix(prefix('10.5.52.1/24'), prefix('10.5.52.0/24')));
  assert.not(samePrefix(prefix('10.5.52.0/24'), prefix('10.5.52.0/25')));
});

test('host bits, host prefixes and default prefixes are recognised', () => {
  assert.ok(hasHostBits(prefix('10.5.52.1/24')));
  assert.not(hasHostBits(prefix('10.5.52.0/24')));
  assert.is(formatPrefix(hostPrefix(prefix('fd00::1/64').address)), 'fd00::1/128');
  assert.is(formatPrefix(defaultPrefix(6)), '::/0');
});

test.run();
