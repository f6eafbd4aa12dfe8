import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { DecodeError } from '../../../../linux/errors.ts';
import {
  encodeRawAttributes,
  type NetlinkMessage,
  NetlinkReader,
  NetlinkWriter,
  type RawAttribute,
} from '../../../../linux/netlink/wire.ts';
import { readDatagrams } from '../../../support/netlink-fixture.ts';
import { bytesOf, decodeMessages } from '../../../support/netlink-messages.ts';
import { randomStream } from '../../../support/random.ts';

const fixtures = readdirSync(join(import.meta.dirname, '../../../fixtures/netlink'))
  .filter((file) => file.endsWith('.hex'))
  .map((file) => file.replace(/\.hex$/, ''));

/** Bytes of the fixed header that a message's attributes come after. */
function headerBytes(type: number): number {
  if (type >= 0x0a00) return 4;
  return { 4: 16, 5: 8, 6: 12, 7: 12 }[type >> 2] ?? 0;
}

function encodeMessages(messages: readonly NetlinkMessage[]): Uint8Array {
  const writer = new NetlinkWriter(64);
  for (const { type, flags, sequence, port, body } of messages) {
    const start = writer.beginMessage(type, flags, sequence);
    writer.setU8(start + 12, port & 255);
    writer.setU8(start + 13, (port >> 8) & 255);
    writer.setU8(start + 14, (port >> 16) & 255);
    writer.setU8(start + 15, port >>> 24);
    const fixed = type < 16 ? body.length : headerBytes(type);
    writer.bytes(body.bytes(0, fixed));
    const raw: RawAttribute[] = [];
    const r = body.attributes(fixed, 'message');
    while (r.next()) raw.push(r.raw());
    encodeRawAttributes(writer, raw);
    writer.endMessage(start);
  }
  return bytesOf(writer);
}

test('every captured datagram is the same after decoding and encoding', () => {
  assert.ok(fixtures.length > 30);
  for (const name of fixtures) {
    for (const datagram of readDatagrams(name)) {
      // A batch of nf_tables has messages whose type is a link's by number.
      if (name === 'request-nft') continue;
      // The kernel aligns the last message as well, tools need not.
      const encoded = encodeMessages(decodeMessages(datagram));
      assert.equal([...encoded.subarray(0, datagram.length)], [...datagram], name);
      assert.ok(encoded.length - datagram.length < 4, name);
    }
  }
});

test('a datagram that is cut off gives a DecodeError, or the whole messages in it', () => {
  for (const name of fixtures) {
    for (const datagram of readDatagrams(name)) {
      const whole = decodeMessages(datagram);
      const step = datagram.length > 1000 ? 7 : 1;
      for (let length = 0; length < datagram.length; length += step) {
        try {
          const messages = decodeMessages(datagram.slice(0, length));
          assert.ok(messages.length < whole.length || datagram.length - length < 4, `${name} at ${length}`);
        } catch (error) {
          assert.instance(error, DecodeError, `${name} at ${length}: ${error}`);
        }
      }
    }
  }
});

test('wrong lengths give a DecodeError', () => {
  const message = (length: number) => {
    const writer = new NetlinkWriter();
    writer.u32(length);
    writer.zeros(16);
    return bytesOf(writer);
  };
  for (const length of [0, 1, 15, 21, 0xffffffff]) {
    assert.throws(
      () => decodeMessages(message(length)),
      (e: unknown) => e instanceof DecodeError,
      String(length),
    );
  }
  const attribute = (...bytes: number[]) => NetlinkReader.of('test', Uint8Array.from(bytes)).nested();
  for (const bytes of [
    [0, 0, 1, 0],
    [3, 0, 1, 0],
    [9, 0, 1, 0, 1, 2, 3, 4],
    [4, 0, 1],
    [255, 255, 1, 0],
  ]) {
    const r = attribute(...bytes);
    assert.throws(
      () => r.next(),
      (e: unknown) => e instanceof DecodeError,
      bytes.join(' '),
    );
    const other = attribute(...bytes);
    assert.throws(
      () => other.find(7),
      (e: unknown) => e instanceof DecodeError,
      bytes.join(' '),
    );
  }
});

test('an attribute is found by its type, behind others', () => {
  const writer = new NetlinkWriter();
  writer.attributeU8(1, 5);
  writer.attributeText(2, 'abc');
  writer.attributeU32(3, 7);
  writer.attributeU32(3, 8);
  const attributes = () => NetlinkReader.of('test', bytesOf(writer)).nested();
  const r = attributes();
  assert.is(r.find(3), true);
  assert.is(r.u32(), 7);
  assert.is(r.find(3), true);
  assert.is(r.u32(), 8);
  assert.is(r.find(1), false, 'it is not before the current one');
  assert.is(attributes().find(9), false);
});

test('reading past a value gives a DecodeError that names the attribute', () => {
  const r = NetlinkReader.of('link', Uint8Array.from([6, 0, 5, 0, 1, 2, 0, 0])).nested();
  assert.ok(r.next());
  assert.is(r.u16(), 0x0201);
  assert.throws(() => r.u32(), /Cannot decode link attribute 5 at byte 4: needs 4 bytes, has 2/);
  assert.throws(() => r.bytes(0, 16), /needs 16 bytes, has 2/);
  assert.not(r.next());
});

test('text is read with or without a final zero, and bytes that are no UTF-8 are replaced', () => {
  const read = (...bytes: number[]): string => {
    const writer = new NetlinkWriter(8);
    writer.attributeBytes(3, Uint8Array.from(bytes));
    const r = NetlinkReader.of('test', bytesOf(writer)).nested();
    r.next();
    return r.text();
  };
  assert.is(read(0x76, 0x30), 'v0');
  assert.is(read(0x76, 0x30, 0, 0x78), 'v0');
  assert.is(read(), '');
  assert.is(read(0xff, 0x41), 'ÿA');
  for (const text of ['wäft', '网络', '🕸 x%41', 'a%b']) {
    const writer = new NetlinkWriter();
    writer.attributeText(1, text);
    const r = NetlinkReader.of('test', bytesOf(writer)).nested();
    r.next();
    assert.is(r.text(), text);
    assert.equal([...r.bytes(0, r.length - 1)], [...Buffer.from(text)]);
  }
});

test('attributes of any shape and depth survive encoding and decoding', () => {
  const random = randomStream(7);
  const integer = (below: number): number => Math.floor(random() * below);
  type Tree = { type: number; value: Uint8Array | Tree[] };
  const grow = (depth: number): Tree[] =>
    Array.from({ length: integer(5) }, () => {
      const type = 1 + integer(200);
      if (depth < 4 && random() < 0.4) return { type, value: grow(depth + 1) };
      return { type, value: Uint8Array.from({ length: integer(40) }, () => integer(256)) };
    });
  const write = (writer: NetlinkWriter, trees: Tree[]): void => {
    for (const { type, value } of trees) {
      if (value instanceof Uint8Array) {
        writer.attributeBytes(type, value);
      } else {
        const start = writer.begin(type);
        write(writer, value);
        writer.end(start);
      }
    }
  };
  const compare = (r: NetlinkReader, trees: Tree[]): void => {
    for (const { type, value } of trees) {
      assert.ok(r.next());
      assert.is(r.type, type);
      if (value instanceof Uint8Array) assert.equal([...r.bytes()], [...value]);
      else compare(r.nested(), value);
    }
    assert.not(r.next());
  };
  for (let i = 0; i < 300; i++) {
    const trees = grow(0);
    const writer = new NetlinkWriter(4);
    write(writer, trees);
    compare(NetlinkReader.of('test', bytesOf(writer)).nested(), trees);
  }
});

test('integers are written and read in both byte orders', () => {
  const writer = new NetlinkWriter(1);
  writer.attributeU8(1, 0xab);
  writer.attributeU16(2, 0xabcd);
  writer.attributeU16be(3, 0xabcd);
  writer.attributeU32(4, 0xfedcba98);
  writer.attributeU32be(5, 0xfedcba98);
  writer.attributeU64be(6, 2 ** 53 - 1);
  const r = NetlinkReader.of('test', bytesOf(writer)).nested();
  const next = () => assert.ok(r.next());
  next();
  assert.is(r.u8(), 0xab);
  next();
  assert.is(r.u16(), 0xabcd);
  next();
  assert.is(r.u16be(), 0xabcd);
  next();
  assert.is(r.u32(), 0xfedcba98);
  assert.is(r.i32(), 0xfedcba98 | 0);
  next();
  assert.is(r.u32be(), 0xfedcba98);
  next();
  assert.is(r.u64be(), 2 ** 53 - 1);
});

test('an attribute too long for its length field is refused', () => {
  const writer = new NetlinkWriter();
  assert.throws(() => writer.attributeBytes(1, new Uint8Array(65532)), RangeError);
});

test('truncated bytes are gone, and zero when written again', () => {
  const writer = new NetlinkWriter(8);
  writer.u32(0xffffffff);
  writer.u32(0xffffffff);
  writer.truncate(2);
  writer.zeros(4);
  assert.equal([...bytesOf(writer)], [255, 255, 0, 0, 0, 0]);
});

test.run();
