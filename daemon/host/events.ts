/**
 * What the kernel tells of changes: multicast netlink, read without holding up anything else.
 *
 * An event only wakes, so losing some (ENOBUFS) costs nothing but one look at everything.
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
 * Room for fifty thousand events: all peers may change at once. A limit only; it takes no memory. Refused to the
 * unprivileged, who do with less.
 */
const receiveBufferBytes = 64 * 1024 * 1024;

/** Any event fits, but that of a link with many virtual functions. */
const receiveBytes = 32_768;
/** Others want their turn, too. */
const drainedAtMost = 2000;

/** Bun's own global, as far as it is used here: a descriptor read by epoll, which keeps no thread waiting. */
declare const Bun: { file(fd: number): { stream(): ReadableStream<Uint8Array> } };

/** What the daemon cares about. Undefined: everything. */
export interface EventInterest {
  /** Interfaces by number, for addresses, neighbours and FDB entries. */
  readonly indexes: ReadonlySet<number>;
  /** Links by name, for those that come back under a new number. */
  readonly names: ReadonlySet<string>;
  /** Those of them that are our tunnels: their entries are what is looked after, and no others. */
  readonly tunnels: ReadonlySet<number>;
  /** Routes into these, by whatever interface. */
  readonly networks: readonly Prefix[];
  /** By what number events name us as their cause. */
  readonly port: number | undefined;
  /** Whether an entry of the bridge family is as it should be: such events do not say who caused them. */
  readonly expects: (entry: Neighbour, isThere: boolean) => boolean;
}

/** What a change may be about: the host that everything builds on, an entry of ours, or neither. */
export type EventSubject = 'host' | 'entry';

/** Whether we have caused the change ourselves. The kernel's own doing has no number. */
const isOwn = ({ port }: Pick<NetlinkMessage, 'port'>, ownPort: number | undefined): boolean =>
  port !== 0 && port === ownPort;

/** What the change may be about that is weftd's or that it builds on; undefined where it is nothing, or our own doing. */
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
    const entry = decodeNeighbour(body);
    if (entry?.family !== 'bridge') return 'entry';
    return interest.expects(entry, type === rtmNeighbour.RTM_NEWNEIGH) ? undefined : 'entry';
  }
  if (type === RTM_NEWNETCONF) {
    const index = decodeNetconfIndex(body);
    return index === NETCONFA_IFINDEX_ALL || (index !== undefined && interest.indexes.has(index)) ? 'host' : undefined;
  }
  // struct ifinfomsg and ifaddrmsg have the interface's number at the same place.
  if (interest.indexes.has(body.i32(4))) return 'host';
  const isLink = type === rtmLink.RTM_NEWLINK || type === rtmLink.RTM_DELLINK;
  return isLink && interest.names.has(decodeLink(body).name) ? 'host' : undefined;
}

/** A netlink protocol and its multicast groups. */
export interface EventSource {
  readonly protocol: number;
  readonly groups: readonly number[];
}

/** Links, addresses, routes, neighbours and settings; RTNLGRP_NEIGH tells of FDB entries, too. */
export const networkEvents: EventSource = {
  protocol: socket.NETLINK_ROUTE,
  groups: Object.values(rtnlgrp),
};

/** Any change of any table. */
export const packetFilterEvents: EventSource = {
  protocol: socket.NETLINK_NETFILTER,
  groups: [NFNLGRP_NFTABLES],
};

/** Who is told of the kernel's changes, and of which. */
export interface KernelEventsListener {
  /** Asked for every message where `interest` is not given. */
  readonly isRelevant?: (message: NetlinkMessage) => boolean;
  /** Asked at every event of the network's. */
  readonly interest?: () => EventInterest | undefined;
  /** By what number events name us as their cause, where there is no `interest` to tell it. */
  readonly ownPort?: () => number | undefined;
  /** A change whose subject is not known for certain counts as one of the host. */
  readonly onEvent: (subject: EventSubject) => void;
  /** Events were lost, or cannot be had for now; undefined once they can, followed by `onEvent`. */
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
  /** Of the socket that is open now. */
  #poll = (): void => {};
  #release = (): void => {};
  #retry: ReturnType<typeof setTimeout> | undefined;

  /** @param retryDelayMs after a socket broke */
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

  /** Reads what else is there, at once: thousands of events, one at a time by way of a stream, would take long. */
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
