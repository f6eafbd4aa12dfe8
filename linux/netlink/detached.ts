/**
 * A request that another process sends. sendto(2) returns when the kernel has done everything that follows from a request.
 * After a link's deletion it waits for all processors, for 10 to 20 ms, when the link is gone long since. Another process
 * can wait for that. Both have the socket, and this one reads the answer.
 */

import { formatAction, NetlinkError, SyscallError } from '../errors.ts';
import type { Sys } from '../sys.ts';
import { decodeAnswer, type NetlinkConnection, type NetlinkRequest, socket } from './connection.ts';
import { eachMessage, NetlinkWriter, nlmsg } from './wire.ts';

/** include/uapi/linux/wait.h */
const WNOHANG = 1;
const sequence = 1;
/** An acknowledgement, with the kernel's words if it is an error. */
const answerBytes = 1024;

export class DetachedRequest {
  readonly #sys: Sys;
  readonly #fd: number;
  readonly #request: NetlinkRequest;
  readonly #child: number;

  private constructor(sys: Sys, fd: number, request: NetlinkRequest, child: number) {
    this.#sys = sys;
    this.#fd = fd;
    this.#request = request;
    this.#child = child;
  }

  /**
   * @param connection that nobody has sent anything by, nor will
   * @returns undefined where there can be no such process
   */
  static start(sys: Sys, connection: NetlinkConnection, request: NetlinkRequest): DetachedRequest | undefined {
    // The process outlives this one, and then belongs to process 1 or whoever has asked for orphans. A container runtime
    // that is process 1 without having asked for that might never collect it.
    if (sys.getppid() <= 1) return undefined;
    const writer = new NetlinkWriter();
    const flags = request.flags | nlmsg.NLM_F_REQUEST | nlmsg.NLM_F_ACK;
    const start = writer.beginMessage(request.type, flags, sequence);
    request.encodeBody(writer);
    writer.endMessage(start);
    const child = sys.clone_sendto(connection.fd, writer.buffer, 0, writer.length);
    return child > 0 ? new DetachedRequest(sys, connection.fd, request, child) : undefined;
  }

  /** Waits so long for the answer. Undefined: there is none yet. */
  answer(timeoutMs: number): 'done' | NetlinkError | undefined {
    const sys = this.#sys;
    if (sys.poll(this.#fd, timeoutMs) !== 1) return undefined;
    const buffer = new ArrayBuffer(answerBytes);
    const got = sys.recv(this.#fd, buffer, 0, answerBytes, socket.MSG_TRUNC | socket.MSG_DONTWAIT);
    const { action } = this.#request;
    if (got < 0) throw new SyscallError(`receive the answer to the request to ${formatAction(action)}`, got);
    let outcome: 'done' | NetlinkError | undefined;
    eachMessage(new DataView(buffer), 0, Math.min(got, answerBytes), (message) => {
      if (message.type !== nlmsg.NLMSG_ERROR || message.sequence !== sequence) return;
      const answer = decodeAnswer(message);
      outcome = answer.errno === 0 ? 'done' : new NetlinkError(action, answer.errno, answer);
    });
    return outcome;
  }

  /** Whether the process has ended: without an answer, it has not sent the request. */
  get hasEnded(): boolean {
    return this.#sys.waitpid(this.#child, WNOHANG) !== 0;
  }
}
