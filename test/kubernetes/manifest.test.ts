/**
 * examples/kubernetes/weft.yaml: the API server takes every object as it is, the policy confines a weftd to its own Node, and
 * a right that is missing is named with the rule that grants it.
 * @long
 */

import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import type { Finished } from '../lab/commands.ts';
import { annotationPrefix, KubeCluster, type KubeHost } from '../lab/kube-cluster.ts';
import { addWeftPod, annotateStatus, manifestFolder, manifestPath, readObjects } from '../lab/kube-objects.ts';
import { waitFor } from '../lab/wait.ts';
import { fixture } from '../support/fixture.ts';

const test = suite('kubernetes: manifest');

const config = '{"Network": "10.244.0.0/16", "Backend": {"Type": "vxlan"}}';
const manifest = readFileSync(manifestPath, 'utf8');
const quick = { ...process.env, WEFTD_TEST_KUBE_SILENCE_MS: '6000' } as Record<string, string>;

const cluster = fixture(
  test,
  async () => {
    const made = new KubeCluster('manifest', { hosts: 1, config });
    try {
      await made.kube.start();
      // What the lab gives to every weft; here the manifest has to be enough.
      made.kube.kubectl(['delete', 'clusterrole/weft', 'clusterrolebinding/weft']);
      // kubectl reads before it writes; weftd does not.
      const read = ['clusterrole', 'reader', '--verb=get', '--resource=nodes/status'];
      made.kube.kubectl(['create', ...read]);
      made.kube.kubectl([
        'create',
        'clusterrolebinding',
        'reader',
        '--clusterrole=reader',
        '--group=system:serviceaccounts',
      ]);
      made.addHost();
      return made;
    } catch (error) {
      made.remove();
      throw error;
    }
  },
  (made) => made.remove(),
);

const patient = { deadlineMs: 60_000 };

const theHost = (): KubeHost => cluster().hosts[0]!;

test('the API server takes each object of weft.yaml, by a dry run and in earnest, without a warning', () => {
  const { kube } = cluster();
  const [namespace, ...others] = readObjects();
  assert.is(namespace!.kind, 'Namespace');
  const strictly = ['apply', '--warnings-as-errors', '--validate=strict', '-f', '-'];
  kube.kubectl(strictly, JSON.stringify(namespace));
  for (const each of others) {
    const answer = kube.kubectl([...strictly, '--dry-run=server'], JSON.stringify(each));
    assert.match(answer, /created \(server dry run\)/, each.kind);
  }
  // The whole text, comments and all.
  kube.kubectl(strictly, manifest);
  assert.not.match(kube.kubectl(strictly, manifest), /created|configured/, 'a second time there is nothing to do');
  const removal = readFileSync(join(manifestFolder, 'remove.yaml'), 'utf8');
  assert.match(kube.kubectl([...strictly, '--dry-run=server'], removal), /daemonset\.apps\/weft-remove created/);
});

const annotateAs = (kubeconfig: string, node: string, address: string, ...more: string[]): Finished =>
  annotateStatus(cluster().kube, kubeconfig, node, address, ...more);

const isWell = (): Promise<unknown> =>
  theHost().waitForStatus(
    'weftd to be well',
    ({ state, problems }) => state === 'running' && problems.length === 0,
    patient,
  );

test("weftd with its pod's token does its work, and may change no other Node", async () => {
  const { kube } = cluster();
  const host = theHost();
  kube.addNode('host1', ['10.244.1.0/24']);
  kube.addNode('victim', ['10.244.2.0/24'], { [`${annotationPrefix}public-ip`]: '192.168.77.2' });
  const kubeconfig = addWeftPod(kube, 'weft', 'host1');
  host.kubeconfig = kubeconfig;
  // A new policy is in force after a moment.
  const refusal = await waitFor(
    'the policy to be in force',
    () => {
      const { status, stderr } = annotateAs(kubeconfig, 'victim', '9.9.9.9', '--dry-run=server');
      return status !== 0 && stderr.includes('weft-own-node') && stderr;
    },
    patient,
  );
  assert.match(refusal, /denied request: weft may change the Node that it runs on only, which is "host1"/);
  assert.is(kube.annotations('victim')[`${annotationPrefix}public-ip`], '192.168.77.2');
  const eventOf = (node: string): Finished => {
    const event = {
      apiVersion: 'v1',
      kind: 'Event',
      metadata: { name: `${node}.1`, namespace: 'default' },
      involvedObject: { kind: 'Node', name: node },
      message: 'x',
    };
    return kube.kubectlAs(kubeconfig, ['create', '--dry-run=server', '-f', '-'], JSON.stringify(event));
  };
  assert.match(eventOf('victim').stderr, /denied request: weft may create events of the Node that it runs on only/);
  assert.is(eventOf('host1').status, 0, eventOf('host1').stderr);
  host.startWeftdWith({ environment: quick });
  await isWell();
  assert.is(host.annotations['public-ip'], host.address);
});

test('a token that names no Node may change none', () => {
  const { kube } = cluster();
  const path = join(kube.folder, 'unbound.kubeconfig');
  writeFileSync(path, kube.kubeconfigText(kube.kubectl(['create', 'token', '-n', 'weft', 'weft']).trim()));
  const { stderr } = annotateAs(path, 'host1', '9.9.9.9');
  assert.match(stderr, /denied request: weft may change the Node that it runs on only/);
});

test("a weftd that takes another Node for its own is told by the policy's words", async () => {
  const stranger = cluster().addHost();
  cluster().kube.addNode('host2', ['10.244.3.0/24']);
  stranger.kubeconfig = theHost().kubeconfig;
  stranger.startWeftdWith({ environment: quick });
  const problem = await stranger.waitForStatus(
    'the problem',
    ({ problems }) => problems.find((line) => line.includes('weft-own-node')),
    patient,
  );
  assert.match(
    problem,
    /^Cannot write the annotations of the Node "host2": the API server \S+ refuses: .*weft may change the Node that it runs on only, which is "host1"/,
  );
  await stranger.weftd!.stop();
});

interface Rule {
  readonly apiGroups: readonly string[];
  readonly resources: readonly string[];
  readonly verbs: readonly string[];
}

const role = readObjects().find(({ kind }) => kind === 'ClusterRole')!;
const rules = role['rules'] as readonly Rule[];

/** Gives the rights of weft.yaml, without this one. */
async function grantWithout(resource?: string, verb?: string): Promise<void> {
  const { kube } = cluster();
  const left = rules.map((rule) => ({
    ...rule,
    verbs: rule.verbs.filter((each) => !(rule.resources.includes(resource ?? '') && each === verb)),
  }));
  kube.kubectl(
    ['replace', '-f', '-'],
    JSON.stringify({ ...role, rules: left.filter(({ verbs }) => verbs.length > 0) }),
  );
  // The API server follows its own rules after a moment.
  for (const rule of rules) {
    for (const each of rule.verbs) {
      const may = rule.resources.includes(resource ?? '') && each === verb ? 'no' : 'yes';
      const [name, subresource] = rule.resources[0]!.split('/');
      const question = ['auth', 'can-i', each, name!, ...(subresource ? [`--subresource=${subresource}`] : [])];
      const asked = [...question, '--as=system:serviceaccount:weft:weft', '-A'];
      await waitFor(`${each} ${name}: ${may}`, () => kube.ask(asked).stdout.trim() === may, patient);
    }
  }
}

const lacks = (resource: string, verb: string): string =>
  `refuses: user "system:serviceaccount:weft:weft" lacks a right; add this rule to a ClusterRole that is bound to it: {apiGroups: [""], resources: ["${resource}"], verbs: ["${verb}"]}`;

const told = (text: string): Promise<string> =>
  theHost().waitForStatus(text, ({ problems }) => problems.find((line) => line.includes(text)), patient);

/** What weftd has to do for the right to be needed, by resource and verb. */
const needs: Readonly<Record<string, () => void | Promise<void>>> = {
  'nodes get': () =>
    cluster().kube.addNode('peer', ['10.244.9.0/24'], {
      [`${annotationPrefix}backend-data`]: '{"VNI":1,"VtepMAC":"02:00:00:00:00:09"}',
      [`${annotationPrefix}backend-type`]: 'vxlan',
      [`${annotationPrefix}kube-subnet-manager`]: 'true',
      [`${annotationPrefix}public-ip`]: '192.168.77.9',
    }),
  'nodes list': () => restart(),
  'nodes watch': () => restart(),
  'nodes/status patch': () => theHost().annotate({ 'public-ip': '9.9.9.9' }),
};

async function restart(): Promise<void> {
  await theHost().weftd!.stop();
  theHost().startWeftdWith({ environment: quick });
}

for (const { resources, verbs } of rules) {
  for (const verb of verbs) {
    const resource = resources[0]!;
    const act = needs[`${resource} ${verb}`];
    if (!act) continue;
    test(`without the right to ${verb} ${resource}, weftd names the rule, and works once it is there`, async () => {
      await grantWithout(resource, verb);
      await act();
      const problem = await told(lacks(resource, verb));
      assert.ok(problem.startsWith('Cannot '), problem);
      await grantWithout();
      await isWell();
    });
  }
}

test('without the right to create events, weftd says so once, and works', async () => {
  const host = theHost();
  await grantWithout('events', 'create');
  host.writeConfig('{"Network": "10.244.0.0/99"}');
  const line = `${lacks('events', 'create')}; problems of this node are not shown as events`;
  await waitFor('the line', () => host.log.includes(line), { deadlineMs: 90_000, intervalMs: 200 });
  host.writeConfig(config);
  await isWell();
  await grantWithout();
});

test('every right of weft.yaml is taken away by a test', () => {
  const all = rules.flatMap(({ resources, verbs }) => verbs.map((verb) => `${resources[0]} ${verb}`));
  assert.equal(
    all.filter((right) => !(right in needs)),
    ['events create'],
  );
});

test.run();
