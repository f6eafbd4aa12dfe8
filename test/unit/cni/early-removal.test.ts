/** A link's removal by another process, against a made-up kernel and a clock of its own. */

import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { removeLinkEarly } from '../../../cni/early-removal.ts';
import { errno, SyscallError } from '../../../linux/errors.ts';
import { NetlinkConnection } from '../../../linux/netlink/connection.ts';
import { NetlinkWriter, nlmsg } from '../../../linux/netlink/wire.ts';
import type { Sys } from '../../../linux/sys.ts';
import { sys as real } from '../../../linux/sys-bun.ts';
import { bytesOf, decodeMessages } from '../../support/netlink-messages.ts';

const hostFd = 50;
const ownFd = 51;
const index = 7;
const RTM_NEWLINK = 16;
const RTM_DELLINK = 17;
const RTM_GETLINK = 18;

function message(type: number, sequence: number, body: (writer: NetlinkWriter) => void): Uint8Array {
  const writer = new NetlinkWriter();
  const start = writer.beginMessage(type, nlmsg.NLM_F_CAPPED, sequence);
  body(writer);
  writer.endMessage(start);
  return bytesOf(writer);
}
const acknowledgement = (sequence: number, error: number): Uint8Array =>
  message(nlmsg.NLMSG_ERROR, sequence, (writer) => {
    writer.i32(-error);
    writer.zeros(16);
  });
const theLink = (sequence: number): Uint8Array =>
  message(RTM_NEWLINK, sequence, (writer) => {
    writer.u32(0);
    writer.i32(index);
    writer.zeros(8);
  });

interface Kernel {
  readonly parent?: number;
  /** What clone(2) returns. */
  readonly child?: number;
  /** The answer to the child's request, after so many waits. */
  readonly answer?: { readonly errno: number; readonly afterWaits: number };
  /** The link is gone after so many waits. */
  readonly goneAfterWaits?: number;
  readonly endedAfterWaits?: number;
}

/** @returns the calls, by name, and `sys` */
function makeKernel(kernel: Kernel) {
  const calls: string[] = [];
  const answers: Uint8Array[] = [];
  let waits = 0;
  let waited = 0;
  const after = (count: number | undefined): boolean => count !== undefined && waits >= count;
  const sys: Sys = {
    ...real,
    socket: () => ownFd,
    setsockopt: () => 0,
    getppid: () => kernel.parent ?? 4711,
    close: (fd) => {
      calls.push(`close ${fd}`);
      return 0;
    },
    clone_sendto: (fd, buffer, offset, length) => {
      const [request] = decodeMessages(new Uint8Array(buffer, offset, length).slice());
      calls.push(`clone ${fd} ${request!.type} ${request!.body.i32(4)}`);
      return kernel.child ?? 99;
    },
    waitpid: (pid) => (after(kernel.endedAfterWaits) ? pid : 0),
    poll: (_fd, timeoutMs) => {
      waits += timeoutMs > 0 ? 1 : 0;
      waited += timeoutMs;
      return kernel.answer && after(kernel.answer.afterWaits) ? 1 : 0;
    },
    clock_gettime: () => waited,
    sendto: (fd, buffer, offset, length) => {
      const [request] = decodeMessages(new Uint8Array(buffer, offset, length).slice());
      calls.push(`send ${fd} ${request!.type}`);
      const isGone = request!.type === RTM_GETLINK && after(kernel.goneAfterWaits);
      answers.push(
        request!.type === RTM_DELLINK
          ? acknowledgement(request!.sequence, 0)
          : isGone
            ? acknowledgement(request!.sequence, errno.ENODEV)
            : theLink(request!.sequence),
      );
      return length;
    },
    recv: (fd, buffer) => {
      const bytes = fd === ownFd ? acknowledgement(1, kernel.answer!.errno) : answers.shift()!;
      new Uint8Array(buffer).set(bytes);
      return bytes.length;
    },
  };
  const host = new NetlinkConnection(sys, hostFd, 15_000);
  return { calls, remove: () => removeLinkEarly(sys, host, index) };
}

const started = `clone ${ownFd} ${RTM_DELLINK} ${index}`;
const asked = `send ${hostFd} ${RTM_GETLINK}`;
const deletedHere = `send ${hostFd} ${RTM_DELLINK}`;
const closed = `close ${ownFd}`;

test('it returns when the link is gone, and does not wait for the answer', () => {
  const { calls, remove } = makeKernel({ goneAfterWaits: 2 });
  assert.is(remove(), true);
  assert.equal(calls, [started, asked, asked, closed]);
});

test('an answer that comes first says what has happened', () => {
  assert.is(makeKernel({ answer: { errno: 0, afterWaits: 1 } }).remove(), true);
  assert.is(makeKernel({ answer: { errno: errno.ENODEV, afterWaits: 2 } }).remove(), false);
  const { calls, remove } = makeKernel({ answer: { errno: errno.EPERM, afterWaits: 1 } });
  assert.throws(remove, /Cannot delete link 7: EPERM/);
  assert.equal(calls, [started, closed]);
});

test('without another process this one removes the link', () => {
  for (const kernel of [{ child: -errno.EAGAIN }, { child: -errno.ENOSYS }]) {
    const { calls, remove } = makeKernel(kernel);
    assert.is(remove(), true);
    assert.equal(calls, [started, deletedHere, closed]);
  }
  // The child of process 1, and of a process outside of this namespace of processes.
  for (const parent of [1, 0]) {
    const { calls, remove } = makeKernel({ parent });
    assert.is(remove(), true);
    assert.equal(calls, [deletedHere, closed]);
  }
});

test('if the other process ends without having sent the request, this one sends it', () => {
  const { calls, remove } = makeKernel({ endedAfterWaits: 2 });
  assert.is(remove(), true);
  assert.equal(calls, [started, asked, asked, deletedHere, closed]);
  // It has sent it, and the answer came between two looks.
  assert.is(makeKernel({ endedAfterWaits: 1, answer: { errno: 0, afterWaits: 1 } }).remove(), true);
});

test('a link that stays is an error after a while', () => {
  const { calls, remove } = makeKernel({});
  assert.throws(remove, (error: unknown) => error instanceof SyscallError && error.errno === errno.ETIMEDOUT);
  assert.is(calls.at(-1), closed);
});

test.run();
