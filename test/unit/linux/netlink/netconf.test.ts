import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { decodeNetconfIndex, NETCONFA_IFINDEX_ALL } from '../../../../linux/netlink/netconf.ts';
import { NetlinkReader } from '../../../../linux/netlink/wire.ts';

const test = suite('linux/netlink/netconf');

/** `struct netconfmsg` of IPv4 and these attributes, each of 4 bytes. */
const body = (...attributes: [type: number, value: number][]): NetlinkReader => {
  const view = new DataView(new ArrayBuffer(4 + 8 * attributes.length));
  view.setUint8(0, 2);
  attributes.forEach(([type, value], i) => {
    view.setUint16(4 + 8 * i, 8, true);
    view.setUint16(6 + 8 * i, type, true);
    view.setInt32(8 + 8 * i, value, true);
  });
  return NetlinkReader.of('netconf', new Uint8Array(view.buffer));
};

test('the interface of a setting', () => {
  assert.is(decodeNetconfIndex(body([2, 1], [1, 7])), 7);
  assert.is(decodeNetconfIndex(body([1, -1])), NETCONFA_IFINDEX_ALL);
  assert.is(decodeNetconfIndex(body([2, 1])), undefined);
});

test.run();
