/**
 * Protocol Buffers, version 3, as far as etcd's interface needs them: messages to bytes and back, by a table of their
 * fields. The build replaces protobufjs with it. protobufjs generates a program for each message when it is loaded: half of
 * etcd3's loading time, and much of its memory. The tests compare the two on every message that etcd has.
 *
 * Objects have the form that etcd3 requests from protobufjs: 64-bit integers as text, enums by name, bytes as Buffers,
 * every field present (absent messages null), and for each oneof the name of the field that is set.
 *
 * https://protobuf.dev/programming-guides/encoding/
 */

/** A scalar's name; `.Name` for a message, `=Name` for an enum. */
type FieldType = string;
/** Names from the .proto file. `oneof`: the name of the oneof that contains it. */
export type FieldRow = readonly [number: number, name: string, type: FieldType, repeated: boolean, oneof?: string];
export type MethodRow = readonly [
  name: string,
  /** The name of the client's method. */
  originalName: string,
  request: string,
  response: string,
  requestStream: boolean,
  responseStream: boolean,
];

export interface ProtocolSchema {
  /** By full name. */
  readonly messages: Readonly<Record<string, readonly FieldRow[]>>;
  /** By full name: names of values by number. */
  readonly enums: Readonly<Record<string, Readonly<Record<string, string>>>>;
  /** By full name. */
  readonly services: Readonly<Record<string, readonly MethodRow[]>>;
}

type Message = Record<string, unknown>;

interface Field {
  readonly number: number;
  readonly name: string;
  readonly repeated: boolean;
  readonly oneof: string | undefined;
  readonly wireType: number;
  /** Reads one value at the reader's position. */
  readonly read: (reader: Reader) => unknown;
  /** Writes one value, without its tag. */
  readonly write: (writer: Writer, value: unknown) => void;
  /** The value of an absent one. */
  readonly absent: () => unknown;
}

const wire = { VARINT: 0, I64: 1, LEN: 2, I32: 5 } as const;

class Reader {
  readonly bytes: Buffer;
  at = 0;
  end: number;
  /** The last varint's low and high 32 bits. */
  low = 0;
  high = 0;

  constructor(bytes: Buffer) {
    this.bytes = bytes;
    this.end = bytes.length;
  }

  varint(): void {
    const bytes = this.bytes;
    let [low, high] = [0, 0];
    for (let shift = 0; shift < 70; shift += 7) {
      if (this.at >= this.end) throw new RangeError('A message of etcd ends within a number');
      const byte = bytes[this.at++]!;
      const bits = byte & 0x7f;
      if (shift < 28) low |= bits << shift;
      else if (shift === 28) {
        low |= bits << 28;
        high = bits >> 4;
      } else if (shift < 64) high |= bits << (shift - 32);
      if (byte < 0x80) {
        this.low = low >>> 0;
        this.high = high >>> 0;
        return;
      }
    }
    throw new RangeError('A message of etcd has a number of more than 10 bytes');
  }

  u32(): number {
    this.varint();
    return this.low;
  }

  /** The text of a 64-bit integer. */
  integer(signed: boolean): string {
    this.varint();
    // Exact as a double up to 2^53.
    if (this.high < 0x200000) return String(this.high * 2 ** 32 + this.low);
    const value = (BigInt(this.high) << 32n) | BigInt(this.low);
    return String(signed ? BigInt.asIntN(64, value) : value);
  }

  /** The position after a value that follows its length. */
  delimited(): number {
    const length = this.u32();
    const end = this.at + length;
    if (end > this.end) throw new RangeError('A message of etcd is truncated');
    return end;
  }

  skip(wireType: number): void {
    if (wireType === wire.VARINT) this.varint();
    else if (wireType === wire.LEN) this.at = this.delimited();
    else if (wireType === wire.I64) this.at += 8;
    else if (wireType === wire.I32) this.at += 4;
    else throw new RangeError(`A message of etcd has the unknown wire type ${wireType}`);
    if (this.at > this.end) throw new RangeError('A message of etcd is truncated');
  }
}

class Writer {
  #bytes = Buffer.allocUnsafe(256);
  #length = 0;

  #room(count: number): number {
    const at = this.#length;
    if (at + count > this.#bytes.length) {
      const larger = Buffer.allocUnsafe(Math.max(this.#bytes.length * 2, at + count));
      this.#bytes.copy(larger, 0, 0, at);
      this.#bytes = larger;
    }
    this.#length = at + count;
    return at;
  }

  #byte(value: number): void {
    // This may replace the buffer.
    const at = this.#room(1);
    this.#bytes[at] = value;
  }

  u32(value: number): void {
    let rest = value >>> 0;
    for (; rest > 0x7f; rest >>>= 7) this.#byte((rest & 0x7f) | 0x80);
    this.#byte(rest);
  }

  /** A 64-bit integer; negative ones in two's complement. */
  integer(value: unknown): void {
    if (typeof value === 'number' && value >= 0 && value <= 0x7fffffff) {
      this.u32(value);
      return;
    }
    let rest = BigInt.asUintN(64, BigInt(value as string | number | bigint));
    for (; rest > 0x7fn; rest >>= 7n) this.#byte(Number(rest & 0x7fn) | 0x80);
    this.#byte(Number(rest));
  }

  raw(value: Uint8Array): void {
    this.u32(value.length);
    const at = this.#room(value.length);
    this.#bytes.set(value, at);
  }

  finish(): Buffer {
    return Buffer.from(this.#bytes.subarray(0, this.#length));
  }
}

/** Shared: it has nothing that could be changed. */
const noBytes = Buffer.alloc(0);

const readInteger = (signed: boolean) => (reader: Reader) => reader.integer(signed);

/** Type → how to read and write it, and its value when absent. */
const scalars: Readonly<Record<string, Pick<Field, 'wireType' | 'read' | 'write' | 'absent'>>> = {
  int64: {
    wireType: wire.VARINT,
    read: readInteger(true),
    write: (writer, value) => writer.integer(value),
    absent: () => '0',
  },
  uint64: {
    wireType: wire.VARINT,
    read: readInteger(false),
    write: (writer, value) => writer.integer(value),
    absent: () => '0',
  },
  int32: {
    wireType: wire.VARINT,
    read: (reader) => reader.u32() | 0,
    write: (writer, value) => writer.integer(value),
    absent: () => 0,
  },
  uint32: {
    wireType: wire.VARINT,
    read: (reader) => reader.u32(),
    write: (writer, value) => writer.integer(value),
    absent: () => 0,
  },
  bool: {
    wireType: wire.VARINT,
    read(reader) {
      reader.varint();
      return reader.low !== 0 || reader.high !== 0;
    },
    write: (writer, value) => writer.u32(value ? 1 : 0),
    absent: () => false,
  },
  string: {
    wireType: wire.LEN,
    read(reader) {
      const end = reader.delimited();
      const text = reader.bytes.toString('utf8', reader.at, end);
      reader.at = end;
      return text;
    },
    write: (writer, value) => writer.raw(Buffer.from(String(value))),
    absent: () => '',
  },
  bytes: {
    wireType: wire.LEN,
    read(reader) {
      const end = reader.delimited();
      const bytes = reader.bytes.subarray(reader.at, end);
      reader.at = end;
      return bytes;
    },
    // Text is base64, as in JSON.
    write: (writer, value) =>
      writer.raw(typeof value === 'string' ? Buffer.from(value, 'base64') : Buffer.from(value as Uint8Array)),
    absent: () => noBytes,
  },
};

function enumType(names: Readonly<Record<string, string>>): Pick<Field, 'wireType' | 'read' | 'write' | 'absent'> {
  const numbers = new Map(Object.entries(names).map(([number, name]) => [name, Number(number)]));
  return {
    wireType: wire.VARINT,
    read(reader) {
      const number = reader.u32() | 0;
      return names[number] ?? number;
    },
    write: (writer, value) => writer.integer(typeof value === 'number' ? value : (numbers.get(String(value)) ?? 0)),
    absent: () => names[0] ?? 0,
  };
}

export class MessageType {
  #fields: readonly Field[] = [];
  readonly #byNumber: (Field | undefined)[] = [];

  /** Types may contain one another, so that the fields come after. */
  define(fields: readonly Field[]): void {
    this.#fields = fields;
    for (const field of fields) this.#byNumber[field.number] = field;
  }

  encode(message: Message): Buffer {
    const writer = new Writer();
    for (const { name, number, repeated, wireType, write } of this.#fields) {
      const value = message[name];
      if (value === undefined || value === null) continue;
      if (!repeated) {
        writer.u32((number << 3) | wireType);
        write(writer, value);
      } else if (wireType === wire.VARINT) {
        // Packed: all values in one.
        const packed = new Writer();
        for (const each of value as readonly unknown[]) write(packed, each);
        if ((value as readonly unknown[]).length === 0) continue;
        writer.u32((number << 3) | wire.LEN);
        writer.raw(packed.finish());
      } else {
        for (const each of value as readonly unknown[]) {
          writer.u32((number << 3) | wireType);
          write(writer, each);
        }
      }
    }
    return writer.finish();
  }

  /** @throws RangeError if the bytes are not such a message */
  decode(bytes: Uint8Array): Message {
    const buffer = Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    return this.read(new Reader(buffer), buffer.length);
  }

  /** Reads up to `end`. */
  read(reader: Reader, end: number): Message {
    const message: Message = {};
    for (const { name, repeated, oneof, absent } of this.#fields) {
      if (oneof === undefined) message[name] = repeated ? [] : absent();
    }
    const outer = reader.end;
    reader.end = end;
    while (reader.at < end) {
      const tag = reader.u32();
      const wireType = tag & 7;
      const field = this.#byNumber[tag >>> 3];
      if (!field) reader.skip(wireType);
      else if (!field.repeated && wireType === field.wireType) {
        message[field.name] = field.read(reader);
        if (field.oneof !== undefined) message[field.oneof] = field.name;
      } else if (field.repeated && wireType === field.wireType) {
        (message[field.name] as unknown[]).push(field.read(reader));
      } else if (field.repeated && wireType === wire.LEN) {
        const packedEnd = reader.delimited();
        while (reader.at < packedEnd) (message[field.name] as unknown[]).push(field.read(reader));
      } else reader.skip(wireType);
    }
    reader.end = outer;
    return message;
  }
}

const messageType = (type: MessageType): Pick<Field, 'wireType' | 'read' | 'write' | 'absent'> => ({
  wireType: wire.LEN,
  read: (reader) => type.read(reader, reader.delimited()),
  write: (writer, value) => writer.raw(type.encode(value as Message)),
  absent: () => null,
});

/** The messages of the schema, by full name. */
export function messageTypes({
  messages,
  enums,
}: Pick<ProtocolSchema, 'messages' | 'enums'>): Map<string, MessageType> {
  const types = new Map(Object.keys(messages).map((name) => [name, new MessageType()]));
  for (const [name, rows] of Object.entries(messages)) {
    types.get(name)!.define(
      rows.map(([number, field, type, repeated, oneof]) => {
        const codec =
          type[0] === '.'
            ? messageType(types.get(type.slice(1))!)
            : type[0] === '='
              ? enumType(enums[type.slice(1)]!)
              : scalars[type];
        if (!codec) throw new TypeError(`Field "${field}" of message "${name}" is of the unknown type "${type}"`);
        return { number, name: field, repeated, oneof, ...codec };
      }),
    );
  }
  return types;
}

/** A method in the form of gRPC's `loadPackageDefinition`, as far as a client needs it. */
export interface MethodDefinition {
  readonly path: string;
  readonly requestStream: boolean;
  readonly responseStream: boolean;
  readonly requestSerialize: (message: Message) => Buffer;
  readonly responseDeserialize: (bytes: Buffer) => Message;
  readonly originalName: string;
}

/** The services of the schema, for gRPC's `loadPackageDefinition`. */
export function packageDefinition(schema: ProtocolSchema): Record<string, Record<string, MethodDefinition>> {
  const types = messageTypes(schema);
  return Object.fromEntries(
    Object.entries(schema.services).map(([service, methods]) => [
      service,
      Object.fromEntries(
        methods.map(([name, originalName, request, response, requestStream, responseStream]) => [
          name,
          {
            path: `/${service}/${name}`,
            requestStream,
            responseStream,
            requestSerialize: (message) => types.get(request)!.encode(message),
            responseDeserialize: (bytes) => types.get(response)!.decode(bytes),
            originalName,
          } satisfies MethodDefinition,
        ]),
      ),
    ]),
  );
}
