/** weftd on Kubernetes' API: two hosts find each other by their Node objects, and their pods reach each other. */

import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { execute, type Finished } from '../lab/commands.ts';
import { type KubeHost, startKubeCluster } from '../lab/kube-cluster.ts';
import { reaches } from '../lab/packets.ts';
import { program } from '../lab/project.ts';
import { waitFor } from '../lab/wait.ts';
import { fixture } from '../support/fixture.ts';

const test = suite('kubernetes: reach');
const cluster = fixture(
  test,
  () =>
    startKubeCluster('kube', {
      hosts: 2,
      config: '{"Network": "10.244.0.0/16", "Backend": {"Type": "vxlan"}}',
      podCIDRs: (n) => [`10.244.${n - 1}.0/24`],
    }),
  (made) => made.remove(),
);

test("pods of two hosts reach each other by their nodes' podCIDRs", () => {
  const [one, two] = cluster().hosts as [KubeHost, KubeHost];
  // The controller manager gives the first subnet of the network, too.
  assert.equal([one.subnet, two.subnet], ['10.244.0.0/24', '10.244.1.0/24']);
  const [[here], [there]] = [one.attachPods(1), two.attachPods(1)];
  assert.ok(reaches(here!.namespace, there!.address));
  assert.ok(reaches(there!.namespace, here!.address));
});

test("the annotations are flannel's, byte for byte, with one more", () => {
  const [one] = cluster().hosts as [KubeHost];
  const mac = one.link('flannel.1').mac;
  const { weft, ...annotations } = one.annotations;
  assert.equal(annotations, {
    'backend-data': `{"VNI":1,"VtepMAC":"${mac}"}`,
    'backend-type': 'vxlan',
    'kube-subnet-manager': 'true',
    'public-ip': one.address,
  });
  assert.match(weft ?? '', /^\{"version":"\d+\.\d+\.\d+[^"]*"\}$/);
});

test('the condition NetworkUnavailable is False once the data path stands', async () => {
  const { kube, hosts } = cluster();
  await waitFor('the condition', () => {
    const conditions = kube.node(hosts[0]!.name).status.conditions ?? [];
    return conditions.find(({ type }) => type === 'NetworkUnavailable')?.['status'] === 'False';
  });
});

test("weftctl lists the nodes by a kubeconfig: kubelet's Ready, and weftd's word for what is wrong", async () => {
  const { kube, underlay } = cluster();
  const [one] = cluster().hosts as [KubeHost];
  const say = (name: string, status: string): void => {
    const conditions = [{ type: 'Ready', status, reason: 'Test', message: '' }];
    kube.kubectl(['patch', 'node', name, '--subresource=status', '-p', JSON.stringify({ status: { conditions } })]);
  };
  say('host1', 'True');
  say('host2', 'Unknown');
  const list = (kubeconfig: string): Finished =>
    execute([program('weftctl'), 'nodes', '--json', '--kubeconfig-file', kubeconfig], {
      namespace: underlay.namespace,
    });
  const states = (): unknown => {
    const { status, stdout, stderr } = list(kube.kubeconfig());
    assert.is(status, 0, stderr);
    const { nodes } = JSON.parse(stdout) as { nodes: { node: string; alive?: boolean; health?: string }[] };
    return nodes.map(({ node, alive, health }) => [node, alive, health]);
  };
  assert.equal(states(), [
    ['host1', true, undefined],
    ['host2', false, undefined],
  ]);
  const denied = list(kube.kubeconfig('nobody-token'));
  assert.is(denied.status, 1);
  assert.match(denied.stderr, /^weftctl: Cannot list the Nodes: .* user "nobody" lacks a right; add this rule/);
  // A wrong network config is a problem that only a person can mend.
  one.writeConfig('{"Network": "10.244.0.0/99"}');
  const annotation = (): unknown => JSON.parse(one.annotations['weft'] ?? '{}');
  await waitFor('the word', () => 'health' in (annotation() as object), { deadlineMs: 60_000, intervalMs: 200 });
  assert.equal(states(), [
    ['host1', true, 'network-config'],
    ['host2', false, undefined],
  ]);
});

test.run();
