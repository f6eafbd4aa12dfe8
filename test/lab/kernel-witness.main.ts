/**
 * Tells what happens, and when, from a process of its own, so that nobody's being busy blurs it: one line an event on
 * stdout, `<milliseconds on CLOCK_MONOTONIC> <what>`.
 *
 *     kernel-witness.main.ts events          the kernel's changes of links, addresses, routes, neighbours and FDB entries
 *     kernel-witness.main.ts ready SOCKET    messages to that NOTIFY_SOCKET
 */

import { writeSync } from 'node:fs';
import { check } from '../../linux/errors.ts';
import { socket } from '../../linux/netlink/connection.ts';
import { openEvents, rtnlgrp } from '../../linux/netlink/events.ts';
import { decodeNeighbour, rtmNeighbour } from '../../linux/netlink/neighbour.ts';
import { decodeRoute, rtmRoute } from '../../linux/netlink/route.ts';
import { eachMessage } from '../../linux/netlink/wire.ts';
import { clock } from '../../linux/sys.ts';
import { sys } from '../../linux/sys-bun.ts';
import { formatMac } from '../../net/mac.ts';
import { formatPrefix } from '../../net/prefix.ts';

/** include/linux/socket.h, include/linux/net.h */
const AF_UNIX = 1;
const SOCK_DGRAM = 2;

const say = (lines: readonly string[], ms: number): void =>
  void writeSync(1, lines.map((line) => `${ms.toFixed(3)} ${line}\n`).join(''));

/** enum of include/uapi/linux/rtnetlink.h: four numbers a family, NEW and DEL first. */
const kinds: Readonly<Record<number, string>> = { 16: 'link', 20: 'address', 24: 'route', 28: 'neighbour' };

function tellEvents(): never {
  const events = openEvents(sys, Object.values(rtnlgrp), { receiveTimeoutMs: 3_600_000 });
  // Fifteen thousand events may come at once, and take two kilobytes each to be kept.
  sys.setsockopt(events.fd, socket.SOL_SOCKET, socket.SO_RCVBUFFORCE, new Int32Array([256 << 20]).buffer);
  const buffer = new ArrayBuffer(65536);
  const view = new DataView(buffer);
  say(['begin'], 0);
  for (;;) {
    const got = check(sys.recv(events.fd, buffer, 0, buffer.byteLength, 0), 'receive events');
    const ms = sys.clock_gettime(clock.CLOCK_MONOTONIC);
    const lines: string[] = [];
    eachMessage(view, 0, got, ({ type, body }) => {
      const change = (type & 3) === 0 ? 'new' : 'deleted';
      const isRoute = type === rtmRoute.RTM_NEWROUTE || type === rtmRoute.RTM_DELROUTE;
      const isNeighbour = type === rtmNeighbour.RTM_NEWNEIGH || type === rtmNeighbour.RTM_DELNEIGH;
      const route = isRoute ? decodeRoute(body) : undefined;
      const mac = isNeighbour ? decodeNeighbour(body, false)?.mac : undefined;
      const subject = route ? formatPrefix(route.destination) : mac ? formatMac(mac) : undefined;
      lines.push(`${change} ${kinds[type & ~3] ?? type}${subject === undefined ? '' : ` ${subject}`}`);
    });
    say(lines, ms);
  }
}

function tellReady(path: string): never {
  const fd = check(sys.socket(AF_UNIX, SOCK_DGRAM, 0), 'open a socket');
  const name = new TextEncoder().encode(path);
  const address = new Uint8Array(2 + name.length + 1);
  address[0] = AF_UNIX;
  address.set(name, 2);
  check(sys.bind(fd, address.buffer), `bind "${path}"`);
  const buffer = new ArrayBuffer(4096);
  say(['begin'], 0);
  for (;;) {
    const got = check(sys.recv(fd, buffer, 0, buffer.byteLength, 0), 'receive a notification');
    const ms = sys.clock_gettime(clock.CLOCK_MONOTONIC);
    say([sys.decodeUtf8(buffer, 0, got).replaceAll('\n', ' ')], ms);
  }
}

const [role, path = ''] = process.argv.slice(2);
if (role === 'ready') tellReady(path);
tellEvents();
