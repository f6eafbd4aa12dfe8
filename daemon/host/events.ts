/**
 * The kernel's events about changes: multicast netlink, read without blocking other work.
 *
 * An event only wakes weftd. If some are lost (ENOBUFS), it looks at everything once.
 *
 * The netlink port in an event shows whether weftd itself caused the change. The kernel does not report it for VXLAN's
 * forwarding entries and for deleted neighbours. Such an event counts as somebody else's if it differs from the desired
 * state.
 */

import { check, DecodeError, errno } from '../../linux/errors.ts';
import { openNetlink, socket } from '../../linux/netlink/connection.ts';
import { NFNLGRP_NFTABLES, rtnlgrp } from '../../linux/netlink/events.ts';
import { decodeLink, rtmLink } from '../../linux/netlink/link.ts';
import { decodeNeighbour, type Neighbour, rtmNeighbour } from '../../linux/netlink/neighbour.ts';
import { decodeNetconfIndex, NETCONFA_IFINDEX_ALL, RTM_NEWNETCONF } from '../../linux/netlink/netconf.ts';
import { decodeRoute, rtmRoute } from '../../linux/netlink/route.ts';
import { eachMessage, type NetlinkMessage } from '../../linux/netlink/wire.ts';
import type { Sys } from '../../linux/sys.ts';
import { type Prefix, prefixContains } from '../../net/prefix.ts';

/**
 * Room for fifty thousand events, because all peers may change at once. It is a limit and takes no memory. It is
 * refused to unprivileged processes, which keep the default.
 */
const receiveBufferBytes = 64 * 1024 * 1024;

/** Fits every event except that of a link with many virtual functions. */
const receiveBytes = 32_768;
/** Then other work gets its turn. */
const drainedAtMost = 2000;

/** The part of Bun's global that is used here: it reads a descriptor by epoll and blocks no thread. */
declare const Bun: { file(fd: number): { stream(): ReadableStream<Uint8Array> } };

/** The changes that matter to the daemon. Undefined: all. */
export interface EventInterest {
  /** Interfaces by number, for addresses, neighbours and FDB entries. */
  readonly indexes: ReadonlySet<number>;
  /** Links by name, for links that are recreated under a new number. */
  readonly names: ReadonlySet<string>;
  /** The tunnels among them. weftd keeps the entries of these only. */
  readonly tunnels: ReadonlySet<number>;
  /** Routes into these networks, by any interface. */
  readonly networks: readonly Prefix[];
  /** The number by which events name weftd as their cause. */
  readonly port: number | undefined;
  /** Whether an entry of the bridge family, or a deleted neighbour, is as desired. Such events do not name their cause. */
  readonly expects: (entry: Neighbour, isThere: boolean) => boolean;
}

/** The subject of a change: the host's own state, or an entry of weftd. */
export type EventSubject = 'host' | 'entry';

/** Whether weftd caused the change. Changes by the kernel itself have no number. */
const isOwn = ({ port }: Pick<NetlinkMessage, 'port'>, ownPort: number | undefined): boolean =>
  port !== 0 && port === ownPort;

/** The subject of the change; undefined if it does not concern weftd, or if weftd caused it. */
export function subjectOf({ type, port, body }: NetlinkMessage, interest: EventInterest): EventSubject | undefined {
  if (isOwn({ port }, interest.port)) return undefined;
  if (type === rtmRoute.RTM_NEWROUTE || type === rtmRoute.RTM_DELROUTE) {
    const route = decodeRoute(body);
    if (!route) return undefined;
    const { destination, oif } = route;
    if (oif !== undefined && interest.tunnels.has(oif)) return 'entry';
    const isOurs =
      destination.length === 0 ||
      (oif !== undefined && interest.indexes.has(oif)) ||
      interest.networks.some((network) => prefixContains(network, destination.address));
    return isOurs ? 'host' : undefined;
  }
  if (type === rtmNeighbour.RTM_NEWNEIGH || type === rtmNeighbour.RTM_DELNEIGH) {
    if (!interest.tunnels.has(body.i32(4))) return undefined;
    const entry = decodeNeighbour(body, false);
    const isThere = type === rtmNeighbour.RTM_NEWNEIGH;
    if (!entry || (isThere && entry.family !== 'bridge')) return 'entry';
    return interest.expects(entry, isThere) ? undefined : 'entry';
  }
  if (type === RTM_NEWNETCONF) {
    const index = decodeNetconfIndex(body);
    return index === NETCONFA_IFINDEX_ALL || (index !== undefined && interest.indexes.has(index)) ? 'host' : undefined;
  }
  // struct ifinfomsg and ifaddrmsg have the interface's number at the same offset.
  if (interest.indexes.has(body.i32(4))) return 'host';
  const isLink = type === rtmLink.RTM_NEWLINK || type === rtmLink.RTM_DELLINK;
  return isLink && interest.names.has(decodeLink(body).name) ? 'host' : undefined;
}

/** A netlink protocol and its multicast groups. */
export interface EventSource {
  readonly protocol: number;
  readonly groups: readonly number[];
}

/** Links, addresses, routes, neighbours and settings. RTNLGRP_NEIGH includes FDB entries. */
export const networkEvents: EventSource = {
  protocol: socket.NETLINK_ROUTE,
  groups: Object.values(rtnlgrp),
};

/** Any change of any table. */
export const packetFilterEvents: EventSource = {
  protocol: socket.NETLINK_NETFILTER,
  groups: [NFNLGRP_NFTABLES],
};

/** The listener to the kernel's changes. */
export interface KernelEventsListener {
  /** Called for every message, unless `interest` is given. */
  readonly isRelevant?: (message: NetlinkMessage) => boolean;
  /** Called for every datagram of the network's events. */
  readonly interest?: () => EventInterest | undefined;
  /** The number by which events name weftd as their cause, if there is no `interest` that has it. */
  readonly ownPort?: () => number | undefined;
  /** A change whose subject is not known for certain counts as one of the host. */
  readonly onEvent: (subject: EventSubject) => void;
  /**
   * Events were lost, or cannot be received for now. Called with undefined when they can be received again, followed by
   * `onEvent`.
   */
  readonly onProblem: (error: Error | undefined) => void;
}

/** Follows the kernel's changes from `start` to `close`; an overrun or a broken socket makes a new one. */
export class KernelEvents {
  readonly #sys: Sys;
  readonly #source: EventSource;
  readonly #retryDelayMs: number;
  readonly #buffer = new ArrayBuffer(receiveBytes);
  readonly #view = new DataView(this.#buffer);
  #closed = false;
  /** Functions of the socket that is open now. */
  #poll = (): void => {};
  #release = (): void => {};
  #retry: ReturnType<typeof setTimeout> | undefined;

  /** @param retryDelayMs the pause after a socket failed */
  constructor(sys: Sys, source: EventSource, retryDelayMs: number) {
    this.#sys = sys;
    this.#source = source;
    this.#retryDelayMs = retryDelayMs;
  }

  start(listener: KernelEventsListener): void {
    this.#follow(listener).catch((error: unknown) => {
      if (this.#closed) return;
      listener.onProblem(error as Error);
      this.#retry = setTimeout(() => this.start(listener), this.#retryDelayMs);
    });
  }

  /** Reads the events that are there now, without waiting for its turn; before `start` there are none. */
  poll(): void {
    this.#poll();
  }

  close(): void {
    this.#closed = true;
    clearTimeout(this.#retry);
    this.#release();
  }

  async #follow(listener: KernelEventsListener): Promise<void> {
    const connection = openNetlink(this.#sys, { protocol: this.#source.protocol });
    let reader: ReadableStreamDefaultReader<Uint8Array> | undefined;
    this.#poll = () => {
      const subject = this.#drain(connection.fd, listener);
      if (subject) listener.onEvent(subject);
    };
    this.#release = () => {
      this.#poll = () => {};
      reader?.cancel().catch(() => {});
      connection.close();
    };
    try {
      this.#sys.setsockopt(
        connection.fd,
        socket.SOL_SOCKET,
        socket.SO_RCVBUFFORCE,
        new Int32Array([receiveBufferBytes]).buffer,
      );
      for (const group of this.#source.groups) connection.join(group);
      reader = Bun.file(connection.fd).stream().getReader();
      // Changes from before the groups were joined were not told.
      listener.onProblem(undefined);
      listener.onEvent('host');
      for (;;) {
        const { done, value } = await reader.read();
        if (this.#closed) return;
        if (done) throw new Error('the kernel closed the event socket');
        this.#visit(value, connection.fd, listener);
      }
    } catch (error) {
      this.#release();
      throw error;
    }
  }

  #visit(bytes: Uint8Array, fd: number, listener: KernelEventsListener): void {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    const first = subjectIn(view, bytes.byteLength, listener);
    const rest = this.#drain(fd, listener);
    const subject = first === 'host' ? first : (rest ?? first);
    if (subject) listener.onEvent(subject);
  }

  /** Reads all other waiting events at once. Reading thousands of them one by one through a stream takes long. */
  #drain(fd: number, listener: KernelEventsListener): EventSubject | undefined {
    let subject: EventSubject | undefined;
    for (let i = 0; i < drainedAtMost; i++) {
      const got = this.#sys.recv(fd, this.#buffer, 0, receiveBytes, socket.MSG_DONTWAIT | socket.MSG_TRUNC);
      if (got === -errno.EAGAIN) break;
      check(got, 'receive events');
      const found = got > receiveBytes ? 'host' : subjectIn(this.#view, got, listener);
      if (subject !== 'host') subject = found ?? subject;
    }
    return subject;
  }
}

const isOthers = (
  message: NetlinkMessage,
  ownPort: number | undefined,
  { isRelevant }: KernelEventsListener,
): boolean => !isOwn(message, ownPort) && (isRelevant?.(message) ?? true);

/** The subject of the datagram in view[0, length). */
function subjectIn(view: DataView, length: number, listener: KernelEventsListener): EventSubject | undefined {
  const interest = listener.interest?.();
  const ownPort = listener.ownPort?.();
  let subject: EventSubject | undefined;
  try {
    eachMessage(view, 0, length, (message) => {
      // A listener that is asked which messages matter sees all of them.
      if (!interest) subject = isOthers(message, ownPort, listener) ? 'host' : subject;
      else if (subject !== 'host') subject = subjectOf(message, interest) ?? subject;
    });
  } catch (error) {
    if (!(error instanceof DecodeError)) throw error;
    // The datagram was cut short, so its content is not known.
    return 'host';
  }
  return subject;
}
