/**
 * A netlink socket. It sends many requests in one datagram, and matches the answers by sequence number.
 *
 * The kernel handles the messages of a datagram in order, goes on after one that fails, and answers in order. It always
 * answers an error, but a success only if NLM_F_ACK is set. So only the last message of a datagram sets it: its answer
 * means that all were handled, and the messages without an error have succeeded. A batch of any size costs one sendto
 * and, without errors, one recv.
 *
 * Only the kernel, or a process with CAP_NET_ADMIN, can send to such a socket, so the sequence number is enough to
 * identify an answer. A socket that receives events sends nothing, because events carry the sequence numbers of other
 * sockets.
 *
 * Close the socket after a SyscallError (a timeout, lost answers). It is then unknown what the kernel did. Late answers
 * are dropped by their sequence numbers, but a dump that was cut short can leave the socket busy.
 *
 * The file is long because requests, dumps and transactions share one protocol of sequence numbers.
 */

import { type Action, check, errno, formatAction, NetlinkError, SyscallError } from '../errors.ts';
import { inNamespace, openCurrentNamespace } from '../netns.ts';
import type { Sys } from '../sys.ts';
import { eachMessage, type NetlinkMessage, type NetlinkReader, NetlinkWriter, nlmsg } from './wire.ts';

/** include/linux/socket.h, include/uapi/linux/netlink.h, include/uapi/asm-generic/socket.h */
export const socket = {
  AF_NETLINK: 16,
  SOCK_RAW: 3,
  NETLINK_ROUTE: 0,
  NETLINK_NETFILTER: 12,
  SOL_SOCKET: 1,
  SO_RCVBUF: 8,
  SO_RCVTIMEO: 20,
  SO_SNDBUFFORCE: 32,
  SO_RCVBUFFORCE: 33,
  SOL_NETLINK: 270,
  NETLINK_ADD_MEMBERSHIP: 1,
  NETLINK_CAP_ACK: 10,
  NETLINK_EXT_ACK: 11,
  NETLINK_GET_STRICT_CHK: 12,
  MSG_TRUNC: 0x20,
  MSG_DONTWAIT: 0x40,
} as const;

/** enum nlmsgerr_attrs */
const NLMSGERR_ATTR_MSG = 1;
const NLMSGERR_ATTR_OFFS = 2;

/** One message that changes something. */
export interface NetlinkRequest {
  /** For errors: `['add route', '10.1.0.0/24']`. Best a getter, because it is rarely read. */
  readonly action: Action;
  readonly type: number;
  /** NLM_F_REQUEST and NLM_F_ACK are added. */
  readonly flags: number;
  readonly encodeBody: (writer: NetlinkWriter) => void;
}

/** One message that asks for something. */
export interface NetlinkQuery<T> extends NetlinkRequest {
  /** Decodes an answer; undefined skips it. It must copy the bytes that it keeps. */
  readonly decode: (type: number, body: NetlinkReader) => T | undefined;
  /** The errors that mean that the object does not exist. */
  readonly absent: readonly number[];
}

/** The object does not exist: that is an answer, not a failure. */
const notFound: readonly number[] = [errno.ENOENT, errno.ESRCH, errno.ENODEV];

/** A request that builds its `action` only when it is needed. */
export const makeRequest = (
  type: number,
  flags: number,
  action: () => Action,
  encodeBody: (writer: NetlinkWriter) => void,
): NetlinkRequest => ({
  type,
  flags,
  encodeBody,
  get action() {
    return action();
  },
});

/** As `makeRequest`, for requests that are answered with data. */
export const makeQuery = <T>(
  type: number,
  action: () => Action,
  encodeBody: (writer: NetlinkWriter) => void,
  decode: (type: number, body: NetlinkReader) => T | undefined,
  absent = notFound,
): NetlinkQuery<T> => ({
  type,
  flags: 0,
  encodeBody,
  decode,
  absent,
  get action() {
    return action();
  },
});

/** Fits every answer except that of a link with many virtual functions; the kernel splits dumps to fit. It can grow. */
const defaultReceiveBytes = 8192;
const sendLimitBytes = 65536;
/** Every message may fail: so many errors (some 800 bytes each) fit the default receive buffer of 212992 bytes. */
const sendLimitMessages = 160;
const dumpAttempts = 8;
const defaultReceiveTimeoutMs = 15_000;

/** A native `int`, or a `struct timeval` of two longs. */
const int = (value: number): ArrayBuffer => new Int32Array([value]).buffer;
const one = int(1);
const timeval = (ms: number): ArrayBuffer => new Int32Array([Math.floor(ms / 1000), 0, (ms % 1000) * 1000, 0]).buffer;

export interface NetlinkOptions {
  /** Descriptor of the socket's network namespace; default: that of the calling thread. */
  readonly namespace?: number;
  /** Default NETLINK_ROUTE. */
  readonly protocol?: number;
  /** How long to wait for an answer; default 15 s (the kernel's lock may be held while many namespaces end). */
  readonly receiveTimeoutMs?: number;
  /** Size of the buffer for answers at first. The kernel fills up to 32 KiB where long lists are asked for. */
  readonly receiveBytes?: number;
}

/** The system calls of a connection that has its socket. */
export type NetlinkSys = Pick<Sys, 'bind' | 'close' | 'recv' | 'sendto' | 'setsockopt'>;

/**
 * Opens a netlink socket, which the caller closes.
 * @throws SyscallError EINVAL where `namespace` is no network namespace
 */
export function openNetlink(sys: Sys, options: NetlinkOptions = {}): NetlinkConnection {
  const {
    namespace,
    protocol = socket.NETLINK_ROUTE,
    receiveTimeoutMs = defaultReceiveTimeoutMs,
    receiveBytes = defaultReceiveBytes,
  } = options;
  const open = () => check(sys.socket(socket.AF_NETLINK, socket.SOCK_RAW, protocol), 'open a netlink socket');
  let fd: number;
  if (namespace === undefined) {
    fd = open();
  } else {
    const from = openCurrentNamespace(sys);
    try {
      fd = inNamespace(sys, { from, to: namespace }, open);
    } finally {
      sys.close(from);
    }
  }
  return new NetlinkConnection(sys, fd, receiveTimeoutMs, receiveBytes);
}

/** Whether the list has anything, however long it is: on a connection of its own, which is closed before the list's end. */
export function hasAny(sys: Sys, query: NetlinkQuery<unknown>): boolean {
  const connection = openNetlink(sys);
  try {
    return connection.dump(query, 1).length > 0;
  } finally {
    connection.close();
  }
}

/** The kernel's answer to one message: errno (0 for success) and its own words. */
interface Answer {
  readonly errno: number;
  readonly text: string | undefined;
  /** Offset in the message of the attribute that is wrong. */
  readonly offset: number | undefined;
}

/** `struct nlmsgerr`, extended (NETLINK_EXT_ACK): error, the request's header, and attributes unless it is short. */
export function decodeAnswer(message: Pick<NetlinkMessage, 'flags' | 'body'>): Answer {
  const { body, flags } = message;
  const error = -body.i32(0);
  let text: string | undefined;
  let offset: number | undefined;
  if (flags & nlmsg.NLM_F_ACK_TLVS) {
    // The request's body is there too unless NLM_F_CAPPED says it is left out.
    const echoBytes = flags & nlmsg.NLM_F_CAPPED ? 16 : (body.u32(4) + 3) & ~3;
    const r = body.attributes(4 + echoBytes, 'extended ACK');
    while (r.next()) {
      if (r.type === NLMSGERR_ATTR_MSG) text = r.text();
      else if (r.type === NLMSGERR_ATTR_OFFS) offset = r.u32();
    }
  }
  return { errno: error, text, offset };
}

const toError = (action: Action, answer: Answer): NetlinkError => new NetlinkError(action, answer.errno, answer);

export class NetlinkConnection {
  readonly fd: number;
  /** The number by which events name this socket as their cause (`NetlinkMessage.port`); 0 before the first answer. */
  port = 0;
  readonly #sys: NetlinkSys;
  readonly #receiveTimeoutMs: number;
  readonly #writer = new NetlinkWriter();
  #receiveBuffer: ArrayBuffer;
  #receiveView: DataView;
  #sequence = 0;
  #strict = false;
  #listening = false;
  #closed = false;

  constructor(sys: NetlinkSys, fd: number, receiveTimeoutMs: number, receiveBytes = defaultReceiveBytes) {
    this.#sys = sys;
    this.fd = fd;
    this.#receiveTimeoutMs = receiveTimeoutMs;
    this.#receiveBuffer = new ArrayBuffer(receiveBytes);
    this.#receiveView = new DataView(this.#receiveBuffer);
    try {
      this.#setOption(socket.SOL_NETLINK, socket.NETLINK_EXT_ACK, one, 'ask netlink for error texts');
      this.#setOption(socket.SOL_NETLINK, socket.NETLINK_CAP_ACK, one, 'ask netlink for short errors');
      this.#setOption(socket.SOL_SOCKET, socket.SO_RCVTIMEO, timeval(receiveTimeoutMs), 'set a netlink timeout');
    } catch (error) {
      this.close();
      throw error;
    }
  }

  close(): void {
    if (!this.#closed) this.#sys.close(this.fd);
    this.#closed = true;
  }

  #setOption(level: number, option: number, value: ArrayBuffer, action: Action): void {
    check(this.#sys.setsockopt(this.fd, level, option, value), action);
  }

  /**
   * Sends all requests, reads the answers, and then throws the first error. The kernel does not stop at a request that
   * fails.
   * @throws NetlinkError of the first request that failed
   */
  execute(requests: readonly NetlinkRequest[]): void {
    for (const error of this.executeEach(requests)) if (error) throw error;
  }

  /** As `execute`, but returns the outcome of each request: undefined if it succeeded. */
  executeEach(requests: readonly NetlinkRequest[]): (NetlinkError | undefined)[] {
    const outcome = new Array<NetlinkError | undefined>(requests.length).fill(undefined);
    for (let at = 0; at < requests.length; ) at = this.#sendSome(requests, at, outcome);
    return outcome;
  }

  /**
   * Carries out one request and then queries one object, in one datagram.
   * @returns as `get`
   * @throws NetlinkError of the request if it failed
   */
  executeAndGet<T>(request: NetlinkRequest, query: NetlinkQuery<T>): T | undefined {
    this.#writer.truncate(0);
    this.#encode(request, 0);
    this.#encode(query, 0);
    this.#send(request);
    const sequence = this.#sequence;
    let outcome: { readonly found: T | undefined } | undefined;
    let failed: NetlinkError | undefined;
    let isWhole = true;
    while (!outcome && isWhole) {
      isWhole = this.#receive(query, (message) => {
        if (message.sequence === sequence - 1 && message.type === nlmsg.NLMSG_ERROR) {
          const answer = decodeAnswer(message);
          if (answer.errno !== 0) failed ??= toError(request.action, answer);
        }
        if (message.sequence !== sequence || outcome) return;
        if (message.type !== nlmsg.NLMSG_ERROR) {
          outcome = { found: query.decode(message.type, message.body) };
          return;
        }
        const answer = decodeAnswer(message);
        if (answer.errno !== 0 && !query.absent.includes(answer.errno)) failed ??= toError(query.action, answer);
        outcome = { found: undefined };
      });
    }
    if (failed) throw failed;
    // An answer that does not fit is the query's: those to requests are short. The buffer is larger now.
    return outcome ? outcome.found : this.get(query);
  }

  /** Sends requests from `from` on, as many as one datagram takes; returns the index of the first not sent. */
  #sendSome(requests: readonly NetlinkRequest[], from: number, outcome: (NetlinkError | undefined)[]): number {
    const writer = this.#writer;
    const firstSequence = this.#sequence + 1;
    let to = from;
    let last = 0;
    writer.truncate(0);
    while (to < requests.length && to - from < sendLimitMessages) {
      const start = writer.length;
      this.#encode(requests[to]!, 0);
      if (writer.length > sendLimitBytes && to > from) {
        writer.truncate(start);
        this.#sequence--;
        break;
      }
      last = start;
      to++;
    }
    writer.addFlags(last, nlmsg.NLM_F_ACK);
    const subject = requests[from]!;
    this.#send(subject);
    this.#receiveAnswers(firstSequence, this.#sequence, subject, (index, answer) => {
      if (answer.errno !== 0) outcome[from + index] = toError(requests[from + index]!.action, answer);
      return index === to - from - 1;
    });
    return to;
  }

  /**
   * Sends messages of a netfilter batch (include/uapi/linux/netfilter/nfnetlink.h) in one datagram: all of them take
   * effect, or none. `begin` and `end` enclose `requests`; an error that is about the batch as a whole is answered to
   * `begin`.
   * @throws NetlinkError of the first request that failed
   */
  transact(begin: NetlinkRequest, requests: readonly NetlinkRequest[], end: NetlinkRequest): void {
    if (requests.length === 0) return;
    const writer = this.#writer;
    writer.truncate(0);
    const firstSequence = this.#sequence + 1;
    this.#encode(begin, 0);
    let last = 0;
    for (const request of requests) {
      last = writer.length;
      this.#encode(request, 0);
    }
    writer.addFlags(last, nlmsg.NLM_F_ACK);
    this.#encode(end, 0);
    if (writer.length > sendLimitBytes) {
      // A transaction cannot be split. The option is refused to unprivileged processes; they keep the default of some
      // 200 kB.
      this.#sys.setsockopt(this.fd, socket.SOL_SOCKET, socket.SO_SNDBUFFORCE, int(writer.length + sendLimitBytes));
    }
    this.#send(begin);
    let first: NetlinkError | undefined;
    this.#receiveAnswers(firstSequence, this.#sequence, begin, (index, answer) => {
      const request = index === 0 ? begin : (requests[index - 1] ?? end);
      if (answer.errno !== 0) first ??= toError(request.action, answer);
      return index >= requests.length || (index === 0 && answer.errno !== 0);
    });
    if (first) throw first;
  }

  /**
   * Queries one object.
   * @returns undefined if the kernel says that it does not exist (`query.absent`, as a rule ENOENT, ESRCH, ENODEV)
   */
  get<T>(query: NetlinkQuery<T>): T | undefined {
    for (let attempt = 1; ; attempt++) {
      this.#writer.truncate(0);
      this.#encode(query, 0);
      this.#send(query);
      const sequence = this.#sequence;
      let found: T | undefined;
      let failed: NetlinkError | undefined;
      let answered = false;
      let again = false;
      while (!answered) {
        const whole = this.#receive(query, (message) => {
          if (message.sequence !== sequence || answered) return;
          answered = true;
          if (message.type !== nlmsg.NLMSG_ERROR) {
            found = query.decode(message.type, message.body);
            return;
          }
          const answer = decodeAnswer(message);
          if (answer.errno !== 0 && !query.absent.includes(answer.errno)) failed = toError(query.action, answer);
        });
        if (!whole) {
          again = true;
          break;
        }
      }
      if (failed) throw failed;
      if (!again) return found;
      if (attempt === dumpAttempts)
        throw new SyscallError(`${formatAction(query.action)}: the answer does not fit`, errno.EMSGSIZE);
    }
  }

  /**
   * Lists all objects. A dump that a change interrupted is repeated, so that the result is consistent.
   * @param atMost reading ends with the datagram that has so many; then the connection can only be closed
   * @returns an empty list if the object that limits the dump (an interface, a table) does not exist
   * @throws SyscallError EAGAIN if it was interrupted every time
   */
  dump<T>(query: NetlinkQuery<T>, atMost = Number.POSITIVE_INFINITY): T[] {
    if (!this.#strict) {
      // The kernel then filters, and refuses unknown filters instead of returning everything.
      this.#setOption(socket.SOL_NETLINK, socket.NETLINK_GET_STRICT_CHK, one, 'ask netlink to filter');
      this.#strict = true;
    }
    for (let attempt = 1; attempt <= dumpAttempts; attempt++) {
      const found: T[] = [];
      if (this.#dumpOnce(query, found, atMost) || found.length >= atMost) return found;
    }
    throw new SyscallError(`${formatAction(query.action)}: it kept changing in ${dumpAttempts} attempts`, errno.EAGAIN);
  }

  /** Returns false if the list is not consistent. It reads to the end even then, because the socket would stay busy. */
  #dumpOnce<T>(query: NetlinkQuery<T>, found: T[], atMost: number): boolean {
    this.#writer.truncate(0);
    this.#encode(query, nlmsg.NLM_F_DUMP);
    this.#send(query);
    const sequence = this.#sequence;
    let whole = true;
    let done = false;
    let failed: NetlinkError | undefined;
    while (!done && found.length < atMost) {
      const complete = this.#receive(query, (message) => {
        if (message.sequence !== sequence || done) return;
        if (message.flags & nlmsg.NLM_F_DUMP_INTR && message.type !== nlmsg.NLMSG_ERROR) whole = false;
        if (message.type === nlmsg.NLMSG_DONE || message.type === nlmsg.NLMSG_ERROR) {
          done = true;
          // NLMSG_DONE also begins with an error, but has no copy of the request.
          const error = message.body.length >= 4 ? -message.body.i32(0) : 0;
          if (error !== 0 && !query.absent.includes(error)) {
            const answer = message.type === nlmsg.NLMSG_ERROR ? decodeAnswer(message) : undefined;
            failed = toError(query.action, answer ?? { errno: error, text: undefined, offset: undefined });
          }
          return;
        }
        const item = query.decode(message.type, message.body);
        if (item !== undefined) found.push(item);
      });
      if (!complete) whole = false;
    }
    if (failed) throw failed;
    return whole;
  }

  /**
   * Subscribes to a multicast group (RTNLGRP_*, as a number, not as a bit). From then on the connection only receives
   * events: their sequence numbers are those of other sockets, and could be mistaken for answers.
   */
  join(group: number): void {
    // A socket gets its address when it first sends. A socket without one has port 0, as the kernel's events do, and
    // would be skipped as their sender.
    if (!this.#listening) {
      const address = new Uint16Array([socket.AF_NETLINK, 0, 0, 0, 0, 0]).buffer;
      const bound = this.#sys.bind(this.fd, address);
      // EINVAL: the socket has an address already.
      if (bound !== -errno.EINVAL) check(bound, 'bind a netlink socket');
    }
    this.#listening = true;
    this.#setOption(socket.SOL_NETLINK, socket.NETLINK_ADD_MEMBERSHIP, int(group), `join netlink group ${group}`);
  }

  /**
   * One datagram of events. Undefined: none came within the timeout. 'overrun': the kernel dropped some, so the
   * listener must look at everything again.
   */
  receiveEvents(): Uint8Array | 'overrun' | undefined {
    const got = this.#sys.recv(this.fd, this.#receiveBuffer, 0, this.#receiveBuffer.byteLength, socket.MSG_TRUNC);
    if (got === -errno.EAGAIN) return undefined;
    if (got === -errno.ENOBUFS || got > this.#receiveBuffer.byteLength) return 'overrun';
    check(got, 'receive netlink events');
    return new Uint8Array(this.#receiveBuffer, 0, got).slice();
  }

  #encode(request: NetlinkRequest, extraFlags: number): void {
    const writer = this.#writer;
    this.#sequence++;
    const start = writer.beginMessage(request.type, request.flags | nlmsg.NLM_F_REQUEST | extraFlags, this.#sequence);
    request.encodeBody(writer);
    writer.endMessage(start);
  }

  #send(subject: NetlinkRequest): void {
    if (this.#listening)
      throw new Error(`Cannot ${formatAction(subject.action)}: this netlink connection is for events`);
    const { buffer, length } = this.#writer;
    const sent = this.#sys.sendto(this.fd, buffer, 0, length, 0, null);
    if (sent < 0) throw new SyscallError(`send the request to ${formatAction(subject.action)}`, sent);
  }

  /** Receives until `visit`, which is given the index of the answered message, returns true for the last answer. */
  #receiveAnswers(
    firstSequence: number,
    lastSequence: number,
    subject: NetlinkRequest,
    visit: (index: number, answer: Answer) => boolean,
  ): void {
    let done = false;
    while (!done) {
      this.#receive(subject, (message) => {
        const index = message.sequence - firstSequence;
        if (message.type !== nlmsg.NLMSG_ERROR || index < 0 || message.sequence > lastSequence) return;
        if (visit(index, decodeAnswer(message))) done = true;
      });
    }
  }

  /** Receives one datagram. False if it was larger than the buffer, which is then enlarged for the next one. */
  #receive(subject: NetlinkRequest, visit: (message: NetlinkMessage) => void): boolean {
    const capacity = this.#receiveBuffer.byteLength;
    const got = this.#sys.recv(this.fd, this.#receiveBuffer, 0, capacity, socket.MSG_TRUNC);
    if (got === -errno.EAGAIN) {
      throw new SyscallError(
        `${formatAction(subject.action)}: no answer within ${this.#receiveTimeoutMs} ms`,
        errno.ETIMEDOUT,
      );
    }
    if (got < 0) throw new SyscallError(`receive the answer to the request to ${formatAction(subject.action)}`, got);
    if (got > capacity) {
      this.#receiveBuffer = new ArrayBuffer(2 ** Math.ceil(Math.log2(got)));
      this.#receiveView = new DataView(this.#receiveBuffer);
      return false;
    }
    // struct nlmsghdr, nlmsg_pid: an answer carries this socket's port.
    if (this.port === 0 && got >= 16) this.port = this.#receiveView.getUint32(12, true);
    eachMessage(this.#receiveView, 0, got, visit);
    return true;
  }
}
