/** VXLAN devices against what the kernel and iproute2 really send. */

import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { decodeLink } from '../../../../linux/netlink/link.ts';
import { createTunnel, tunnelOf } from '../../../../linux/netlink/tunnel.ts';
import type { VxlanData } from '../../../../linux/netlink/vxlan.ts';
import { NetlinkReader } from '../../../../linux/netlink/wire.ts';
import { address, bodyOf, linkKindNests, linkOf, mac, refusesCutBodies, requestOf, tree } from './codec.ts';

test('VXLAN devices of both families are decoded, and a bridge is none', () => {
  const bridge = linkOf('link-bridge');
  assert.is(bridge.kind, 'bridge');
  assert.is(bridge.mtuBytes, 1450);
  assert.is(tunnelOf(bridge), undefined);
  const { unknown: _four, ...vxlan } = tunnelOf(linkOf('link-vxlan')) as VxlanData;
  assert.equal(vxlan, { vni: 7, port: 8472, local: address('10.1.0.1'), lower: 10, learning: false, gbp: false });
  const { unknown: _six, ...vxlan6 } = tunnelOf(linkOf('link-vxlan-ipv6')) as VxlanData;
  assert.equal(vxlan6, { vni: 8, port: 8473, local: address('fd00:1::1'), lower: 10, learning: true, gbp: true });
});

test('links are made as iproute2 makes them', () => {
  // `ip` spells out some defaults; what we say, it says as well.
  const theirs = requestOf('request-vxlan');
  const said = tree(theirs.body.attributes(16, 'vxlan'), linkKindNests).join('\n');
  const request = createTunnel(
    'vxlan',
    { name: 'vx1', mac: mac('02:00:00:00:00:34'), mtuBytes: 1400 },
    { vni: 9, port: 8474, local: address('10.1.0.1'), lower: 10, learning: false, gbp: false },
  );
  for (const line of tree(NetlinkReader.of('ours', bodyOf(request)).attributes(16, 'vxlan'), linkKindNests)) {
    assert.ok(said.includes(line.replace(/^(\/18\/1 .*) 0$/, '$1')), `${line} in\n${said}`);
  }
});

test('a body that is cut off inside an attribute gives a DecodeError', () => {
  refusesCutBodies('link-vxlan-ipv6', (body) => tunnelOf(decodeLink(body)));
});

test.run();
