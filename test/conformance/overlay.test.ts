import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import * as assert from 'uvu/assert';
import { readRoutes } from '../lab/kernel-state.ts';
import { fails, succeeds } from '../support/cni.ts';
import { fixture } from '../support/fixture.ts';
import { conformance } from './rows.ts';
import { Sites } from './site.ts';

const { before, after, test, run } = conformance('overlay');
const sites = fixture(
  { before, after },
  () => new Sites('overlay'),
  (made) => made.remove(),
);

test('the shortest configuration suffices: everything else is in node.json', () => {
  const site = sites().make();
  site.writeNodeFile();
  const pod = site.addPod();
  const result = site.add(pod, site.overlay());
  assert.equal(result.ips, [{ interface: 2, address: '10.96.7.2/24', gateway: '10.96.7.1' }]);
  assert.is(result.interfaces?.[0]?.name, 'cni0');
  assert.equal(site.link('cni0').addresses, ['10.96.7.1/24']);
  assert.is(site.podLink(pod).mtu, 1450);
  assert.is(site.link(result.interfaces![1]!.name).mtu, 1450);
  assert.is(site.link(result.interfaces![1]!.name).port['hairpin'], true);
  const routes = readRoutes(pod.namespace).map(({ destination, gateway }) => `${destination} ${gateway ?? '-'}`);
  assert.ok(routes.includes('default 10.96.7.1'), routes.join());
  succeeds(site.check(pod, site.overlay(), result));
  site.delete(pod, { ...site.overlay(), prevResult: result });
  assert.equal(site.reservations('weft'), []);
});

test("without node.json, flannel's subnet.env is used", () => {
  const site = sites().make();
  site.writeSubnetEnv();
  const pod = site.addPod();
  const result = site.add(pod, site.overlay());
  assert.equal(result.ips, [{ interface: 2, address: '10.97.3.2/24', gateway: '10.97.3.1' }]);
  assert.is(site.podLink(pod).mtu, 1400);
});

test('node.json is used if both files exist', () => {
  const site = sites().make();
  site.writeSubnetEnv();
  site.writeNodeFile();
  assert.is(site.add(site.addPod(), site.overlay()).ips?.[0]?.address, '10.96.7.2/24');
});

test('with neither file, ADD answers "try again" and names the missing files', () => {
  const site = sites().make();
  const pod = site.addPod();
  const document = site.refuses(() => site.weft('ADD', pod, site.overlay()), 11);
  for (const word of [join(site.runDir, 'node.json'), site.subnetFile, 'weftd']) {
    assert.ok(document.msg?.includes(word), `${word} in ${document.msg}`);
  }
  fails(site.call('weft', { command: 'STATUS', stdin: site.overlay() }), [11, 50]);
});

test('the error for a damaged node.json names the file and what is wrong in it', () => {
  for (const [text, problem] of [
    ['{', /JSON/],
    ['{"version":1,"node":"a","networks":[],"subnets":["10.96.7.0/33"],"mtu":1450}', /10\.96\.7\.0\/33/],
    ['{"version":1,"node":"a","networks":[],"subnets":["10.96.7.0/24"],"mtu":"x"}', /MTU/],
  ] as const) {
    const site = sites().make();
    writeFileSync(join(site.runDir, 'node.json'), text);
    const pod = site.addPod();
    const document = site.refuses(() => site.weft('ADD', pod, site.overlay()), [5, 7, 11]);
    assert.match(`${document.msg} ${document.details}`, /node\.json/);
    assert.match(`${document.msg} ${document.details}`, problem);
  }
});

test('long runs of blanks in subnet.env cost no time', () => {
  const site = sites().make();
  site.writeSubnetEnv();
  const blanks = ' '.repeat(400_000);
  const lines = [`FLANNEL_NOTE=x${blanks}x`, `${blanks}x`, `${blanks}FLANNEL_OTHER = x`];
  writeFileSync(site.subnetFile, `${lines.join('\n')}\n${readFileSync(site.subnetFile, 'utf8')}`);
  const pod = site.addPod();
  // By an expression whose cost grows with the square it would take minutes.
  const limited = { through: ['timeout', '10'] };
  assert.is(site.add(pod, site.overlay(), limited).ips?.[0]?.address, '10.97.3.2/24');
  site.delete(pod, site.overlay(), limited);
});

test('DEL needs neither file', () => {
  const site = sites().make();
  site.writeNodeFile();
  const pod = site.addPod();
  site.add(pod, site.overlay());
  writeFileSync(join(site.runDir, 'node.json'), '{');
  site.delete(pod, site.overlay());
  assert.equal(site.reservations('weft'), []);
});

test('an overlay of both families gives an address of each', () => {
  const site = sites().make();
  site.writeNodeFile({ networks: ['10.96.0.0/16', 'fd00:96::/48'], subnets: ['10.96.7.0/24', 'fd00:96:0:7::/64'] });
  const [podA, podB] = site.addPods(2);
  const result = site.add(podA!, site.overlay());
  assert.equal(
    result.ips?.map(({ address, gateway }) => [address, gateway]),
    [
      ['10.96.7.2/24', '10.96.7.1'],
      ['fd00:96:0:7::2/64', 'fd00:96:0:7::1'],
    ],
  );
  site.add(podB!, site.overlay());
  assert.ok(site.pings(podB!.namespace, '10.96.7.2'));
  assert.ok(site.pings(podB!.namespace, 'fd00:96:0:7::2'));
});

test('a node’s further subnet is used when the first is full', () => {
  const site = sites().make();
  site.writeNodeFile({ subnets: ['10.96.7.0/30', '10.96.9.0/24'] });
  const addresses = site.addPods(3).map((pod) => site.add(pod, site.overlay()).ips?.[0]?.address);
  assert.equal(addresses, ['10.96.7.2/30', '10.96.9.2/24', '10.96.9.3/24']);
});

test("keys of bridge and host-local override the overlay's defaults", () => {
  const site = sites().make();
  site.writeNodeFile();
  const pod = site.addPod();
  const result = site.add(pod, site.overlay({ bridge: 'weft7', mtu: 1300, hairpinMode: false }));
  assert.is(result.interfaces?.[0]?.name, 'weft7');
  assert.is(site.podLink(pod).mtu, 1300);
  assert.is(site.link(result.interfaces![1]!.name).port['hairpin'], false);
});

test('ADD works at every version of the protocol', () => {
  const site = sites().make();
  site.writeNodeFile();
  for (const cniVersion of [undefined, '0.2.0', '0.3.1', '0.4.0', '1.0.0']) {
    const pod = site.addPod();
    const configuration = site.overlay({ cniVersion });
    assert.is(site.add(pod, configuration).cniVersion, cniVersion ?? '0.1.0');
    site.delete(pod, configuration);
  }
  assert.equal(site.reservations('weft'), []);
});

run();
