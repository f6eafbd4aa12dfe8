import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { etcdSchema } from '../../../../build/etcd3.mjs';
import { messageTypes, packageDefinition } from '../../../../cluster/etcd/protobuf.ts';

const test = suite('cluster/etcd/protobuf');

const require = createRequire(import.meta.url);
const loader = createRequire(require.resolve('etcd3'))('@grpc/proto-loader') as typeof import('@grpc/proto-loader');
/** What etcd3 does itself, the options included. */
const theirs = loader.loadSync(join(dirname(require.resolve('etcd3')), '..', 'proto', 'rpc.proto'), {
  keepCase: true,
  longs: String,
  enums: String,
  defaults: true,
  oneofs: true,
});
const schema = etcdSchema();
const ours = packageDefinition(schema);

type Message = Record<string, unknown>;

/** Numbers from a seed, the same each time. */
function randomOf(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
}

const integers = ['0', '1', '127', '128', '300', '4294967295', '4294967296', '9007199254740991', '9007199254740993'];
const signed = [...integers, '-1', '-9223372036854775808', '9223372036854775807'];
const unsigned = [...integers, '18446744073709551615'];
const texts = ['', 'a', 'grüße', '日本', 'x'.repeat(300)];

function randomValue(type: string, random: (below: number) => number, depth: number): unknown {
  const one = <T>(values: readonly T[]): T => values[random(values.length)]!;
  if (type[0] === '.') return randomMessage(type.slice(1), random, depth + 1);
  if (type[0] === '=') return one(Object.values(schema.enums[type.slice(1)]!));
  switch (type) {
    case 'int64':
      return one(signed);
    case 'uint64':
      return one(unsigned);
    case 'int32':
      return one([0, 1, -1, 2 ** 31 - 1, -(2 ** 31)]);
    case 'uint32':
      return one([0, 1, 127, 128, 2 ** 32 - 1]);
    case 'bool':
      return random(2) === 1;
    case 'bytes':
      return Buffer.from(one(texts));
    default:
      return one(texts);
  }
}

/** Some of the fields set, of a oneof at most one. */
function randomMessage(name: string, random: (below: number) => number, depth = 0): Message {
  const message: Message = {};
  const oneofs = new Set<string>();
  for (const [, field, type, repeated, oneof] of schema.messages[name]!) {
    if (random(3) === 0 || (depth > 3 && type[0] === '.')) continue;
    if (oneof !== undefined) {
      if (oneofs.has(oneof)) continue;
      oneofs.add(oneof);
    }
    message[field] = repeated
      ? Array.from({ length: random(4) }, () => randomValue(type, random, depth))
      : randomValue(type, random, depth);
  }
  return message;
}

test('every message of etcd goes both ways as protobufjs has it', () => {
  const random = randomOf(1);
  let compared = 0;
  for (const [service, methods] of Object.entries(ours)) {
    for (const [name, method] of Object.entries(methods)) {
      const their = (theirs[service] as Record<string, import('@grpc/proto-loader').MethodDefinition<object, object>>)[
        name
      ]!;
      assert.is(method.path, their.path);
      assert.is(method.originalName, their.originalName, name);
      assert.is(method.requestStream, their.requestStream);
      assert.is(method.responseStream, their.responseStream);
      const [, , request, response] = schema.services[service]!.find((row) => row[0] === name)!;
      for (let i = 0; i < 20; i++) {
        const asked = randomMessage(request, random);
        assert.equal(
          their.requestDeserialize(method.requestSerialize(asked)),
          their.requestDeserialize(their.requestSerialize(asked)),
          request,
        );
        const answered = their.responseSerialize(randomMessage(response, random));
        assert.equal(method.responseDeserialize(answered), { ...their.responseDeserialize(answered) }, response);
        compared++;
      }
    }
  }
  assert.ok(compared > 500, `${compared}`);
});

test('unknown fields are skipped, and truncated messages refused', () => {
  const type = messageTypes(schema).get('mvccpb.KeyValue')!;
  const bytes = type.encode({ key: Buffer.from('k'), value: Buffer.from('v'.repeat(200)), lease: '7' });
  // Field 99, once as each wire type.
  const unknown = Buffer.from([0x98, 6, 5, 0x99, 6, 1, 2, 3, 4, 5, 6, 7, 8, 0x9a, 6, 2, 1, 2, 0x9d, 6, 1, 2, 3, 4]);
  assert.equal(type.decode(Buffer.concat([unknown, bytes, unknown])), type.decode(bytes));
  for (let length = 1; length < bytes.length; length++) {
    try {
      type.decode(bytes.subarray(0, length));
    } catch (error) {
      assert.instance(error, RangeError, `${length}`);
    }
  }
  assert.throws(() => type.decode(bytes.subarray(0, 50)), RangeError);
  assert.throws(() => type.decode(Buffer.alloc(12, 0xff)), RangeError);
});

test('a growing buffer keeps its content', () => {
  const type = messageTypes(schema).get('mvccpb.KeyValue')!;
  for (let length = 240; length < 270; length++) {
    const message = { key: Buffer.alloc(length, 1), value: Buffer.alloc(300, 2), version: '-1' };
    const decoded = type.decode(type.encode(message));
    assert.equal(decoded['key'], message.key);
    assert.equal(decoded['value'], message.value);
    assert.is(decoded['version'], '-1');
  }
});

test.run();
