/** Requests of linux/netlink that the kernels of most test machines do not support. */

import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { openNetlink } from '../../linux/netlink/connection.ts';
import { createBridge } from '../../linux/netlink/link.ts';
import { sys } from '../../linux/sys-bun.ts';
import { parseMac } from '../../net/mac.ts';
import { readLink } from '../lab/kernel-state.ts';
import { withNamespace } from '../lab/namespaces.ts';
import { Scratch } from '../lab/scratch.ts';
import { fixture } from '../support/fixture.ts';
import { readPortVlans } from './vlans.ts';

const test = suite('guest/netlink');
const host = fixture(
  test,
  () => {
    const scratch = new Scratch('nl');
    const name = scratch.addNamespace('host');
    const connection = withNamespace(name, (namespace) => openNetlink(sys, { namespace }));
    return { scratch, name, connection };
  },
  ({ scratch, connection }) => {
    connection.close();
    scratch.remove();
  },
);

for (const [vlanFiltering, shown] of [
  [true, 1],
  [false, 0],
  [undefined, 0],
] as const) {
  test(`a bridge with vlanFiltering ${vlanFiltering}`, () => {
    const { name, connection } = host();
    const bridge = `br${vlanFiltering}`;
    const mac = parseMac('02:00:00:00:00:01')!;
    connection.execute([
      createBridge({ name: bridge, mac, up: true, ...(vlanFiltering !== undefined && { vlanFiltering }) }),
    ]);
    assert.is(readLink(name, bridge)?.data['vlan_filtering'], shown);
    assert.equal(readPortVlans(name, bridge), [{ vlan: 1, pvid: true, untagged: true }]);
  });
}

test.run();
