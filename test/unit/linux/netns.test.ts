import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { errno } from '../../../linux/errors.ts';
import { inNamespace, openCurrentNamespace, openNamespace, sameNamespace } from '../../../linux/netns.ts';
import type { Sys } from '../../../linux/sys.ts';
import { sys } from '../../../linux/sys-bun.ts';

/** Follows setns; `fail` makes the nth call fail. */
function fake(fail = 0): { sys: Sys; entered: number[]; output: string[] } {
  const entered: number[] = [];
  const output: string[] = [];
  const calls: Sys = {
    ...sys,
    setns: (fd) => {
      entered.push(fd);
      return entered.length === fail ? -errno.EINVAL : 0;
    },
    readlink: () => '/etc/passwd',
    write: (fd, buffer, offset, length) => {
      output.push(`${fd}: ${Buffer.from(buffer, offset, length)}`);
      return length;
    },
    exit: (status) => {
      throw new Error(`exit ${status}`);
    },
  };
  return { sys: calls, entered, output };
}

test('a body runs in the namespace, and the thread returns whatever happens in it', () => {
  const { sys: calls, entered } = fake();
  assert.is(
    inNamespace(calls, { from: 3, to: 4 }, () => entered.length),
    1,
  );
  assert.equal(entered, [4, 3]);
  const fails = () => {
    throw new Error('mine');
  };
  assert.throws(() => inNamespace(calls, { from: 3, to: 4 }, fails), /mine/);
  assert.equal(entered, [4, 3, 4, 3]);
});

test('a file that is no network namespace is named in the error, and nothing runs', () => {
  const { sys: calls, entered } = fake(1);
  const body = () => assert.unreachable();
  assert.throws(
    () => inNamespace(calls, { from: 3, to: 4 }, body),
    /^Cannot enter network namespace "\/etc\/passwd": EINVAL$/,
  );
  assert.equal(entered, [4]);
});

test('a process that cannot come back ends', () => {
  const { sys: calls, output } = fake(2);
  assert.throws(() => inNamespace(calls, { from: 3, to: 4 }, () => 1), /exit 1/);
  assert.equal(output, ["2: Cannot return to the host's network namespace: EINVAL; giving up\n"]);
});

test('namespaces are opened by path', () => {
  const a = openCurrentNamespace(sys);
  const b = openNamespace(sys, `/proc/${process.pid}/ns/net`);
  const other = openNamespace(sys, '/proc/self/ns/uts');
  assert.ok(sameNamespace(sys, a, b));
  assert.not(sameNamespace(sys, a, other));
  for (const fd of [a, b, other]) sys.close(fd);
  assert.throws(
    () => openNamespace(sys, '/run/netns/weft-absent'),
    /^Cannot open network namespace "\/run\/netns\/weft-absent": ENOENT$/,
  );
});

test.run();
