/** Events of the kernel, and those of them that concern weftd. */

import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { type EventInterest, subjectOf } from '../../../../daemon/host/events.ts';
import { newFdbEntry, newNeighbour } from '../../../../linux/netlink/neighbour.ts';
import { newRoute } from '../../../../linux/netlink/route.ts';
import { NetlinkWriter } from '../../../../linux/netlink/wire.ts';
import { bytesOf, decodeMessages } from '../../../support/netlink-messages.ts';
import { address, mac, prefix } from '../overlay/cluster-of.ts';

const test = suite('daemon/host/events');

test('events of our own doing are nobody’s business, nor entries that are as they should be', () => {
  const interest: EventInterest = {
    indexes: new Set([2, 7]),
    tunnels: new Set([7]),
    names: new Set(['flannel.1']),
    networks: [prefix('10.1.0.0/16')],
    port: 77,
    expects: (_, isThere) => isThere,
  };
  const event = (request: ReturnType<typeof newRoute>, port: number, type = request.type) => {
    const writer = new NetlinkWriter();
    const start = writer.beginMessage(type, 0, 1);
    request.encodeBody(writer);
    writer.endMessage(start);
    const bytes = bytesOf(writer);
    new DataView(bytes.buffer).setUint32(12, port, true);
    return subjectOf(decodeMessages(bytes)[0]!, interest);
  };
  const route = (oif: number) =>
    newRoute({ destination: prefix('10.1.2.0/24'), gateway: address('10.1.2.0'), oif, onlink: true });
  assert.is(event(route(7), 77), undefined, 'ours');
  assert.is(event(route(7), 78), 'entry');
  assert.is(event(route(7), 0), 'entry', "the kernel's own");
  assert.is(event(route(2), 78), 'host', 'another way into the network');
  const elsewhere = newRoute({ destination: prefix('10.9.0.0/16'), gateway: address('192.0.2.9'), oif: 9 });
  assert.is(event(elsewhere, 78), undefined);
  const neighbour = (index: number) => newNeighbour({ index, address: address('10.1.2.0'), mac: mac(2) });
  assert.is(event(neighbour(7), 78), 'entry');
  assert.is(event(neighbour(7), 77), undefined);
  assert.is(event(neighbour(2), 78), undefined, "the external interface's own neighbours");
  const deleted = (interestIn: Partial<EventInterest>) => {
    const { type, encodeBody } = neighbour(7);
    const writer = new NetlinkWriter();
    const start = writer.beginMessage(type + 1, 0, 1);
    encodeBody(writer);
    writer.endMessage(start);
    return subjectOf(decodeMessages(bytesOf(writer))[0]!, { ...interest, ...interestIn });
  };
  assert.is(deleted({}), 'entry', 'somebody has deleted a neighbour');
  assert.is(deleted({ expects: () => true }), undefined, 'we have, or nobody misses it');
  const fdb = newFdbEntry({ index: 7, mac: mac(2), destination: address('192.0.2.2') });
  assert.is(event(fdb, 0), undefined, 'it is there, and should be');
  assert.is(event(fdb, 0, fdb.type + 1), 'entry', 'it is gone, and should not be');
});

test.run();
