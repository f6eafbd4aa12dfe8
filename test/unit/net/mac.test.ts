import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { formatMac, isUnicastMac, localMac, parseMac, sameMac } from '../../../net/mac.ts';
import { vxlanOverheadBytes } from '../../../net/mtu.ts';

test('MACs are parsed and formatted', () => {
  assert.is(formatMac(parseMac('C6:01:02:0a:0B:ff')!), 'c6:01:02:0a:0b:ff');
  assert.is(formatMac(parseMac('c6-01-02-0a-0b-ff')!), 'c6:01:02:0a:0b:ff');
  assert.is(formatMac(parseMac('C601.020a.0Bff')!), 'c6:01:02:0a:0b:ff');
  for (let byte = 0; byte <= 255; byte++) {
    const text = `00:${byte.toString(16).padStart(2, '0')}:00:00:00:00`;
    assert.is(parseMac(text)![1], byte);
    assert.is(parseMac(text.toUpperCase())![1], byte);
  }
  for (const bad of [
    '',
    'c6:01:02:0a:0b',
    'c6:01:02:0a:0b:ff:00',
    'c6:01-02:0a:0b:ff',
    'c601020a0bff',
    'g6:01:02:0a:0b:ff',
  ]) {
    assert.is(parseMac(bad), undefined, bad);
  }
});

test('a random MAC is unicast and locally administered, whatever the random bytes', () => {
  for (let byte = 0; byte < 256; byte++) {
    const mac = localMac(new Uint8Array(6).fill(byte));
    assert.is(mac[0]! & 3, 2);
    assert.ok(isUnicastMac(mac));
  }
  assert.not(isUnicastMac(parseMac('01:00:5e:00:00:01')!));
  assert.not(isUnicastMac(parseMac('00:00:00:00:00:00')!));
  assert.ok(sameMac(parseMac('02:00:00:00:00:01')!, parseMac('02-00-00-00-00-01')!));
});

test('VXLAN takes 50 bytes over IPv4 and 70 over IPv6', () => {
  assert.is(vxlanOverheadBytes(4), 50);
  assert.is(vxlanOverheadBytes(6), 70);
});

test.run();
