/** VLANs on the bridge: the rows of the conformance table that need a kernel whose bridges filter by VLAN. */

import * as assert from 'uvu/assert';
import { conformance, coveredRows, inGuest } from '../conformance/rows.ts';
import { type Site, Sites } from '../conformance/site.ts';
import type { PodSpace } from '../lab/bare-host.ts';
import { type LinkState, readLinks } from '../lab/kernel-state.ts';
import type { CniDocument } from '../lab/plugin.ts';
import { succeeds } from '../support/cni.ts';
import { fixture } from '../support/fixture.ts';
import { type PortVlan, portVlanNumbers, readPortVlans } from './vlans.ts';

const { before, after, row, test, run } = conformance('guest/vlan');
const sites = fixture(
  { before, after },
  () => new Sites('vlan'),
  (made) => made.remove(),
);

const native = (vlan: number): PortVlan => ({ vlan, pvid: true, untagged: true });
const tagged = (vlan: number): PortVlan => ({ vlan, pvid: false, untagged: false });
const untagged = (vlan: number): PortVlan => ({ vlan, pvid: false, untagged: true });

const hostVeth = (result: CniDocument): string => result.interfaces![1]!.name;
const addressOf = (result: CniDocument): string => result.ips![0]!.address.split('/')[0]!;
const filtering = (site: Site, bridge = 'br0'): unknown => site.link(bridge).data['vlan_filtering'];

/** The VLANs of a new pod's port, by these keys. */
function vlansOf(site: Site, keys: Record<string, unknown>): PortVlan[] {
  return readPortVlans(site.namespace, hostVeth(site.add(site.addPod(), site.bridge(keys))));
}

row(83, () => {
  const site = sites().make();
  assert.equal(vlansOf(site, { vlan: 100 }), [native(100)]);
  assert.equal(vlansOf(site, { vlan: 100, preserveDefaultVlan: true }), [untagged(1), native(100)]);
  assert.equal(vlansOf(site, { vlanTrunk: [{ id: 101 }] }), [native(1), tagged(101)]);
  assert.equal(vlansOf(site, { vlan: 100, vlanTrunk: [{ id: 101 }], preserveDefaultVlan: false }), [
    native(100),
    tagged(101),
  ]);
});

row(107, () => {
  for (const [keys, value] of [
    [{ vlan: 100 }, 1],
    [{ vlanTrunk: [{ id: 5 }] }, 1],
    [{ vlanTrunk: [] }, 1],
    [{}, 0],
  ] as const) {
    const site = sites().make();
    site.add(site.addPod(), site.bridge(keys));
    assert.is(filtering(site), value, `vlan_filtering by ${JSON.stringify(keys)}`);
    // A bridge that is there is left as it is.
    site.add(site.addPod(), site.bridge(value === 1 ? {} : { vlan: 100 }));
    assert.is(filtering(site), value, `vlan_filtering of the bridge made by ${JSON.stringify(keys)}`);
  }
});

row(108, () => {
  const site = sites().make();
  assert.equal(vlansOf(site, { vlan: 4094, preserveDefaultVlan: false }), [native(4094)]);
  const trunk = vlansOf(site, { vlanTrunk: [{ id: 7, minID: 100, maxID: 103 }, { id: 4094 }, { id: 101 }] });
  assert.equal(
    trunk.filter(({ pvid }) => !pvid),
    [7, 100, 101, 102, 103, 4094].map(tagged),
  );
});

row(109, () => {
  const site = sites().make();
  const ranges = [[{ subnet: '10.1.2.0/24' }], [{ subnet: 'fd00:1::/64' }]];
  const keys = { vlan: 100, isDefaultGateway: true, preserveDefaultVlan: false };
  const configuration = site.bridge({ cniVersion: '1.1.0', ...keys }, { ranges });
  const [here, there] = site.addPods(2) as [PodSpace, PodSpace];
  const result = site.add(here, configuration);
  assert.is(result.interfaces!.length, 4);
  const gateway = result.interfaces![3]!;
  assert.is(gateway.name, 'br0.100');
  assert.is(gateway.sandbox ?? '', '');

  const link = site.link('br0.100');
  assert.is(link.kind, 'veth');
  assert.is(link.master, undefined);
  assert.is(link.mac, gateway.mac);
  assert.equal(link.addresses.sort(), ['10.1.2.1/24', 'fd00:1::1/64']);
  assert.equal(site.link('br0').addresses, []);
  const isPeer = ({ master, name }: LinkState) => master === 'br0' && name !== hostVeth(result);
  const [peer, ...others] = readLinks(site.namespace).filter(isPeer);
  assert.equal(others, []);
  assert.equal(readPortVlans(site.namespace, peer!.name), [native(100)]);

  // The next pod finds it there.
  const next = site.add(there, configuration);
  assert.equal(next.interfaces![3], gateway);
  assert.is(site.link('br0.100').index, link.index);
  for (const address of ['10.1.2.1', 'fd00:1::1', addressOf(next)]) {
    assert.ok(site.pings(here.namespace, address), `${address} answers`);
  }

  succeeds(site.check(here, configuration, result));
  for (const [pod, prevResult] of [
    [here, result],
    [there, next],
  ] as const)
    site.delete(pod, { ...configuration, prevResult });
  assert.equal(site.reservations(), []);
  assert.equal(
    readLinks(site.namespace)
      .map(({ name }) => name)
      .sort(),
    ['br0', 'br0.100', peer!.name].sort(),
  );
});

row(
  83,
  () => {
    const site = sites().make();
    const [red, alsoRed, blue] = site.addPods(3) as [PodSpace, PodSpace, PodSpace];
    const configuration = (vlan: number) => site.bridge({ cniVersion: '1.1.0', vlan });
    const results = [red, alsoRed].map((pod) => site.add(pod, configuration(100)));
    const other = site.add(blue, configuration(200));
    assert.ok(site.pings(red.namespace, addressOf(results[1]!)), 'pods of one VLAN reach each other');
    assert.not(site.pings(red.namespace, addressOf(other)), 'pods of two VLANs do not');

    // A trunk's pod is in every VLAN that it makes an interface for.
    const trunk = site.addPod();
    site.add(trunk, site.bridge({ cniVersion: '1.1.0', vlanTrunk: [{ minID: 100, maxID: 199 }], ipam: {} }));
    for (const [vlan, address] of [
      [100, '10.1.2.200/24'],
      [200, '10.1.2.201/24'],
    ] as const) {
      const name = `eth0.${vlan}`;
      site.podIp(trunk, 'link', 'add', 'link', 'eth0', 'name', name, 'type', 'vlan', 'id', String(vlan));
      site.podIp(trunk, 'addr', 'add', address, 'dev', name);
    }
    site.podIp(trunk, 'link', 'set', 'eth0.100', 'up');
    assert.ok(site.pings(trunk.namespace, addressOf(results[0]!)), 'a trunk carries the VLANs of its list');
    site.podIp(trunk, 'link', 'set', 'eth0.100', 'down');
    site.podIp(trunk, 'link', 'set', 'eth0.200', 'up');
    assert.not(site.pings(trunk.namespace, addressOf(other)), 'and no other');
  },
  'packets keep to their VLAN',
);

row(
  108,
  () => {
    const site = sites().make();
    const pod = site.addPod();
    const configuration = site.bridge({ cniVersion: '1.1.0', vlan: 100 });
    const result = site.add(pod, configuration);
    succeeds(site.check(pod, configuration, result));
    const port = hostVeth(result);
    site.delete(pod, configuration);
    assert.equal(
      readLinks(site.namespace).filter(({ name }) => name === port),
      [],
    );
    // The bridge itself stays in the default VLAN alone.
    assert.equal(portVlanNumbers(site.namespace, 'br0'), [1]);
  },
  'CHECK and DEL',
);

test('every row that only the guest can show is tested', () => {
  const open = Object.keys(inGuest).filter((number) => !coveredRows().has(Number(number)));
  assert.equal(open, []);
});

run();
