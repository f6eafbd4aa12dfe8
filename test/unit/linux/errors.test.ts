import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { check, NetlinkError, SyscallError } from '../../../linux/errors.ts';

const test = suite('linux/errors');

test('an action, its subject and the rest are one sentence, and fields of the error', () => {
  const error = new SyscallError(['rename', '/a', 'to "/b"'], -2);
  assert.is(error.message, 'Cannot rename "/a" to "/b": ENOENT');
  assert.equal([error.op, error.subject, error.errno, error.code], ['rename', '/a', 2, 'ENOENT']);
  const unnamed = new SyscallError('receive events', 105);
  assert.is(unnamed.message, 'Cannot receive events: ENOBUFS');
  assert.equal([unnamed.op, unnamed.subject], ['receive events', undefined]);
  assert.is(new SyscallError(['change link', 5], 19).message, 'Cannot change link 5: ENODEV');
  assert.throws(() => check(-13, ['open', '/x']), /^Cannot open "\/x": EACCES$/);
});

test("the kernel's words, or else the place that it names", () => {
  const words = new NetlinkError(['add route', '10.1.0.0/24'], 22, { text: 'Invalid prefix', offset: 36 });
  assert.is(words.message, 'Cannot add route "10.1.0.0/24": EINVAL (Invalid prefix)');
  assert.equal([words.op, words.subject, words.text, words.offset], ['add route', '10.1.0.0/24', 'Invalid prefix', 36]);
  const place = new NetlinkError(['add route', '10.1.0.0/24'], 22, { offset: 36 });
  assert.is(place.message, 'Cannot add route "10.1.0.0/24": EINVAL (attribute at byte 36 of the message)');
  assert.is(new NetlinkError('list links', 1).message, 'Cannot list links: EPERM');
});

test.run();
