/**
 * rtnetlink's events from this machine's kernel. As root.
 * @guest
 */

import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { deleteAddress, newAddress } from '../../linux/netlink/address.ts';
import { openEvents, rtnlgrp } from '../../linux/netlink/events.ts';
import { changeLink, type Link } from '../../linux/netlink/link.ts';
import { deleteNeighbour, newNeighbour } from '../../linux/netlink/neighbour.ts';
import { sys } from '../../linux/sys-bun.ts';
import { fixture } from '../support/fixture.ts';
import { decodeEvents, type NetlinkEvent } from '../support/netlink-messages.ts';
import { address, mac, NetlinkPair, prefix } from './netlink-pair.ts';

const test = suite('netlink events');
const hosts = fixture(
  test,
  () => new NetlinkPair('events'),
  (made) => made.remove(),
);
const bridge = (): Link => hosts().bridge();

test('events report changes by others', () => {
  const { host, hostFd } = hosts();
  const { RTNLGRP_LINK, RTNLGRP_NEIGH, RTNLGRP_IPV4_IFADDR, RTNLGRP_IPV4_ROUTE } = rtnlgrp;
  const events = openEvents(sys, [RTNLGRP_LINK, RTNLGRP_NEIGH, RTNLGRP_IPV4_IFADDR, RTNLGRP_IPV4_ROUTE], {
    namespace: hostFd,
    receiveTimeoutMs: 5000,
  });
  try {
    const { index } = bridge();
    host.execute([
      newAddress({ index, prefix: prefix('10.55.0.1/24') }),
      newNeighbour({ index, address: address('10.55.0.9'), mac: mac(9) }),
      deleteAddress({ index, prefix: prefix('10.55.0.1/24') }),
      changeLink({ index }, { up: false }),
    ]);
    const wanted: NetlinkEvent[] = [
      { kind: 'address', change: 'new', index },
      { kind: 'route', change: 'new' },
      { kind: 'neighbour', change: 'new', index },
      { kind: 'address', change: 'deleted', index },
      { kind: 'route', change: 'deleted' },
      { kind: 'link', change: 'new', index },
    ];
    const seen = new Set<string>();
    while (!wanted.every((each) => seen.has(JSON.stringify(each)))) {
      const bytes = events.receiveEvents();
      assert.ok(bytes instanceof Uint8Array, `${bytes} after ${[...seen].join(' ')}`);
      for (const event of decodeEvents(bytes)) seen.add(JSON.stringify(event));
    }
    host.execute([changeLink({ index }, { up: true })]);
  } finally {
    events.close();
  }
});

test('an overrun of the receive buffer is reported', () => {
  const { host, hostFd } = hosts();
  const { index } = bridge();
  // A receive buffer that is full at once (SO_RCVBUF).
  const events = openEvents(
    {
      ...sys,
      setsockopt: (fd, level, option, value) =>
        sys.setsockopt(fd, level, option === 33 ? 8 : option, option === 33 ? new Int32Array([2048]).buffer : value),
    },
    [rtnlgrp.RTNLGRP_NEIGH],
    { namespace: hostFd, receiveTimeoutMs: 5000 },
  );
  const many = Array.from({ length: 200 }, (_, n) => ({ index, address: address(`10.66.0.${n + 1}`), mac: mac(n) }));
  host.execute(many.map(newNeighbour));
  let answer: Uint8Array | 'overrun' | undefined;
  do answer = events.receiveEvents();
  while (answer instanceof Uint8Array);
  assert.is(answer, 'overrun');
  events.close();
  host.execute(many.map(deleteNeighbour));
});

test.run();
