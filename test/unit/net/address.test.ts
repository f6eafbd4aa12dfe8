import { Address4, Address6 } from 'ip-address';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import {
  type Address,
  compareAddresses,
  formatAddress,
  isLinkLocal,
  isMulticast,
  isUnspecified,
  offsetAddress,
  parseAddress,
} from '../../../net/address.ts';
import { randomStream } from '../../support/random.ts';

const address = (text: string): Address => {
  const parsed = parseAddress(text);
  if (!parsed) throw new Error(`"${text}" is no address`);
  return parsed;
};

test('IPv4 text is a strict dotted quad', () => {
  assert.equal([...address('10.5.52.1').bytes], [10, 5, 52, 1]);
  for (const bad of [
    '',
    '1.2.3',
    '1.2.3.4.5',
    '256.1.1.1',
    '01.2.3.4',
    '1.2.3.4 ',
    '1.2.3.',
    '+1.2.3.4',
    '1e1.2.3.4',
    '1..2.3',
    '.1.2.3.4',
    '1.2.3.4.',
    '1.2.3.00',
    '1.2.3.1000',
    '1.2.3.٤',
  ]) {
    assert.is(parseAddress(bad), undefined, bad);
  }
  for (let byte = 0; byte <= 255; byte++) {
    assert.equal([...address(`${byte}.0.${255 - byte}.${byte}`).bytes], [byte, 0, 255 - byte, byte]);
  }
});

test('IPv6 text follows RFC 4291', () => {
  for (const [text, canonical] of [
    ['::', '::'],
    ['::1', '::1'],
    ['2001:DB8:0:0:1:0:0:1', '2001:db8::1:0:0:1'],
    ['2001:db8:0:1:1:1:1:1', '2001:db8:0:1:1:1:1:1'],
    ['1:2:3:4:5:6:7::', '1:2:3:4:5:6:7:0'],
    ['64:ff9b::192.0.2.33', '64:ff9b::c000:221'],
    ['fd00:5:0:34::', 'fd00:5:0:34::'],
  ] as const) {
    assert.is(formatAddress(address(text)), canonical, text);
  }
  for (const bad of [
    ':',
    ':::',
    '1::2::3',
    '1:2:3:4:5:6:7',
    '1:2:3:4:5:6:7:8:9',
    '1:2:3:4:5:6:7:8::',
    '12345::',
    'fe80::1%eth0',
    '1.2.3.4::',
    '::1.2.3',
    'g::',
  ]) {
    assert.is(parseAddress(bad), undefined, bad);
  }
});

test('an IPv4-mapped IPv6 address is the IPv4 address', () => {
  assert.is(formatAddress(address('::ffff:10.0.0.1')), '10.0.0.1');
  assert.is(address('::ffff:a00:1').family, 4);
});

test('parsing agrees with ip-address on random and on broken addresses', () => {
  const random = randomStream(1);
  for (let i = 0; i < 3000; i++) {
    const bytes = new Uint8Array(16).map(() => (random() < 0.5 ? 0 : Math.floor(random() * 256)));
    const six: Address = { family: 6, bytes };
    const text = formatAddress(six);
    assert.is(text, new Address6(text).correctForm(), text);
    const back = address(text);
    if (back.family === 6) assert.is(compareAddresses(back, six), 0, text);
    const four = formatAddress({ family: 4, bytes: bytes.slice(0, 4) });
    assert.is(new Address4(four).correctForm(), four);
    // One character changed: both accept it, or both refuse it.
    const at = Math.floor(random() * text.length);
    const broken = text.slice(0, at) + '0123456789abcdef:.g'[Math.floor(random() * 19)]! + text.slice(at + 1);
    // A bare dotted quad is IPv4's business, and the library accepts an embedded one with leading zeros.
    if (broken.includes(':') && !broken.includes('.')) {
      assert.is(parseAddress(broken) !== undefined, Address6.isValid(broken), broken);
    }
  }
});

test('offsets carry over bytes, and stop at the ends of the address space', () => {
  assert.is(formatAddress(offsetAddress(address('10.0.0.255'), 1)!), '10.0.1.0');
  assert.is(formatAddress(offsetAddress(address('10.0.1.0'), -1)!), '10.0.0.255');
  assert.is(formatAddress(offsetAddress(address('fd00::ffff:ffff'), 2)!), 'fd00::1:0:1');
  assert.is(offsetAddress(address('255.255.255.255'), 1), undefined);
  assert.is(offsetAddress(address('::'), -1), undefined);
});

/** An address as the number that its bytes are. */
const numberOf = ({ bytes }: Address): bigint => [...bytes].reduce((sum, byte) => sum * 256n + BigInt(byte), 0n);

test('an offset is a sum of numbers', () => {
  const random = randomStream(2);
  for (let i = 0; i < 500; i++) {
    const from = address(random() < 0.5 ? '10.20.30.40' : 'fd00:1:2:3::4:5');
    const offset = Math.floor(random() * 100_000_000) - 50_000_000;
    assert.is(numberOf(offsetAddress(from, offset)!) - numberOf(from), BigInt(offset));
  }
});

test('kinds of addresses are recognised', () => {
  assert.ok(isMulticast(address('224.0.0.1')) && isMulticast(address('ff02::1')) && !isMulticast(address('10.0.0.1')));
  assert.ok(isLinkLocal(address('169.254.1.1')) && isLinkLocal(address('fe80::1')) && !isLinkLocal(address('fec0::1')));
  assert.ok(isUnspecified(address('0.0.0.0')) && isUnspecified(address('::')) && !isUnspecified(address('::1')));
});

test.run();
