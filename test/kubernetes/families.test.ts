/**
 * Each family and backend over the real API server: pods reach each other, and the annotations are flannel's.
 * @long
 */

import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { annotationPrefix, type KubeHost, startKubeCluster } from '../lab/kube-cluster.ts';
import { reaches } from '../lab/packets.ts';
import { waitFor } from '../lab/wait.ts';
import { fixture } from '../support/fixture.ts';

const test = suite('kubernetes: families');

const dual = '"EnableIPv6": true, "Network": "10.244.0.0/16", "IPv6Network": "fd00:244::/48"';
const v6alone = '"EnableIPv4": false, "EnableIPv6": true, "IPv6Network": "fd00:244::/48"';

const cluster = fixture(
  test,
  () =>
    startKubeCluster('families', {
      hosts: 2,
      families: [4, 6],
      config: `{${dual}, "Backend": {"Type": "vxlan"}}`,
      // In either order.
      podCIDRs: (n) => {
        const both = [`10.244.${n}.0/24`, `fd00:244:0:${n}::/64`];
        return n === 1 ? both : both.reverse();
      },
    }),
  (made) => made.remove(),
);

const hosts = (): [KubeHost, KubeHost] => cluster().hosts as [KubeHost, KubeHost];

/** Every pod address of one host from a pod of the other, both ways. */
async function pods(): Promise<void> {
  const [one, two] = hosts();
  const [[here], [there]] = [one.attachPods(1), two.attachPods(1)];
  assert.ok(there!.addresses.length > 0);
  for (const [from, to] of [
    [here!, there!],
    [there!, here!],
  ] as const) {
    for (const address of to.addresses) await waitFor(`a ping to ${address}`, () => reaches(from.namespace, address));
  }
}

async function configure(config: string, isThere: (annotations: Record<string, string>) => boolean): Promise<void> {
  for (const host of hosts()) host.writeConfig(config);
  for (const host of hosts()) await waitFor(`${host.name}'s annotations`, () => isThere(host.annotations));
  for (const host of hosts()) {
    await host.waitForStatus(
      `${host.name} to have programmed its peer`,
      ({ peers, problems, state }) =>
        state === 'running' && problems.length === 0 && peers.every((each) => each.programmed),
    );
  }
}

const withoutOurs = ({ weft: _, ...others }: Record<string, string>): Record<string, string> => others;

test('vxlan with both families: podCIDRs in either order', async () => {
  const [one, two] = hosts();
  assert.equal(two.subnets, ['10.244.2.0/24', 'fd00:244:0:2::/64']);
  assert.equal(withoutOurs(one.annotations), {
    'backend-data': `{"VNI":1,"VtepMAC":"${one.link('flannel.1').mac}"}`,
    'backend-type': 'vxlan',
    'backend-v6-data': `{"VNI":1,"VtepMAC":"${one.link('flannel-v6.1').mac}"}`,
    'kube-subnet-manager': 'true',
    'public-ip': one.addresses[0],
    'public-ipv6': one.addresses[1],
  });
  await pods();
});

test("a peer's data of one family alone changes, and is followed", async () => {
  const [one] = hosts();
  const { kube } = cluster();
  const mac = (v6: boolean, last: string): Record<string, string> => ({
    [`${annotationPrefix}backend${v6 ? '-v6' : ''}-data`]: `{"VNI":1,"VtepMAC":"02:00:00:00:00:${last}"}`,
  });
  kube.addNode('peer40', ['10.244.40.0/24', 'fd00:244:0:40::/64'], {
    [`${annotationPrefix}backend-type`]: 'vxlan',
    [`${annotationPrefix}kube-subnet-manager`]: 'true',
    [`${annotationPrefix}public-ip`]: '192.168.77.40',
    [`${annotationPrefix}public-ipv6`]: 'fd77::40',
    ...mac(false, '04'),
    ...mac(true, '06'),
  });
  const fdb = (device: string): string => one.run('bridge', 'fdb', 'show', 'dev', device);
  await waitFor('both', () => fdb('flannel.1').includes(':04 dst') && fdb('flannel-v6.1').includes(':06 dst'));
  kube.annotate('peer40', mac(false, '44'));
  await waitFor('IPv4', () => fdb('flannel.1').includes(':44 dst') && !fdb('flannel.1').includes(':04 dst'));
  kube.annotate('peer40', mac(true, '66'));
  await waitFor('IPv6', () => fdb('flannel-v6.1').includes(':66 dst') && !fdb('flannel-v6.1').includes(':06 dst'));
  kube.removeNode('peer40');
  await waitFor('nothing of it', () => !/:44 dst|:66 dst/.test(fdb('flannel.1') + fdb('flannel-v6.1')));
});

test('host-gw with both families', async () => {
  await configure(`{${dual}, "Backend": {"Type": "host-gw"}}`, (each) => each['backend-type'] === 'host-gw');
  const [one] = hosts();
  assert.equal(withoutOurs(one.annotations), {
    'backend-data': 'null',
    'backend-type': 'host-gw',
    'backend-v6-data': 'null',
    'kube-subnet-manager': 'true',
    'public-ip': one.addresses[0],
    'public-ipv6': one.addresses[1],
  });
  await pods();
});

test('vxlan with IPv6 alone', async () => {
  await configure(`{${v6alone}, "Backend": {"Type": "vxlan"}}`, (each) => !('public-ip' in each));
  const [one] = hosts();
  assert.equal(withoutOurs(one.annotations), {
    'backend-type': 'vxlan',
    'backend-v6-data': `{"VNI":1,"VtepMAC":"${one.link('flannel-v6.1').mac}"}`,
    'kube-subnet-manager': 'true',
    'public-ipv6': one.addresses[1],
  });
  await pods();
});

test('a family without a podCIDR is told', async () => {
  const [, two] = hosts();
  const { kube } = cluster();
  await two.weftd!.stop();
  kube.removeNode('host2');
  kube.addNode('host2', ['10.244.2.0/24']);
  two.writeConfig(`{${dual}, "Backend": {"Type": "vxlan"}}`);
  two.startWeftd();
  await two.waitForStatus('the problem', ({ problems }) =>
    problems.some((line) =>
      line.includes('Node "host2" has no IPv6 podCIDR (it has 10.244.2.0/24), but the network config uses IPv6'),
    ),
  );
});

test.run();
