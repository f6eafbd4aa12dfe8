/** Netlink messages and events as lists, for tests and captures. */

import { eachMessage, type NetlinkMessage, type NetlinkWriter, nlmsg } from '../../linux/netlink/wire.ts';

/** A copy of what is written so far. */
export const bytesOf = (writer: NetlinkWriter): Uint8Array => new Uint8Array(writer.buffer, 0, writer.length).slice();

/** The messages of a datagram. */
export function decodeMessages(bytes: Uint8Array): NetlinkMessage[] {
  const messages: NetlinkMessage[] = [];
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  eachMessage(view, 0, bytes.byteLength, (message) => messages.push(message));
  return messages;
}

export interface NetlinkEvent {
  /** 'overrun': events were lost; look at everything. 'other': a message of a kind that is not told apart. */
  readonly kind: 'link' | 'address' | 'route' | 'neighbour' | 'overrun' | 'other';
  /** 'new' is also "changed". */
  readonly change?: 'new' | 'deleted';
  /** The interface; absent for routes, which may have several. */
  readonly index?: number;
}

/** enum of include/uapi/linux/rtnetlink.h: four numbers a family: NEW, DEL, GET, SET. */
const kinds: Readonly<Record<number, NetlinkEvent['kind']>> = {
  16: 'link',
  20: 'address',
  24: 'route',
  28: 'neighbour',
};

/**
 * The events in one datagram.
 * @throws DecodeError where it is cut off (read with at least 32 KiB)
 */
export function decodeEvents(bytes: Uint8Array): NetlinkEvent[] {
  const events: NetlinkEvent[] = [];
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  eachMessage(view, 0, bytes.byteLength, ({ type, body }) => {
    if (type === nlmsg.NLMSG_OVERRUN) {
      events.push({ kind: 'overrun' });
      return;
    }
    const kind = kinds[type & ~3];
    const operation = type & 3;
    if (kind === undefined || operation > 1) {
      events.push({ kind: 'other' });
      return;
    }
    const change = operation === 0 ? 'new' : 'deleted';
    // ifinfomsg, ifaddrmsg and ndmsg have the index in the same place; rtmsg has none.
    events.push(kind === 'route' ? { kind, change } : { kind, change, index: body.i32(4) });
  });
  return events;
}
