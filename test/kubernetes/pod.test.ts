/**
 * weftd as a pod finds its world: the API server in the environment, a service account's token that is replaced, and the
 * node's name in its own pod.
 * @long
 */

import { copyFileSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { KubeCluster } from '../lab/kube-cluster.ts';
import { MountNamespace } from '../lab/mount-namespace.ts';
import { program } from '../lab/project.ts';
import { waitFor } from '../lab/wait.ts';
import { readStatus } from '../lab/weftd.ts';
import { fixture } from '../support/fixture.ts';

const test = suite('kubernetes: pod');

const cluster = fixture(
  test,
  async () => {
    const config = '{"Network": "10.244.0.0/16", "Backend": {"Type": "vxlan"}}';
    const made = new KubeCluster('pod', { hosts: 1, config });
    try {
      await made.kube.start();
      return made;
    } catch (error) {
      made.remove();
      throw error;
    }
  },
  (made) => made.remove(),
);

test("a service account's new token is used at once", async () => {
  const { kube, scratch } = cluster();
  const host = cluster().addHost();
  kube.addNode(host.name, ['10.244.1.0/24']);
  const account = ['-n', 'kube-system', 'serviceaccount', 'weft'];
  kube.kubectl(['create', ...account]);
  kube.kubectl(['create', 'clusterrolebinding', 'pods', '--clusterrole=weft', '--serviceaccount=kube-system:weft']);
  const mounts = await MountNamespace.open(scratch, 'private');
  mounts.mount('-t', 'tmpfs', 'tmpfs', '/run');
  const folder = join(mounts.root, 'run/secrets/kubernetes.io/serviceaccount');
  mkdirSync(folder, { recursive: true });
  const writeToken = (): string => {
    const token = kube.kubectl(['create', 'token', '-n', 'kube-system', 'weft']);
    writeFileSync(join(folder, 'token'), token);
    return token.trim();
  };
  const first = writeToken();
  copyFileSync(kube.caFile, join(folder, 'ca.crt'));
  const { hostname, port } = new URL(kube.url);
  const environment = {
    PATH: process.env['PATH'] ?? '',
    KUBERNETES_SERVICE_HOST: hostname,
    KUBERNETES_SERVICE_PORT: port,
    POD_NAME: 'weft-x',
    POD_NAMESPACE: 'kube-system',
  };
  const { runDir, stateDir, subnetFile, dataDir } = host.files;
  const folders = [
    '--run-dir',
    runDir,
    '--state-dir',
    stateDir,
    '--subnet-file',
    subnetFile,
    '--cni-data-dir',
    dataDir,
  ];
  const options = ['--kube-subnet-mgr', ...folders, '--net-config-path', host.netConfPath, '--log-format', 'text'];
  const argv = [...mounts.enter(host.namespace), program('weftd'), ...options];
  const containers = [{ name: 'weftd', image: 'weft' }];
  const spec = { nodeName: host.name, serviceAccountName: 'weft', containers };
  const pod = { apiVersion: 'v1', kind: 'Pod', metadata: { name: 'weft-x', namespace: 'kube-system' }, spec };
  kube.kubectl(['create', '-f', '-'], JSON.stringify(pod));
  const service = scratch.start(argv, { logFile: host.logFile, environment });
  assert.is(await service.exited, 1, 'the right to read its pod is missing');
  assert.match(
    host.log,
    /Cannot find the name of this host's Node: .* user "system:serviceaccount:kube-system:weft" lacks a right; .*resources: \["pods"\], verbs: \["get"\]\}; give it by --node or NODE_NAME/,
  );
  kube.kubectl(['create', 'clusterrole', 'pods', '--verb=get', '--resource=pods']);
  kube.kubectl(['create', 'clusterrolebinding', 'own', '--clusterrole=pods', '--serviceaccount=kube-system:weft']);
  scratch.start(argv, { logFile: host.logFile, environment });

  const isWell = (): Promise<boolean> =>
    waitFor('weftd to be well', async () => {
      const { state, problems } = await readStatus(runDir);
      return state === 'running' && problems.length === 0;
    });
  await isWell();
  assert.is(host.annotations['public-ip'], host.address);

  // A token of a service account that was made anew is no longer good.
  kube.kubectl(['delete', ...account]);
  kube.kubectl(['create', ...account]);
  // The API server remembers for some seconds that it was.
  await waitFor('the end of the first token', () => !kube.try(['--token', first, 'get', '--raw', '/api/v1/nodes']), {
    deadlineMs: 60_000,
    intervalMs: 200,
  });
  host.annotate({ 'public-ip': '9.9.9.9' });
  const problem = await waitFor('the problem', async () =>
    (await readStatus(runDir)).problems.find((line) => line.includes('refuses')),
  );
  assert.match(
    problem,
    /^Cannot write the annotations of the Node "host1": the API server https:\/\/192\.168\.77\.1:6443 refuses: it does not know the credentials of the pod's service account; renew them/,
  );
  writeToken();
  await waitFor('the annotation', () => host.annotations['public-ip'] === host.address, { deadlineMs: 30_000 });
  await isWell();
});

test.run();
