/**
 * A socket that sends ICMP echo requests and receives the replies to them.
 *
 * A raw socket (raw(7)) needs CAP_NET_RAW, and hears replies to other programs, too: the identifier tells them apart. Without
 * that right, a datagram socket of ICMP does, where the kernel setting net.ipv4.ping_group_range lets this group.
 */

import type { Address, Family } from '../net/address.ts';
import { check, errno, SyscallError } from './errors.ts';
import { decodeEchoReply, echoHeaderBytes, encodeEcho, icmp } from './icmp.ts';
import { socket as socketNumbers } from './netlink/connection.ts';
import type { Sys } from './sys.ts';

/** include/linux/socket.h, net.h, uapi/asm-generic/socket.h, uapi/linux/in.h, in6.h, icmp.h, icmpv6.h */
const numbers = {
  AF_INET: 2,
  AF_INET6: 10,
  SOCK_DGRAM: 2,
  SOCK_RAW: socketNumbers.SOCK_RAW,
  SOCK_NONBLOCK: 0o4000,
  SOL_SOCKET: 1,
  SO_RCVBUF: 8,
  SO_BINDTODEVICE: 25,
  IPPROTO_IP: 0,
  IPPROTO_IPV6: 41,
  IP_MTU_DISCOVER: 10,
  IPV6_MTU_DISCOVER: 23,
  IPV6_DONTFRAG: 62,
  /** Sets DF, and does not go by the path's MTU that the kernel has learned. */
  PMTUDISC_PROBE: 3,
  SOL_RAW: 255,
  ICMP_FILTER: 1,
  ICMPV6_FILTER: 1,
} as const;

const int = (value: number): ArrayBuffer => new Int32Array([value]).buffer;

/** struct sockaddr_in, struct sockaddr_in6 */
const sockaddrBytes = { 4: 16, 6: 28 } as const;
const addressAt = { 4: 4, 6: 8 } as const;

function encodeAddress(buffer: ArrayBuffer, { family, bytes }: Address): void {
  const view = new Uint8Array(buffer);
  view.fill(0);
  new DataView(buffer).setUint16(0, family === 4 ? numbers.AF_INET : numbers.AF_INET6, true);
  view.set(bytes, addressAt[family]);
}

export interface EchoSocketOptions {
  readonly family: Family;
  /** The packets' source. */
  readonly source?: Address | undefined;
  /** Receives only what comes in by this device. */
  readonly device?: string | undefined;
  /** Larger packets than the path takes are lost, and not cut into fragments. */
  readonly dontFragment?: boolean;
  /** 16 bits. A datagram socket has its own. */
  readonly identifier: number;
}

export interface Received {
  readonly source: Address;
  readonly sequence: number;
  /** A view, valid until the next call. */
  readonly payload: Uint8Array;
}

/** The largest packet of IP. */
const receiveBytes = 65_536;
const MSG_DONTWAIT = 0x40;

export class EchoSocket {
  readonly family: Family;
  readonly isRaw: boolean;
  readonly #sys: Sys;
  readonly #fd: number;
  readonly #identifier: number;
  readonly #to: ArrayBuffer;
  readonly #from: ArrayBuffer;
  readonly #receive = new ArrayBuffer(receiveBytes);
  #send = new ArrayBuffer(echoHeaderBytes);

  /** @throws SyscallError EACCES or EPERM without the right; EADDRNOTAVAIL where this host lacks the source */
  constructor(sys: Sys, options: EchoSocketOptions) {
    const { family, identifier } = options;
    this.#sys = sys;
    this.family = family;
    this.#identifier = identifier & 0xffff;
    this.#to = new ArrayBuffer(sockaddrBytes[family]);
    this.#from = new ArrayBuffer(sockaddrBytes[family]);
    const { fd, isRaw } = openSocket(sys, family);
    this.#fd = fd;
    this.isRaw = isRaw;
    try {
      this.#setUp(options);
    } catch (error) {
      this.close();
      throw error;
    }
  }

  #setUp({ family, source, device, dontFragment = false }: EchoSocketOptions): void {
    const set = (level: number, option: number, value: ArrayBuffer): void =>
      void check(this.#sys.setsockopt(this.#fd, level, option, value), 'set up a socket for ICMP');
    if (this.isRaw) {
      // Nothing but echo replies: of the mask, a bit that is set keeps a type out.
      if (family === 4) set(numbers.SOL_RAW, numbers.ICMP_FILTER, int(~(1 << icmp.ICMP_ECHOREPLY)));
      else {
        const mask = new Uint32Array(8).fill(0xffffffff);
        mask[icmp.ICMPV6_ECHO_REPLY >> 5]! &= ~(1 << (icmp.ICMPV6_ECHO_REPLY & 31));
        set(icmp.IPPROTO_ICMPV6, numbers.ICMPV6_FILTER, mask.buffer);
      }
    }
    if (dontFragment) {
      if (family === 4) set(numbers.IPPROTO_IP, numbers.IP_MTU_DISCOVER, int(numbers.PMTUDISC_PROBE));
      else {
        set(numbers.IPPROTO_IPV6, numbers.IPV6_MTU_DISCOVER, int(numbers.PMTUDISC_PROBE));
        set(numbers.IPPROTO_IPV6, numbers.IPV6_DONTFRAG, int(1));
      }
    }
    if (device !== undefined) set(numbers.SOL_SOCKET, numbers.SO_BINDTODEVICE, this.#sys.encodeUtf8(`${device}\0`));
    if (source) {
      const address = new ArrayBuffer(sockaddrBytes[family]);
      encodeAddress(address, source);
      check(this.#sys.bind(this.#fd, address), 'bind a socket for ICMP');
    }
  }

  /**
   * Sends a request.
   * @returns false if this host could not send it: no route, too large for its device, or a full queue
   */
  send(target: Address, sequence: number, payload: Uint8Array): boolean {
    const length = echoHeaderBytes + payload.length;
    if (this.#send.byteLength < length) this.#send = new ArrayBuffer(length);
    new Uint8Array(this.#send).set(payload, echoHeaderBytes);
    encodeEcho(this.#send, this.family, this.#identifier, sequence & 0xffff, length);
    encodeAddress(this.#to, target);
    return this.#sys.sendto(this.#fd, this.#send, 0, length, MSG_DONTWAIT, this.#to) === length;
  }

  /** One reply to this socket's requests; undefined if none is waiting; 'other' for any other packet. */
  receive(): Received | 'other' | undefined {
    const got = this.#sys.recvfrom(this.#fd, this.#receive, 0, receiveBytes, MSG_DONTWAIT, this.#from);
    if (got === -errno.EAGAIN) return undefined;
    // An ICMP error that came back for an earlier packet.
    if (got < 0) return 'other';
    const bytes = new Uint8Array(this.#receive, 0, got);
    const reply = decodeEchoReply(bytes, this.family, this.isRaw && this.family === 4);
    // The kernel gives a datagram socket the replies with its own identifier only.
    if (!reply || (this.isRaw && reply.identifier !== this.#identifier)) return 'other';
    const at = addressAt[this.family];
    const source = {
      family: this.family,
      bytes: new Uint8Array(this.#from.slice(at, at + (this.family === 4 ? 4 : 16))),
    };
    return { source, sequence: reply.sequence, payload: reply.payload };
  }

  close(): void {
    this.#sys.close(this.#fd);
  }
}

function openSocket(sys: Sys, family: Family): { fd: number; isRaw: boolean } {
  const domain = family === 4 ? numbers.AF_INET : numbers.AF_INET6;
  const protocol = family === 4 ? icmp.IPPROTO_ICMP : icmp.IPPROTO_ICMPV6;
  const raw = sys.socket(domain, numbers.SOCK_RAW | numbers.SOCK_NONBLOCK, protocol);
  if (raw >= 0) return { fd: raw, isRaw: true };
  if (raw !== -errno.EPERM && raw !== -errno.EACCES) check(raw, 'open a socket for ICMP');
  const datagram = sys.socket(domain, numbers.SOCK_DGRAM | numbers.SOCK_NONBLOCK, protocol);
  if (datagram >= 0) return { fd: datagram, isRaw: false };
  const why = 'it needs CAP_NET_RAW, or its group in the kernel setting net.ipv4.ping_group_range';
  throw new SyscallError('open a socket for ICMP', datagram, why);
}
