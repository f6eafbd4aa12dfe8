/** The connection against a made-up kernel: what it sends, and what it makes of every kind of answer. */

import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { errno, NetlinkError } from '../../../../linux/errors.ts';
import {
  decodeAnswer,
  makeQuery,
  makeRequest,
  NetlinkConnection,
  type NetlinkSys,
} from '../../../../linux/netlink/connection.ts';
import { type NetlinkMessage, NetlinkWriter, nlmsg } from '../../../../linux/netlink/wire.ts';
import type { Sys } from '../../../../linux/sys.ts';
import { readDatagrams } from '../../../support/netlink-fixture.ts';
import { bytesOf, decodeMessages } from '../../../support/netlink-messages.ts';

/** A datagram for the connection to receive, or an errno. */
type Received = Uint8Array | number;

/** Answers what is sent; `sent` keeps the messages, datagram by datagram. */
function fakeKernel(answer: (messages: NetlinkMessage[]) => Received[]) {
  const sent: NetlinkMessage[][] = [];
  const queue: Received[] = [];
  const options: [number, number][] = [];
  let closed = 0;
  const sys: NetlinkSys = {
    close: () => {
      closed++;
      return 0;
    },
    bind: () => 0,
    setsockopt: (_fd: number, level: number, option: number) => {
      options.push([level, option]);
      return 0;
    },
    sendto: (_fd: number, buffer: ArrayBuffer, offset: number, length: number) => {
      const messages = decodeMessages(new Uint8Array(buffer, offset, length).slice());
      sent.push(messages);
      queue.push(...answer(messages));
      return length;
    },
    recv: (_fd: number, buffer: ArrayBuffer, offset: number, length: number, flags: number) => {
      assert.is(flags, 0x20);
      const next = queue.shift() ?? -errno.EAGAIN;
      if (typeof next === 'number') return next;
      new Uint8Array(buffer, offset, length).set(next.subarray(0, length));
      return next.length;
    },
  };
  return { sys, sent, options, closed: () => closed };
}

const message = (type: number, flags: number, sequence: number, body: (writer: NetlinkWriter) => void): Uint8Array => {
  const writer = new NetlinkWriter();
  const start = writer.beginMessage(type, flags, sequence);
  body(writer);
  writer.endMessage(start);
  return bytesOf(writer);
};
/** `struct nlmsgerr`, capped. */
const ack = (sequence: number, error = 0, text?: string): Uint8Array =>
  message(nlmsg.NLMSG_ERROR, nlmsg.NLM_F_CAPPED | (text ? nlmsg.NLM_F_ACK_TLVS : 0), sequence, (writer) => {
    writer.i32(-error);
    writer.zeros(16);
    if (text) writer.attributeText(1, text);
  });
const done = (sequence: number, error = 0, flags = 0): Uint8Array =>
  message(nlmsg.NLMSG_DONE, nlmsg.NLM_F_MULTI | flags, sequence, (writer) => writer.i32(-error));
const item = (sequence: number, value: number, flags: number = nlmsg.NLM_F_MULTI): Uint8Array =>
  message(100, flags, sequence, (writer) => writer.u32(value));

const request = (n: number, size = 4) =>
  makeRequest(
    30,
    nlmsg.NLM_F_CREATE,
    () => `do "${n}"`,
    (writer) => {
      writer.u32(n);
      writer.zeros(size - 4);
    },
  );
const connectionOn = (sys: NetlinkSys): NetlinkConnection => new NetlinkConnection(sys, 5, 15_000);
const query = makeQuery(
  40,
  () => 'list things',
  () => undefined,
  (_type, body) => body.u32(),
);
/** Acts as the kernel: every error is answered, and success if the request asks for it. */
const kernel =
  (errors: Record<number, number> = {}) =>
  (messages: NetlinkMessage[]): Received[] =>
    messages.flatMap(({ sequence, flags, body }) => {
      const error = errors[body.u32()] ?? 0;
      return error !== 0 || flags & nlmsg.NLM_F_ACK ? [ack(sequence, error)] : [];
    });

const sequences = (messages: readonly NetlinkMessage[]): number[] => messages.map(({ sequence }) => sequence);

function open(
  answer: (messages: NetlinkMessage[]) => Received[],
): ReturnType<typeof fakeKernel> & { c: NetlinkConnection } {
  const fake = fakeKernel(answer);
  return { ...fake, c: connectionOn(fake.sys) };
}

test('a batch is one datagram, and only its last message asks for an answer', () => {
  const { c, sent } = open(kernel());
  c.execute([request(1), request(2), request(3)]);
  assert.is(sent.length, 1);
  assert.equal(
    sent[0]!.map(({ flags }) => flags),
    [0x401, 0x401, 0x405],
  );
  c.execute([request(4)]);
  assert.equal(sent.map(sequences), [[1, 2, 3], [4]]);
  c.execute([]);
  assert.is(sent.length, 2);
});

test('all requests are carried out, then the first error is thrown', () => {
  const { c } = open(kernel({ 2: errno.EEXIST, 4: errno.ENODEV }));
  const all = [1, 2, 3, 4, 5].map((n) => request(n));
  assert.throws(() => c.execute(all), /^Cannot do "2": EEXIST$/);
  assert.equal(
    c.executeEach(all).map((error) => error?.message),
    [undefined, 'Cannot do "2": EEXIST', undefined, 'Cannot do "4": ENODEV', undefined],
  );
});

test('a batch also ends if its last request fails', () => {
  const { c } = open(kernel({ 3: errno.EPERM }));
  assert.throws(() => c.execute([1, 2, 3].map((n) => request(n))), /^Cannot do "3": EPERM$/);
});

test("an error carries the kernel's words, or the offset if there are none", () => {
  const { c } = open(([first]) => [ack(first!.sequence, errno.EINVAL, 'Unknown device type')]);
  try {
    c.execute([request(1)]);
    assert.unreachable();
  } catch (error) {
    assert.instance(error, NetlinkError);
    assert.is((error as NetlinkError).text, 'Unknown device type');
    assert.is((error as NetlinkError).message, 'Cannot do "1": EINVAL (Unknown device type)');
  }
  const place = open(([first]) => [
    message(nlmsg.NLMSG_ERROR, nlmsg.NLM_F_ACK_TLVS, first!.sequence, (writer) => {
      writer.i32(-errno.EINVAL);
      // Not capped: the whole request is there, of a length that is not aligned.
      writer.u32(19);
      writer.zeros(16);
      writer.attributeU32(2, 24);
    }),
  ]);
  assert.throws(() => place.c.execute([request(1)]), /EINVAL \(attribute at byte 24 of the message\)/);
});

test('large batches are sent as several datagrams, by count and by size', () => {
  const { c, sent } = open(kernel({ 200: errno.EEXIST }));
  const outcome = c.executeEach(Array.from({ length: 400 }, (_, n) => request(n)));
  assert.equal(
    sent.map((messages) => messages.length),
    [160, 160, 80],
  );
  assert.is(outcome.filter(Boolean).length, 1);
  assert.is(outcome[200]!.code, 'EEXIST');
  const large = open(kernel({ 2: errno.EPERM }));
  const outcomes = large.c.executeEach([0, 1, 2, 3].map((n) => request(n, 30_000)));
  assert.equal(large.sent.map(sequences), [
    [1, 2],
    [3, 4],
  ]);
  assert.equal(
    outcomes.map((error) => error?.code),
    [undefined, undefined, 'EPERM', undefined],
  );
  const huge = open(kernel());
  huge.c.execute([request(0, 100_000), request(1)]);
  assert.equal(huge.sent.map(sequences), [[1], [2]]);
});

test('answers to other requests are ignored', () => {
  const { c } = open(([first]) => [ack(first!.sequence + 77, errno.EPERM), ack(first!.sequence)]);
  c.execute([request(1)]);
  const late = open((messages) =>
    messages[0]!.type === 40 ? [ack(1, errno.EPERM), item(messages[0]!.sequence, 8, 0)] : [],
  );
  assert.throws(() => late.c.execute([request(1)]), /ETIMEDOUT/);
  assert.is(late.c.get(query), 8);
});

test('a missing answer is an error that names the time waited', () => {
  const { c } = open(() => []);
  assert.throws(() => c.execute([request(1)]), /^Cannot do "1": no answer within 15000 ms: ETIMEDOUT$/);
  assert.throws(() => c.get(query), /ETIMEDOUT/);
  assert.throws(() => c.dump(query), /ETIMEDOUT/);
});

test('lost answers give an error', () => {
  const { c } = open(() => [-errno.ENOBUFS]);
  assert.throws(() => c.execute([request(1)]), /^Cannot receive the answer to the request to do "1": ENOBUFS$/);
});

test('get gives the object, nothing, or an error', () => {
  const answers: Record<number, (sequence: number) => Received[]> = {
    1: (s) => [item(s, 42, 0)],
    2: (s) => [ack(s, errno.ENODEV)],
    3: (s) => [ack(s, errno.EPERM)],
    4: (s) => [ack(s, errno.ENOENT)],
  };
  const { c, sent } = open(([first]) => answers[first!.sequence]!(first!.sequence));
  assert.is(c.get(query), 42);
  assert.is(c.get(query), undefined);
  assert.throws(() => c.get(query), /Cannot list things: EPERM/);
  assert.is(c.get(query), undefined);
  assert.is(sent[0]![0]!.flags, nlmsg.NLM_F_REQUEST);
});

test('an answer that does not fit the buffer is requested again with a larger one', () => {
  const { c, sent } = open(([first]) => [
    message(100, 0, first!.sequence, (writer) => {
      writer.u32(7);
      writer.zeros(50_000);
    }),
  ]);
  assert.is(c.get(query), 7);
  assert.is(sent.length, 2);
});

test('a request and a query are one datagram, and the query answers for both', () => {
  const cases: [answer: (s: number) => Received[], got: number | undefined | RegExp][] = [
    [(s) => [item(s + 1, 42, 0)], 42],
    [(s) => [ack(s - 1, errno.EPERM), Uint8Array.from([...ack(s), ...item(s + 1, 42, 0)])], 42],
    [(s) => [ack(s + 1, errno.ENODEV)], undefined],
    [(s) => [ack(s, errno.EPERM), item(s + 1, 42, 0)], /Cannot do "1": EPERM/],
    [(s) => [ack(s, errno.EPERM), ack(s + 1, errno.ENODEV)], /Cannot do "1": EPERM/],
    [(s) => [ack(s + 1, errno.EPERM)], /Cannot list things: EPERM/],
  ];
  for (const [answer, got] of cases) {
    const { c, sent } = open(([first]) => answer(first!.sequence));
    if (got instanceof RegExp) assert.throws(() => c.executeAndGet(request(1), query), got);
    else assert.is(c.executeAndGet(request(1), query), got);
    assert.is(sent.length, 1);
    assert.equal(
      sent[0]!.map(({ type, flags }) => [type, flags & nlmsg.NLM_F_ACK]),
      [
        [30, 0],
        [query.type, 0],
      ],
    );
  }
  const { c } = open(() => []);
  assert.throws(() => c.executeAndGet(request(1), query), /no answer within/);
});

test('an answer behind a request that does not fit the buffer is requested again, and the request is not', () => {
  const { c, sent } = open((messages) => [
    message(100, 0, messages.at(-1)!.sequence, (writer) => {
      writer.u32(7);
      writer.zeros(50_000);
    }),
  ]);
  assert.is(c.executeAndGet(request(1), query), 7);
  assert.equal(
    sent.map((messages) => messages.length),
    [2, 1],
  );
});

test('a dump collects all datagrams until its end, filtered by the kernel', () => {
  const { c, sent, options } = open(([first]) => {
    const s = first!.sequence;
    return [Uint8Array.from([...item(s, 1), ...item(s, 2)]), item(s + 5, 99), item(s, 3), done(s)];
  });
  assert.equal(c.dump(query), [1, 2, 3]);
  assert.is(sent[0]![0]!.flags, nlmsg.NLM_F_REQUEST | nlmsg.NLM_F_DUMP);
  c.dump(query);
  assert.is(options.filter(([, option]) => option === 12).length, 1);
});

test('a dump can end before its end', () => {
  const { c, sent } = open(([first]) => {
    const s = first!.sequence;
    return [item(s, 1, nlmsg.NLM_F_MULTI | nlmsg.NLM_F_DUMP_INTR), item(s, 2), item(s, 3), done(s)];
  });
  assert.equal(c.dump(query, 2), [1, 2]);
  assert.is(sent.length, 1);
  const empty = open(([first]) => [done(first!.sequence)]);
  assert.equal(empty.c.dump(query, 1), []);
});

test('an interrupted dump is read to its end and repeated, but not for ever', () => {
  let calls = 0;
  const { c, sent } = open(([first]) => {
    const s = first!.sequence;
    if (++calls === 1) return [item(s, 1, nlmsg.NLM_F_MULTI | nlmsg.NLM_F_DUMP_INTR), item(s, 2), done(s)];
    if (calls === 2) return [item(s, 1), done(s, 0, nlmsg.NLM_F_DUMP_INTR)];
    return [item(s, 3), done(s)];
  });
  assert.equal(c.dump(query), [3]);
  assert.is(sent.length, 3);
  const never = open(([first]) => [done(first!.sequence, 0, nlmsg.NLM_F_DUMP_INTR)]);
  assert.throws(() => never.c.dump(query), /^Cannot list things: it kept changing in 8 attempts: EAGAIN$/);
  assert.is(never.sent.length, 8);
});

test('a dump with a piece that does not fit the buffer is read to its end and repeated', () => {
  const { c, sent } = open(([first]) => {
    const s = first!.sequence;
    const big = message(100, nlmsg.NLM_F_MULTI, s, (writer) => {
      writer.u32(5);
      writer.zeros(40_000);
    });
    return [big, item(s, 6), done(s)];
  });
  assert.equal(c.dump(query), [5, 6]);
  assert.is(sent.length, 2);
});

test("a dump fails at once, at its end, or because its filter's object is missing", () => {
  const answers: ((s: number) => Received[])[] = [
    (s) => [ack(s, errno.EPERM)],
    (s) => [item(s, 1), done(s, errno.EMSGSIZE)],
    (s) => [ack(s, errno.ENODEV)],
    (s) => [done(s, errno.ENOENT)],
  ];
  const { c } = open(([first]) => answers.shift()!(first!.sequence));
  assert.throws(() => c.dump(query), /Cannot list things: EPERM/);
  assert.throws(() => c.dump(query), /Cannot list things: EMSGSIZE/);
  assert.equal(c.dump(query), []);
  assert.equal(c.dump(query), []);
});

test('a transaction ends with the answer to its last request, and throws the first error', () => {
  const batch = (n: number) => ({ ...request(n), type: n });
  const { c, sent } = open(kernel({ 2: errno.ENOENT, 3: errno.EEXIST }));
  c.transact(batch(16), [request(1)], batch(17));
  assert.equal(
    sent[0]!.map(({ flags }) => flags & nlmsg.NLM_F_ACK),
    [0, 4, 0],
  );
  assert.throws(
    () =>
      c.transact(
        batch(16),
        [1, 2, 3, 4].map((n) => request(n)),
        batch(17),
      ),
    /Cannot do "2": ENOENT/,
  );
  c.transact(batch(16), [], batch(17));
  assert.is(sent.length, 2);
  // Refused as a whole: nothing more is answered.
  const refused = open(([first]) => [ack(first!.sequence, errno.EPERM)]);
  assert.throws(() => refused.c.transact(batch(16), [request(1), request(2)], batch(17)), /Cannot do "16": EPERM/);
});

test('a listening connection sends nothing, and gives events, an overrun, or nothing in time', () => {
  const { c } = open(() => []);
  c.join(1);
  assert.throws(() => c.execute([request(1)]), /this netlink connection is for events/);
  assert.is(c.receiveEvents(), undefined);
  const events: Received[] = [item(1, 1), -errno.ENOBUFS, new Uint8Array(40_000)];
  const fake = fakeKernel(() => []);
  const listening = connectionOn({
    ...fake.sys,
    recv: ((_f, buffer: ArrayBuffer, _o, length: number) => {
      const next = events.shift()!;
      if (typeof next === 'number') return next;
      new Uint8Array(buffer).set(next.subarray(0, length));
      return next.length;
    }) as Sys['recv'],
  });
  assert.equal([...(listening.receiveEvents() as Uint8Array)], [...item(1, 1)]);
  assert.is(listening.receiveEvents(), 'overrun');
  assert.is(listening.receiveEvents(), 'overrun');
});

test('a connection is closed once, and also if it cannot be set up', () => {
  const { c, closed } = open(() => []);
  c.close();
  c.close();
  assert.is(closed(), 1);
  const fake = fakeKernel(() => []);
  const failing = { ...fake.sys, setsockopt: () => -errno.EINVAL };
  assert.throws(() => connectionOn(failing), /Cannot ask netlink for error texts: EINVAL/);
  assert.is(fake.closed(), 1);
});

test('answers of the kernel are decoded: success, an error, an error with a text', () => {
  const answer = (name: string) => decodeAnswer(decodeMessages(readDatagrams(name)[0]!)[0]!);
  assert.is(answer('success').errno, 0);
  assert.equal(answer('error-plain'), { errno: 19, text: undefined, offset: undefined });
  assert.is(answer('error-text').errno, 22);
  assert.is(answer('error-text').text, 'mtu less than device minimum');
});

test.run();
