import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { decodeEchoReply, encodeEcho } from '../../../linux/icmp.ts';

const hex = (text: string): Uint8Array => Uint8Array.from(text.split(' ').map((byte) => Number.parseInt(byte, 16)));

const request = hex('08 00 00 00 12 34 00 01 01 02 03 04');

test('a request has the checksum that makes the sum of all words ones', () => {
  const buffer = new Uint8Array(12);
  buffer.set([1, 2, 3, 4], 8);
  encodeEcho(buffer.buffer, 4, 0x1234, 1, 12);
  let sum = 0;
  for (let i = 0; i < 12; i += 2) sum += (buffer[i]! << 8) | buffer[i + 1]!;
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  assert.is(sum, 0xffff);
  assert.equal([...buffer.subarray(0, 2), ...buffer.subarray(4)], [...request.subarray(0, 2), ...request.subarray(4)]);
});

test('a reply is read with and without an IP header, also with options', () => {
  const reply = hex('00 00 00 00 12 34 00 07 aa bb');
  const header = (words: number): Uint8Array => {
    const bytes = new Uint8Array(words * 4);
    bytes[0] = 0x40 | words;
    bytes[9] = 1;
    return bytes;
  };
  const expected = { identifier: 0x1234, sequence: 7, payload: hex('aa bb') };
  const plain = decodeEchoReply(reply, 4, false);
  assert.equal({ ...plain, payload: plain!.payload.slice() }, expected);
  for (const words of [5, 6, 15]) {
    const read = decodeEchoReply(Uint8Array.from([...header(words), ...reply]), 4, true);
    assert.equal({ ...read, payload: read!.payload.slice() }, expected);
  }
  const six = hex('81 00 00 00 12 34 00 07 aa bb');
  assert.is(decodeEchoReply(six, 6, false)?.sequence, 7);
});

test('anything else is no reply: requests, errors, other protocols, and packets cut off anywhere', () => {
  const reply = Uint8Array.from([0x45, 0, 0, 0, 0, 0, 0, 0, 64, 1, ...new Array(10).fill(0), 0, 0, 0, 0, 1, 2, 0, 1]);
  assert.ok(decodeEchoReply(reply, 4, true));
  for (let length = 0; length < reply.length; length++) {
    assert.is(decodeEchoReply(reply.subarray(0, length), 4, true), undefined);
  }
  for (const [at, value] of [
    [0, 0x44],
    [0, 0x4f],
    [9, 17],
    [20, 8],
    [20, 3],
    [21, 1],
  ] as const) {
    const changed = reply.slice();
    changed[at] = value;
    assert.is(decodeEchoReply(changed, 4, true), undefined, `${at} ${value}`);
  }
  assert.is(decodeEchoReply(hex('80 00 00 00 12 34 00 07'), 6, false), undefined);
});

test.run();
