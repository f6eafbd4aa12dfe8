import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { addPortVlans, decodePortVlans, removePortVlan } from '../../../../linux/netlink/bridge-vlan.ts';
import type { NetlinkRequest } from '../../../../linux/netlink/connection.ts';
import { NetlinkReader, NetlinkWriter } from '../../../../linux/netlink/wire.ts';
import { bytesOf } from '../../../support/netlink-messages.ts';

const test = suite('linux/netlink/bridge-vlan');

function bodyOf(request: NetlinkRequest): Uint8Array {
  const writer = new NetlinkWriter();
  request.encodeBody(writer);
  return bytesOf(writer);
}
const hex = (bytes: Uint8Array): string => Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');

test('written VLANs are read back, with adjacent ones as ranges', () => {
  const vlans = [7, 100, 101, 102, 4094].map((vlan) => ({ vlan, native: false }));
  const body = bodyOf(addPortVlans(9, [{ vlan: 5, native: true }, ...vlans]));
  assert.equal(decodePortVlans(NetlinkReader.of('port', body)), {
    index: 9,
    vlans: [...vlans, { vlan: 5, native: true }],
  });
  // ifinfomsg; IFLA_AF_SPEC of five IFLA_BRIDGE_VLAN_INFO
  const header = '07000000090000000000000000000000';
  const infos = ['00000700', '08006400', '10006600', '0000fe0f', '06000500'].map((info) => `08000200${info}`);
  assert.is(hex(body), `${header}2c001a00${infos.join('')}`);
});

test('removing a VLAN of a port is encoded', () => {
  assert.is(hex(bodyOf(removePortVlan(9, 1))), '070000000900000000000000000000000c001a000800020000000100');
});

test.run();
