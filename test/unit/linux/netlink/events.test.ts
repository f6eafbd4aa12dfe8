/** Events against what the kernel really sends. */

import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { NetlinkWriter } from '../../../../linux/netlink/wire.ts';
import { readDatagrams } from '../../../support/netlink-fixture.ts';
import { bytesOf, decodeEvents } from '../../../support/netlink-messages.ts';
import { takesRandomBytes } from './codec.ts';

test('events name the kind of change and the interface', () => {
  const events = readDatagrams('events').flatMap(decodeEvents);
  const has = (kind: string, change: string, index?: number): boolean =>
    events.some((e) => e.kind === kind && e.change === change && e.index === index);
  assert.ok(has('link', 'new', 10));
  assert.ok(has('route', 'deleted'));
  assert.ok(events.every((e) => e.kind !== 'other' && e.kind !== 'overrun'));
});

test('an overrun and unknown messages are events of their own', () => {
  const writer = new NetlinkWriter();
  for (const type of [4, 36, 2]) writer.endMessage(writer.beginMessage(type, 0, 0));
  assert.equal(decodeEvents(bytesOf(writer)), [{ kind: 'overrun' }, { kind: 'other' }, { kind: 'other' }]);
});

test('captured messages with random bytes give values or a DecodeError', () => {
  takesRandomBytes(decodeEvents);
});

test.run();
