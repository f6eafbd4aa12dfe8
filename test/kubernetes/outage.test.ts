/**
 * The API server away, restarted, frozen, or refusing: nothing programmed is withdrawn, and weftd goes on by itself.
 * @long
 */

import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { annotationPrefix, KubeCluster, type KubeHost } from '../lab/kube-cluster.ts';
import { reaches } from '../lab/packets.ts';
import { waitFor } from '../lab/wait.ts';
import { fixture } from '../support/fixture.ts';

const test = suite('kubernetes: outage');

const config = '{"Network": "10.244.0.0/16", "Backend": {"Type": "vxlan"}}';
const quick = { ...process.env, WEFTD_TEST_KUBE_SILENCE_MS: '6000', WEFTD_TEST_ETCD_TIMEOUT_MS: '2000' } as Record<
  string,
  string
>;

const cluster = fixture(
  test,
  async () => {
    const made = new KubeCluster('outage', { hosts: 2, config });
    try {
      for (let n = 1; n <= 2; n++) made.addHost();
      return made;
    } catch (error) {
      made.remove();
      throw error;
    }
  },
  (made) => made.remove(),
);

const hosts = (): [KubeHost, KubeHost] => cluster().hosts as [KubeHost, KubeHost];

const told = (host: KubeHost, text: RegExp): Promise<string> =>
  host.waitForStatus(`${host.name} to tell ${text}`, ({ problems }) => problems.find((line) => text.test(line)), {
    deadlineMs: 30_000,
  });

const healthy = (host: KubeHost): Promise<unknown> =>
  host.waitForStatus(`${host.name} to be well`, (status) => status.problems.length === 0, { deadlineMs: 30_000 });

const addPeer = (name: string, n: number): void =>
  cluster().kube.addNode(name, [`10.244.${n}.0/24`], {
    [`${annotationPrefix}backend-data`]: `{"VNI":1,"VtepMAC":"02:00:00:00:00:${n}"}`,
    [`${annotationPrefix}backend-type`]: 'vxlan',
    [`${annotationPrefix}kube-subnet-manager`]: 'true',
    [`${annotationPrefix}public-ip`]: `192.168.77.${n}`,
  });

const hasRoute = (host: KubeHost, subnet: string): Promise<boolean> =>
  waitFor(`${host.name}'s route to ${subnet}`, () => host.ip('route', 'show', subnet).includes('flannel.1'), {
    deadlineMs: 30_000,
  });

test('the API server is away at the start: weftd waits for it, then for its Node and a podCIDR', async () => {
  const { kube } = cluster();
  const [one, two] = hosts();
  one.startWeftdWith({ environment: quick });
  await told(one, /Cannot (list|watch) the Nodes?: the API server https:\/\/192\.168\.77\.1:6443: connection refused/);
  await kube.start();
  await told(one, /There is no Node "host1" in Kubernetes/);
  kube.addNode('host1');
  await told(one, /Node "host1" has no podCIDR yet; the controller manager gives it one/);
  assert.not.ok(Object.keys(one.annotations).length > 0, 'nothing is written before');
  kube.giveCidrs('host1', ['10.244.1.0/24']);
  kube.addNode('host2', ['10.244.2.0/24']);
  two.startWeftdWith({ environment: quick });
  await one.reaches([two]);
  await two.reaches([one]);
  for (const host of hosts()) await healthy(host);
});

test('a killed API server takes nothing away; damage is repaired without it; its return is enough', async () => {
  const { kube } = cluster();
  const [one, two] = hosts();
  const [[here], [there]] = [one.attachPods(1), two.attachPods(1)];
  await kube.stopApiserver();
  await told(
    one,
    /(connection refused; is it running there\?|the connection was closed); trying again; the existing setup stays/,
  );
  assert.ok(reaches(here!.namespace, there!.address));
  one.ip('route', 'del', two.subnet);
  await hasRoute(one, two.subnet);
  await one.weftd!.stop('SIGKILL');
  one.startWeftdWith({ environment: quick });
  await told(one, /connection refused/);
  assert.ok(reaches(here!.namespace, there!.address), 'after a restart of weftd');
  await kube.restartApiserver();
  for (const host of hosts()) await healthy(host);
  await one.reaches([two]);
  addPeer('peer41', 41);
  for (const host of hosts()) await hasRoute(host, '10.244.41.0/24');
});

test('a frozen API server is noticed by its silence, and is not needed', async () => {
  const { kube } = cluster();
  const [one, two] = hosts();
  kube.freeze('apiserver');
  try {
    await told(one, /no answer within 2000 ms|nothing was heard for 6 s/);
    assert.ok(reaches(one.pods[0]!.namespace, two.pods[0]!.address));
  } finally {
    kube.thaw('apiserver');
  }
  for (const host of hosts()) await healthy(host);
  addPeer('peer42', 42);
  for (const host of hosts()) await hasRoute(host, '10.244.42.0/24');
});

test('a network that swallows packets is noticed by the silence of the watch', async () => {
  const { underlay } = cluster();
  const [one] = hosts();
  underlay.batch('link set host1 down');
  await told(one, /no answer within 2000 ms|no route or no answer|nothing was heard|the connection was closed/);
  underlay.batch('link set host1 up');
  await healthy(one);
  addPeer('peer43', 43);
  await hasRoute(one, '10.244.43.0/24');
});

test('a missing right is told with the rule that grants it; weftd goes on once it is granted', async () => {
  const { kube } = cluster();
  const [one, two] = hosts();
  await two.weftd!.stop();
  const kubeconfig = kube.kubeconfig('nobody-token');
  two.startWeftdWith({ environment: quick }, '--kubeconfig-file', kubeconfig);
  const list = '{apiGroups: [""], resources: ["nodes"], verbs: ["list"]}';
  const problem = await told(two, /refuses/);
  assert.match(problem, /user "nobody" lacks a right; add this rule to a ClusterRole that is bound to it: /);
  assert.ok(problem.includes(list), problem);
  assert.ok(reaches(one.pods[0]!.namespace, two.pods[0]!.address));
  kube.kubectl(['create', 'clusterrolebinding', 'nobody', '--clusterrole=weft', '--user=nobody']);
  await healthy(two);
  kube.kubectl(['delete', 'clusterrolebinding', 'nobody']);
});

test('etcd is restored from a backup: the ways to the Nodes that it has lost stay, and later changes are followed', async () => {
  const { kube } = cluster();
  const [one] = hosts();
  await kube.backUp();
  await kube.startAgain();
  addPeer('peer44', 44);
  await hasRoute(one, '10.244.44.0/24');
  // A backup is hours old. Its versions are behind, whatever the API server writes when it starts.
  const items = Array.from({ length: 400 }, (_, i) => ({
    apiVersion: 'v1',
    kind: 'ConfigMap',
    metadata: { name: `filler-${i}`, namespace: 'default' },
  }));
  kube.kubectl(['create', '-f', '-'], JSON.stringify({ apiVersion: 'v1', kind: 'List', items }));
  addPeer('peer46', 46);
  await hasRoute(one, '10.244.46.0/24');
  await kube.restore();
  await kube.startAgain();
  await told(one, /Kubernetes has lost leases, those of peer4\d, peer4\d;/);
  for (const lost of ['10.244.44.0/24', '10.244.46.0/24']) await hasRoute(one, lost);
  addPeer('peer45', 45);
  await hasRoute(one, '10.244.45.0/24');
});

test('a new token in the file is read, without a restart', async () => {
  const { kube } = cluster();
  const [, two] = hosts();
  await two.weftd!.stop();
  const tokenFile = join(two.folder, 'token');
  const kubeconfig = join(two.folder, 'kubeconfig.yaml');
  writeFileSync(tokenFile, 'weft-token\n');
  writeFileSync(
    kubeconfig,
    `apiVersion: v1
kind: Config
current-context: here
contexts: [{name: here, context: {cluster: lab, user: weft}}]
clusters:
- name: lab
  cluster: {server: "${kube.url}", certificate-authority: "${kube.caFile}"}
users:
- name: weft
  user: {tokenFile: token}
`,
  );
  two.startWeftdWith({ environment: quick }, '--kubeconfig-file', kubeconfig);
  await healthy(two);
  kube.writeTokens({ weft: 'new-token' });
  await kube.restartApiserver();
  await told(two, /it does not know the credentials of ".*kubeconfig\.yaml" \(--kubeconfig-file\); renew them/);
  writeFileSync(tokenFile, 'new-token\n');
  await healthy(two);
});

test.run();
