/** Deletions that come in crowds, or late; and each family of addresses alone and both together, by real packets. */

import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { type Site, Sites } from '../conformance/site.ts';
import type { PodSpace } from '../lab/bare-host.ts';
import { readLinks, readRoutes } from '../lab/kernel-state.ts';
import type { CniDocument } from '../lab/plugin.ts';
import { succeeds } from '../support/cni.ts';
import { fixture } from '../support/fixture.ts';

const test = suite('attachments');
const sites = fixture(
  test,
  () => new Sites('attach'),
  (made) => made.remove(),
);

const v4 = { subnet: '10.1.2.0/24' };
const v6 = { subnet: 'fd00:1::/64' };
const dual = { ranges: [[v4], [v6]] };

const vethsOf = (site: Site): string[] =>
  readLinks(site.namespace)
    .filter(({ kind }) => kind === 'veth')
    .map(({ name }) => name);

test('four concurrent DELs of one container succeed, whatever each of them knows', async () => {
  const site = sites().make();
  const pod = site.addPod();
  const bystander = site.addPod();
  const configuration = site.bridge({ cniVersion: '1.0.0', isDefaultGateway: true }, dual);
  site.add(bystander, configuration);
  const withNetns = [undefined, '', '/run/netns/absent-namespace'];
  for (let round = 0; round < 12; round++) {
    const prevResult = site.add(pod, configuration);
    const outcomes = await Promise.all(
      Array.from({ length: 4 }, (_, i) => {
        const netns = withNetns[(round + i) % withNetns.length];
        const keys = (round + i) % 2 === 0 ? { ...configuration, prevResult } : configuration;
        return site.weftAsync('DEL', pod, keys, netns === undefined ? {} : { netns });
      }),
    );
    for (const outcome of outcomes) {
      succeeds(outcome);
      assert.is(outcome.stdout, '');
    }
    assert.equal(readLinks(pod.namespace), []);
    assert.is(vethsOf(site).length, 1, 'only the bystander’s');
    assert.equal(site.reservations(), ['10.1.2.2', 'fd00:1::2']);
  }
  assert.ok(site.pings(bystander.namespace, '10.1.2.1'), 'the bystander has noticed nothing');
});

/** An attachment of the replacement, as it has to stay. */
function assertAlive(site: Site, pod: PodSpace, result: CniDocument): void {
  const addresses = result.ips!.map(({ address }) => address);
  assert.equal(site.podLink(pod).addresses.sort(), addresses.sort());
  assert.ok(site.pings(pod.namespace, '10.1.2.1'));
  for (const address of addresses) assert.ok(site.reservations().includes(address.split('/')[0]!), address);
}

test('DEL of an old sandbox after ADD of its replacement harms nothing', () => {
  const site = sites().make();
  const configuration = site.bridge({ isDefaultGateway: true }, v4);
  const namespace = site.addPod();
  const old = { ...namespace, id: 'sandbox-old' };
  const replacement = { ...namespace, id: 'sandbox-new' };
  const oldResult = site.add(old, configuration);
  // The old sandbox's end went with its namespace; its replacement has a namespace at the same path.
  site.podIp(old, 'link', 'del', 'eth0');
  const result = site.add(replacement, configuration);
  for (const [keys, options] of [
    [configuration, {}],
    [{ ...configuration, prevResult: oldResult }, {}],
    [configuration, { netns: '' }],
    [{ ...configuration, prevResult: oldResult }, { netns: '' }],
  ] as const) {
    succeeds(site.weft('DEL', old, keys, options));
    assertAlive(site, replacement, result);
    assert.equal(site.reservations(), [result.ips![0]!.address.split('/')[0]!]);
  }
  succeeds(site.check(replacement, configuration, result));
  site.delete(replacement, configuration);
  assert.equal(site.reservations(), []);
  assert.equal(vethsOf(site), []);
});

test('DEL of an old sandbox in another namespace harms nothing', () => {
  const site = sites().make();
  const configuration = site.bridge({ isDefaultGateway: true }, v4);
  const [first, second] = site.addPods(2) as [PodSpace, PodSpace];
  const old = { ...first, id: 'sandbox-old' };
  const replacement = { ...second, id: 'sandbox-new' };
  site.add(old, configuration);
  const result = site.add(replacement, configuration);
  site.scratch.removeNamespaces([first.namespace]);
  site.delete(old, configuration);
  assertAlive(site, replacement, result);
});

test('DEL of one interface of a container leaves the other', () => {
  const site = sites().make();
  const pod = site.addPod();
  const configuration = site.bridge({ isGateway: true }, v4);
  site.add(pod, configuration);
  const result = site.add(pod, configuration, { ifname: 'net1' });
  site.delete(pod, configuration);
  assert.equal(
    readLinks(pod.namespace).map(({ name }) => name),
    ['net1'],
  );
  assert.equal(site.reservations(), [result.ips![0]!.address.split('/')[0]!]);
  site.delete(pod, configuration, { ifname: 'net1' });
  assert.equal(site.reservations(), []);
});

for (const [name, ipam, families] of [
  ['IPv4 alone', v4, [4]],
  ['IPv6 alone', v6, [6]],
  ['dual stack', dual, [4, 6]],
] as const) {
  for (const overlay of [false, true]) {
    test(`${name}, ${overlay ? 'of the node’s network' : 'of explicit ranges'}: two containers reach each other and the gateway`, () => {
      const site = sites().make();
      const subnets = families.map((family) => (family === 4 ? v4.subnet : v6.subnet));
      if (overlay) site.writeNodeFile({ subnets, networks: ['10.1.0.0/16', 'fd00::/16'] });
      const configuration = overlay ? site.overlay({ name: 'net' }) : site.bridge({ isDefaultGateway: true }, ipam);
      const [one, other] = site.addPods(2) as [PodSpace, PodSpace];
      const results = [one, other].map((pod) => site.add(pod, configuration));
      for (const family of families) {
        const gateway = family === 4 ? '10.1.2.1' : 'fd00:1::1';
        const addresses = results.map(
          ({ ips }) => ips!.find(({ address }) => address.includes(':') === (family === 6))!.address.split('/')[0]!,
        );
        assert.equal(addresses, family === 4 ? ['10.1.2.2', '10.1.2.3'] : ['fd00:1::2', 'fd00:1::3']);
        assert.ok(site.pings(one.namespace, gateway), `gateway ${gateway}`);
        assert.ok(site.pings(one.namespace, addresses[1]!), `${addresses[0]} to ${addresses[1]}`);
        assert.ok(site.pings(other.namespace, addresses[0]!), `${addresses[1]} to ${addresses[0]}`);
        assert.ok(site.pings(site.namespace, addresses[0]!), `host to ${addresses[0]}`);
        assert.ok(
          readRoutes(one.namespace, family).some(
            ({ destination, gateway: via }) => destination === 'default' && via === gateway,
          ),
        );
      }
      for (const family of ([4, 6] as const).filter(
        (candidate) => !(families as readonly number[]).includes(candidate),
      )) {
        assert.equal(readRoutes(one.namespace, family), [], `nothing of IPv${family}`);
      }
      for (const [i, pod] of [one, other].entries()) succeeds(site.check(pod, configuration, results[i]));
      for (const pod of [one, other]) site.delete(pod, configuration);
      assert.equal(site.reservations(), []);
      assert.equal(vethsOf(site), []);
    });
  }
}

test.run();
