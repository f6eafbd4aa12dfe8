/**
 * The kustomization and the Helm chart: by default they have the objects of weft.yaml, and in another namespace the policy
 * still confines weftd to its own Node. kubectl is also kustomize; the chart is tested where `helm` is installed, or named
 * by WEFT_TEST_HELM.
 * @long
 */

import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { execute, type Finished, lookForProgram } from '../lab/commands.ts';
import { KubeCluster } from '../lab/kube-cluster.ts';
import {
  addWeftPod,
  annotateStatus,
  type KubeObject,
  manifestFolder,
  parseObjects,
  readObjects,
} from '../lab/kube-objects.ts';
import { waitFor } from '../lab/wait.ts';
import { fixture } from '../support/fixture.ts';

const test = suite('kubernetes: packaging');

const site = fixture(
  test,
  async () => {
    const made = new KubeCluster('packaging', { hosts: 0, config: '{}' });
    try {
      const { kube } = made;
      await kube.start();
      for (const name of ['own', 'victim']) kube.addNode(name, []);
      // kubectl reads before it writes; weftd does not.
      const read = ['clusterrole', 'reader', '--verb=get', '--resource=nodes/status'];
      kube.kubectl(['create', ...read]);
      kube.kubectl([
        'create',
        'clusterrolebinding',
        'reader',
        '--clusterrole=reader',
        '--group=system:serviceaccounts',
      ]);
      return made;
    } catch (error) {
      made.remove();
      throw error;
    }
  },
  (made) => made.remove(),
);

const nameOf = ({ kind, metadata: { name } }: KubeObject): string => `${kind}/${name}`;

/** By their names, for a comparison. */
const byName = (objects: readonly KubeObject[]): Record<string, KubeObject> =>
  Object.fromEntries(objects.map((each) => [nameOf(each), each]));

/** Applies the objects, and shows that a weftd of this namespace may change its own Node only. */
async function isConfined(namespace: string, objects: string): Promise<void> {
  const { kube } = site();
  const strictly = ['apply', '--warnings-as-errors', '--validate=strict', '-f', '-'];
  kube.try(['create', 'namespace', namespace]);
  kube.kubectl(strictly, objects);
  const kubeconfig = addWeftPod(kube, namespace, 'own');
  const refusal = await waitFor(
    'the policy to be in force',
    () => {
      const { status, stderr } = annotateStatus(kube, kubeconfig, 'victim', '9.9.9.9', '--dry-run=server');
      return status !== 0 && stderr.includes('weft-own-node') && stderr;
    },
    { deadlineMs: 60_000 },
  );
  assert.match(refusal, /denied request: weft may change the Node that it runs on only, which is "own"/);
  const own = annotateStatus(kube, kubeconfig, 'own', '10.0.0.1');
  assert.is(own.status, 0, own.stderr);
  // The next one has to bring its own policy.
  kube.kubectl(['delete', '-f', '-', '--wait=false'], objects);
  await waitFor('the policy to be gone', () => annotateStatus(kube, kubeconfig, 'own', '10.0.0.2').status !== 0, {
    deadlineMs: 60_000,
  });
}

test('the kustomization has the objects of weft.yaml', () => {
  const built = parseObjects(site().kube.kubectl(['kustomize', manifestFolder]));
  assert.equal(byName(built), byName(readObjects()));
});

test('a kustomization with another namespace and image: all follow, the policy, too', async () => {
  const { kube, scratch } = site();
  const folder = scratch.makeFolder('overlay');
  // kustomize takes relative paths only.
  const copied = join(folder, 'base');
  mkdirSync(copied);
  for (const name of ['weft.yaml', 'kustomization.yaml']) {
    writeFileSync(join(copied, name), execute(['cat', join(manifestFolder, name)]).stdout);
  }
  const images = [{ name: 'localhost/weft', newName: 'registry.example/weft', newTag: '9' }];
  writeFileSync(
    join(folder, 'kustomization.yaml'),
    JSON.stringify({ resources: ['base'], namespace: 'network', images }),
  );
  const text = kube.kubectl(['kustomize', folder]);
  const objects = parseObjects(text);
  const namespaces = objects.flatMap(({ metadata }) => metadata.namespace ?? []);
  assert.equal([...new Set(namespaces)], ['network']);
  assert.ok(namespaces.length >= 3);
  assert.ok(objects.some((each) => nameOf(each) === 'Namespace/network'));
  assert.not.ok(text.includes('localhost/weft'));
  assert.is(text.match(/image: registry\.example\/weft:9/g)?.length, 2);
  await isConfined('network', text);
});

const helmPath = process.env['WEFT_TEST_HELM'] ?? lookForProgram('helm');

if (helmPath === undefined) {
  console.log('\n  the chart: not run, for it needs helm (WEFT_TEST_HELM names it)');
} else {
  const chart = join(manifestFolder, 'chart');
  const policies = 'admissionregistration.k8s.io/v1/ValidatingAdmissionPolicy';
  // helm takes itself for an old Kubernetes unless its own build says otherwise.
  const version = ['--kube-version', '1.37.0'];
  const helm = (verb: string, ...words: string[]): Finished =>
    execute([helmPath, verb, ...words, ...(verb === 'template' ? version : [])]);
  const render = (...words: string[]): string => {
    const { status, stdout, stderr } = helm('template', 'weft', chart, '--namespace', 'weft', ...words);
    assert.is(status, 0, stderr);
    return stdout;
  };

  test('helm finds no fault in the chart', () => {
    const { status, stdout, stderr } = helm('lint', '--strict', chart);
    assert.is(status, 0, stdout + stderr);
  });

  test('the chart has the objects of weft.yaml, but for the namespace, which helm makes', () => {
    const made = byName(parseObjects(render('--api-versions', policies)));
    const wanted = byName(readObjects().filter(({ kind }) => kind !== 'Namespace'));
    assert.equal(Object.keys(made).sort(), Object.keys(wanted).sort());
    // Texts of JSON may have other blanks.
    const textsOf = (object: KubeObject): unknown =>
      Object.entries(object['data'] as Record<string, string>).map(([name, text]) => [name, JSON.parse(text)]);
    assert.equal(textsOf(made['ConfigMap/weft']!), textsOf(wanted['ConfigMap/weft']!));
    type Template = { readonly metadata: { annotations?: unknown } };
    const { annotations } = (made['DaemonSet/weft']!['spec'] as { template: Template }).template.metadata;
    assert.match(JSON.stringify(annotations), /^\{"weft\/conflist":"[0-9a-f]{64}"\}$/);
    delete (made['DaemonSet/weft']!['spec'] as { template: Template }).template.metadata.annotations;
    for (const name of Object.keys(wanted)) {
      if (name !== 'ConfigMap/weft') assert.equal(made[name], wanted[name], name);
    }
  });

  test('an older Kubernetes gets no policy; values reach their places', () => {
    assert.not.match(render(), /kind: ValidatingAdmissionPolicy/);
    assert.not.match(render('--api-versions', policies, '--set', 'ownNodePolicy=false'), /ValidatingAdmissionPolicy/);
    const text = render(
      ...['--set', 'apiServer.host=192.0.2.1,ipMasq=false,healthzPort=9,cni.portmap=false'],
      ...['--set-string', 'image.tag=7'],
      ...['--set', 'args[0]=--iface=eth1,netConf.Network=10.9.0.0/16,netConf.Backend.Type=host-gw,cni.networkName=x'],
    );
    assert.is(text.match(/image: "localhost\/weft:7"/g)?.length, 2);
    const objects = byName(parseObjects(text));
    const data = objects['ConfigMap/weft']!['data'] as Record<string, string>;
    assert.equal(JSON.parse(data['net-conf.json']!), { Network: '10.9.0.0/16', Backend: { Type: 'host-gw' } });
    const conflist = JSON.parse(data['10-weft.conflist']!) as { name: string; plugins: { type: string }[] };
    assert.equal([conflist.name, conflist.plugins.map(({ type }) => type)], ['x', ['weft']]);
    const pod = JSON.stringify(objects['DaemonSet/weft']);
    for (const part of ['"--iface=eth1"', '"--healthz-port=9"', '"port":9', '"value":"192.0.2.1"', '"value":"6443"']) {
      assert.ok(pod.includes(part), part);
    }
    assert.not.ok(pod.includes('--ip-masq'));
  });

  test('the schema refuses values that cannot be right', () => {
    for (const [value, complaint] of [
      ['healthzPort=0', /healthzPort/],
      ['netConf.Network=10.244.0.0', /netConf.Network|netConf\/Network/],
      ['netConf.Backend.Type=udp', /Backend/],
      ['unknown=1', /unknown/],
      ['args[0]=iface', /args/],
    ] as const) {
      const { status, stderr } = helm('template', 'weft', chart, '--set', value);
      assert.is.not(status, 0, value);
      assert.match(stderr, complaint);
    }
  });

  test("the chart in another namespace: the policy is for that namespace's weft, too", async () => {
    await isConfined('charted', helm('template', 'w', chart, '-n', 'charted', '--api-versions', policies).stdout);
  });
}

test.run();
