/**
 * Netlink's wire format (include/uapi/linux/netlink.h): messages of a 16-byte header and a body, bodies of a fixed
 * header and attributes, attributes of a 4-byte header and a value, everything aligned to 4 bytes. Integers are in the
 * machine's byte order, which is little endian on all machines that Weft is built for (x86-64, arm64). Functions with
 * `be` in their name use big endian.
 *
 * Pure: bytes in, bytes out. No function reads beyond its input; too few bytes are a DecodeError.
 *
 * The file is long because writer and reader of one format are read side by side.
 */

import { DecodeError } from '../errors.ts';

/** include/uapi/linux/netlink.h: message types and flags. */
export const nlmsg = {
  NLMSG_NOOP: 1,
  NLMSG_ERROR: 2,
  NLMSG_DONE: 3,
  NLMSG_OVERRUN: 4,
  NLM_F_REQUEST: 0x01,
  NLM_F_MULTI: 0x02,
  NLM_F_ACK: 0x04,
  NLM_F_DUMP_INTR: 0x10,
  NLM_F_DUMP: 0x300,
  NLM_F_REPLACE: 0x100,
  NLM_F_EXCL: 0x200,
  NLM_F_CREATE: 0x400,
  NLM_F_APPEND: 0x800,
  NLM_F_CAPPED: 0x100,
  NLM_F_ACK_TLVS: 0x200,
} as const;

/** `NLMSG_HDRLEN` */
export const messageHeaderBytes = 16;
/** `NLA_HDRLEN` */
const attributeHeaderBytes = 4;
export const NLA_F_NESTED = 0x8000;
/** Without NLA_F_NESTED and NLA_F_NET_BYTEORDER. */
export const NLA_TYPE_MASK = 0x3fff;

/** `#define NLMSG_ALIGN(len) (((len) + NLMSG_ALIGNTO - 1) & ~(NLMSG_ALIGNTO - 1))`; NLA_ALIGN is the same. */
const align = (length: number): number => (length + 3) & ~3;

/** Appends messages to one growing buffer. A batch of messages is one such buffer. */
export class NetlinkWriter {
  /** The written bytes are buffer[0, length). The buffer is replaced when it grows. */
  buffer: ArrayBuffer;
  length = 0;
  #view: DataView;
  #array: Uint8Array;
  #capacity: number;

  constructor(capacityBytes = 4096) {
    this.#capacity = capacityBytes;
    this.buffer = new ArrayBuffer(capacityBytes);
    this.#view = new DataView(this.buffer);
    this.#array = new Uint8Array(this.buffer);
  }

  /** Makes room for `count` more bytes and returns where they start. New bytes are zero. */
  #grow(count: number): number {
    const at = this.length;
    const end = at + count;
    if (end > this.#capacity) {
      while (this.#capacity < end) this.#capacity *= 2;
      const larger = new ArrayBuffer(this.#capacity);
      const array = new Uint8Array(larger);
      array.set(this.#array.subarray(0, at));
      this.buffer = larger;
      this.#array = array;
      this.#view = new DataView(larger);
    }
    this.length = end;
    return at;
  }

  /** Discards the bytes from `length` on. */
  truncate(length: number): void {
    this.#array.fill(0, length, this.length);
    this.length = length;
  }

  u8(value: number): void {
    const at = this.#grow(1);
    this.#array[at] = value;
  }
  u16(value: number): void {
    const at = this.#grow(2);
    this.#view.setUint16(at, value, true);
  }
  u32(value: number): void {
    const at = this.#grow(4);
    this.#view.setUint32(at, value, true);
  }
  i32(value: number): void {
    const at = this.#grow(4);
    this.#view.setInt32(at, value, true);
  }
  u16be(value: number): void {
    const at = this.#grow(2);
    this.#view.setUint16(at, value);
  }
  u32be(value: number): void {
    const at = this.#grow(4);
    this.#view.setUint32(at, value);
  }
  bytes(value: Uint8Array): void {
    const at = this.#grow(value.length);
    this.#array.set(value, at);
  }
  zeros(count: number): void {
    this.#grow(count);
  }
  /** UTF-8, without a terminator. */
  text(value: string): void {
    const { length } = value;
    const at = this.#grow(length);
    const array = this.#array;
    for (let i = 0; i < length; i++) {
      const code = value.charCodeAt(i);
      if (code >= 0x80) {
        this.length = at + i;
        this.#utf8(value.slice(i));
        return;
      }
      array[at + i] = code;
    }
  }
  #utf8(value: string): void {
    for (const character of value) {
      const code = character.codePointAt(0)!;
      if (code < 0x80) {
        this.u8(code);
      } else if (code < 0x800) {
        this.u8(0xc0 | (code >> 6));
        this.u8(0x80 | (code & 0x3f));
      } else if (code < 0x10000) {
        this.u8(0xe0 | (code >> 12));
        this.u8(0x80 | ((code >> 6) & 0x3f));
        this.u8(0x80 | (code & 0x3f));
      } else {
        this.u8(0xf0 | (code >> 18));
        this.u8(0x80 | ((code >> 12) & 0x3f));
        this.u8(0x80 | ((code >> 6) & 0x3f));
        this.u8(0x80 | (code & 0x3f));
      }
    }
  }

  /** Opens a message, `struct nlmsghdr`. Pass the result to `endMessage`. */
  beginMessage(type: number, flags: number, sequence: number): number {
    const at = this.#grow(messageHeaderBytes);
    this.#view.setUint16(at + 4, type, true);
    this.#view.setUint16(at + 6, flags, true);
    this.#view.setUint32(at + 8, sequence, true);
    return at;
  }
  endMessage(start: number): void {
    this.#view.setUint32(start, this.length - start, true);
    this.#grow(align(this.length) - this.length);
  }
  /** Changes a byte that was written before. */
  setU8(at: number, value: number): void {
    this.#array[at] = value;
  }
  /** Adds flags to a message written before. */
  addFlags(start: number, flags: number): void {
    this.#view.setUint16(start + 6, this.#view.getUint16(start + 6, true) | flags, true);
  }

  /** `struct nlattr` with room for a value; returns where that starts. */
  #attribute(type: number, valueBytes: number): number {
    const at = this.#grow(attributeHeaderBytes + align(valueBytes));
    this.#view.setUint32(at, (attributeHeaderBytes + valueBytes) | (type << 16), true);
    return at + attributeHeaderBytes;
  }
  attributeU8(type: number, value: number): void {
    const at = this.#attribute(type, 1);
    this.#array[at] = value;
  }
  attributeU16(type: number, value: number): void {
    const at = this.#attribute(type, 2);
    this.#view.setUint16(at, value, true);
  }
  attributeU16be(type: number, value: number): void {
    const at = this.#attribute(type, 2);
    this.#view.setUint16(at, value);
  }
  attributeU32(type: number, value: number): void {
    const at = this.#attribute(type, 4);
    this.#view.setUint32(at, value, true);
  }
  attributeU32be(type: number, value: number): void {
    const at = this.#attribute(type, 4);
    this.#view.setUint32(at, value);
  }
  /** Exact up to 2^53. */
  attributeU64be(type: number, value: number): void {
    const at = this.#attribute(type, 8);
    this.#view.setUint32(at, Math.floor(value / 2 ** 32));
    this.#view.setUint32(at + 4, value >>> 0);
  }
  attributeBytes(type: number, value: Uint8Array): void {
    if (value.length > 0xffff - attributeHeaderBytes) {
      throw new RangeError(`A netlink attribute cannot hold ${value.length} bytes`);
    }
    const at = this.#attribute(type, value.length);
    this.#array.set(value, at);
  }
  /** A text with the terminating zero that the kernel's NLA_STRING and NLA_NUL_STRING take. */
  attributeText(type: number, value: string): void {
    const start = this.beginValue(type);
    this.text(value);
    this.u8(0);
    this.end(start);
  }
  /** Opens an attribute that holds attributes. Pass the result to `end`. */
  begin(type: number): number {
    return this.beginValue(type | NLA_F_NESTED);
  }
  /** Opens an attribute with any value. Pass the result to `end`. */
  beginValue(type: number): number {
    const at = this.#grow(attributeHeaderBytes);
    this.#view.setUint16(at + 2, type, true);
    return at;
  }
  end(start: number): void {
    const length = this.length - start;
    if (length > 0xffff) throw new RangeError(`A netlink attribute cannot hold ${length} bytes`);
    this.#view.setUint16(start, length, true);
    this.#grow(align(length) - length);
  }
}

/** An attribute that a codec does not know, kept unchanged with the flags of its type. */
export interface RawAttribute {
  readonly type: number;
  readonly value: Uint8Array;
}

/** Writes attributes that a decoder kept. */
export function encodeRawAttributes(writer: NetlinkWriter, attributes: readonly RawAttribute[] | undefined): void {
  for (const { type, value } of attributes ?? []) writer.attributeBytes(type, value);
}

/**
 * Reads a body: its fixed header by offset, then its attributes one at a time.
 *
 *     const r = body.attributes(16);
 *     while (r.next()) {
 *       switch (r.type) { case IFLA_MTU: mtu = r.u32(); … }
 *     }
 */
export class NetlinkReader {
  /** Type of the current attribute, without its flag bits. */
  type = 0;
  readonly #what: string;
  readonly #view: DataView;
  readonly #limit: number;
  /** The current value is [start, end); the next attribute is at `following`. */
  #start: number;
  #end: number;
  #following: number;

  /** Reads view[start, end). @param what is being read, for DecodeError */
  constructor(what: string, view: DataView, start: number, end: number) {
    this.#what = what;
    this.#view = view;
    this.#start = start;
    this.#end = end;
    this.#limit = end;
    this.#following = end;
  }

  /** Reads all of `bytes`. */
  static of(what: string, bytes: Uint8Array): NetlinkReader {
    return new NetlinkReader(what, new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength), 0, bytes.byteLength);
  }

  #at(offset: number, count: number): number {
    const at = this.#start + offset;
    if (at + count > this.#end) {
      const name = this.type === 0 ? this.#what : `${this.#what} attribute ${this.type}`;
      throw new DecodeError(name, at, count, Math.max(0, this.#end - at));
    }
    return at;
  }

  /** Bytes of the current value: of the whole body before the first `next`. */
  get length(): number {
    return this.#end - this.#start;
  }

  // Each reads at `offset` of the current value.
  u8(offset = 0): number {
    return this.#view.getUint8(this.#at(offset, 1));
  }
  u16(offset = 0): number {
    return this.#view.getUint16(this.#at(offset, 2), true);
  }
  u16be(offset = 0): number {
    return this.#view.getUint16(this.#at(offset, 2));
  }
  u32(offset = 0): number {
    return this.#view.getUint32(this.#at(offset, 4), true);
  }
  i32(offset = 0): number {
    return this.#view.getInt32(this.#at(offset, 4), true);
  }
  u32be(offset = 0): number {
    return this.#view.getUint32(this.#at(offset, 4));
  }
  /** Exact up to 2^53. */
  u64be(offset = 0): number {
    const at = this.#at(offset, 8);
    return this.#view.getUint32(at) * 2 ** 32 + this.#view.getUint32(at + 4);
  }
  /** A copy of the current value from `offset` on; exactly `count` bytes where that is given. */
  bytes(offset = 0, count = Math.max(0, this.length - offset)): Uint8Array {
    const at = this.#view.byteOffset + this.#at(offset, count);
    return new Uint8Array(this.#view.buffer as ArrayBuffer, at, count).slice();
  }
  /** The current value as text, up to its first zero byte. The encoding is UTF-8; malformed text is read as Latin-1. */
  text(): string {
    return this.textAt(0, this.length);
  }
  /** As `text`, of `count` bytes at `offset`. */
  textAt(offset: number, count: number): string {
    let text = '';
    let ascii = true;
    const start = this.#at(offset, count);
    for (let at = start; at < start + count; at++) {
      const byte = this.#view.getUint8(at);
      if (byte === 0) break;
      if (byte >= 0x80) ascii = false;
      text += String.fromCharCode(byte);
    }
    return ascii ? text : decodeUtf8(text);
  }
  /** The attributes inside the current value, after a fixed header of `skip` bytes. */
  nested(skip = 0): NetlinkReader {
    const start = this.#at(skip, 0);
    const name = this.type === 0 ? this.#what : `${this.#what} attribute ${this.type}`;
    return new NetlinkReader(name, this.#view, start, this.#end).#rewind();
  }
  /** The attributes of a body behind its fixed header of `headerBytes`. @param what the body is, for DecodeError */
  attributes(headerBytes: number, what: string): NetlinkReader {
    return new NetlinkReader(what, this.#view, this.#at(headerBytes, 0), this.#end).#rewind();
  }
  #rewind(): this {
    this.#end = this.#start;
    this.#following = this.#start;
    return this;
  }

  /** Moves to the next attribute; false after the last. */
  next(): boolean {
    const at = this.#following;
    const left = this.#limit - at;
    if (left < attributeHeaderBytes) {
      if (left <= 0) return false;
      throw new DecodeError(`${this.#what} attributes`, at, attributeHeaderBytes, left);
    }
    // Length and type in one.
    const header = this.#view.getUint32(at, true);
    const length = header & 0xffff;
    this.type = (header >>> 16) & NLA_TYPE_MASK;
    if (length < attributeHeaderBytes || length > left) {
      throw new DecodeError(`${this.#what} attribute ${this.type}`, at, Math.max(length, attributeHeaderBytes), left);
    }
    this.#start = at + attributeHeaderBytes;
    this.#end = at + length;
    this.#following = at + ((length + 3) & ~3);
    return true;
  }

  /**
   * Moves to the next attribute of the type; false if none follows. This costs a fraction of looking at each attribute. The
   * order of attributes is the kernel's: to find another type, begin with another reader.
   */
  find(type: number): boolean {
    const view = this.#view;
    const limit = this.#limit;
    let at = this.#following;
    while (limit - at >= attributeHeaderBytes) {
      const header = view.getUint32(at, true);
      const length = header & 0xffff;
      if (((header >>> 16) & NLA_TYPE_MASK) === type || length < attributeHeaderBytes || length > limit - at) break;
      at += (length + 3) & ~3;
    }
    this.#following = at;
    return this.next();
  }

  /** The current attribute, undecoded. */
  raw(): RawAttribute {
    return { type: this.#view.getUint16(this.#start - 2, true), value: this.bytes() };
  }
}

/** Decodes UTF-8 from a string with one byte per character. Malformed text stays unchanged. */
function decodeUtf8(binary: string): string {
  try {
    return decodeURIComponent(binary.replace(/[^\x20-\x24\x26-\x7e]/g, escapeByte));
  } catch {
    return binary;
  }
}
const escapeByte = (character: string): string => `%${character.charCodeAt(0).toString(16).padStart(2, '0')}`;

/** A message's header, `struct nlmsghdr`, and its body. */
export interface NetlinkMessage {
  readonly type: number;
  readonly flags: number;
  readonly sequence: number;
  /** The port of the socket that receives the message, or that caused the event. */
  readonly port: number;
  readonly body: NetlinkReader;
}

/**
 * Splits a datagram: calls `visit` for every message in buffer[start, end).
 * @throws DecodeError if a message is cut off
 */
export function eachMessage(
  view: DataView,
  start: number,
  end: number,
  visit: (message: NetlinkMessage) => void,
  what = 'netlink message',
): void {
  for (let at = start; at < end; ) {
    const left = end - at;
    if (left < messageHeaderBytes) throw new DecodeError(what, at, messageHeaderBytes, left);
    const length = view.getUint32(at, true);
    if (length < messageHeaderBytes || length > left) {
      throw new DecodeError(what, at, Math.max(length, messageHeaderBytes), left);
    }
    visit({
      type: view.getUint16(at + 4, true),
      flags: view.getUint16(at + 6, true),
      sequence: view.getUint32(at + 8, true),
      port: view.getUint32(at + 12, true),
      body: new NetlinkReader(what, view, at + messageHeaderBytes, at + length),
    });
    at += align(length);
  }
}
