/**
 * The plugins on Debian's stock kernel, which most nodes run. Before Linux 6.8 a query of a link does not update its
 * operational state, so here ADD has to wait for the kernel's event.
 */

import { readFileSync } from 'node:fs';
import { release } from 'node:os';
import { join } from 'node:path';
import * as assert from 'uvu/assert';
import { conformance } from '../conformance/rows.ts';
import { Sites } from '../conformance/site.ts';
import { describeNamespace, readLinks } from '../lab/kernel-state.ts';
import { succeeds } from '../support/cni.ts';
import { fixture } from '../support/fixture.ts';

const { before, after, test, run } = conformance('guest/plugins');
const sites = fixture(
  { before, after },
  () => new Sites('gp'),
  (made) => made.remove(),
);

const families = {
  IPv4: { subnets: ['10.96.7.0/24'], addresses: ['10.96.7.2/24', '10.96.7.3/24'] },
  IPv6: { subnets: ['fd00:96:0:7::/64'], addresses: ['fd00:96:0:7::2/64', 'fd00:96:0:7::3/64'] },
  'both families': {
    subnets: ['10.96.7.0/24', 'fd00:96:0:7::/64'],
    addresses: ['10.96.7.2/24', 'fd00:96:0:7::2/64', '10.96.7.3/24', 'fd00:96:0:7::3/64'],
  },
};

for (const kind of ['overlay', 'bridge'] as const) {
  for (const [family, { subnets, addresses }] of Object.entries(families)) {
    test(`${kind}, ${family}: ADD, CHECK and DEL of two pods that reach each other`, () => {
      const site = sites().make();
      site.writeNodeFile({ networks: [], subnets });
      const configuration =
        kind === 'overlay'
          ? site.overlay()
          : site.bridge(
              { cniVersion: '1.1.0', isDefaultGateway: true },
              { ranges: subnets.map((subnet) => [{ subnet }]) },
            );
      const [here, there] = site.addPods(2) as [(typeof site.pods)[0], (typeof site.pods)[0]];
      const before = describeNamespace(here.namespace);
      const results = [here, there].map((pod) => site.add(pod, configuration));
      assert.equal(
        results.flatMap(({ ips = [] }) => ips.map(({ address }) => address)),
        addresses,
      );
      for (const { address, gateway } of results[0]!.ips!) {
        assert.ok(site.pings(there.namespace, address.split('/')[0]!), `${address} answers`);
        assert.ok(site.pings(there.namespace, gateway!), `${gateway} answers`);
      }
      for (const [i, pod] of [here, there].entries()) succeeds(site.check(pod, configuration, results[i]));
      for (const [i, pod] of [here, there].entries()) site.delete(pod, { ...configuration, prevResult: results[i] });
      assert.equal(site.reservations(String(configuration['name'])), []);
      assert.equal(
        readLinks(site.namespace).map(({ kind }) => kind),
        ['bridge'],
      );
      assert.equal(describeNamespace(here.namespace), before);
    });
  }
}

test('ADD waits for the link: it sets addresses after the kernel has reported the link up', () => {
  const site = sites().make();
  const pod = site.addPod();
  const trace = join(site.folder, 'trace');
  // The guest has one processor, and this priority is above that of the kernel's own workers: they get to the carrier of
  // the new link when ADD sleeps, not before.
  const through = ['chrt', '--fifo', '50', 'strace', '-qq', '-e', 'trace=poll,ppoll', '-o', trace];
  site.add(pod, site.bridge({ isGateway: true }), { through });
  const waits = readFileSync(trace, 'utf8')
    .split('\n')
    // That for no time is a program's look at its standard streams, as it starts.
    .filter((line) => /poll\(/.test(line) && !/, 0\) = /.test(line));
  for (const line of waits) assert.match(line, / = 1 \(/, 'it waits no longer than for the event');
  const [major, minor] = release().split('.').map(Number) as [number, number];
  if (major < 6 || (major === 6 && minor < 8)) assert.ok(waits.length > 0, `Linux ${release()} has it wait`);
  assert.is(site.podLink(pod).addresses.length, 1);
});

test('ten ADDs at once give ten addresses, ten DELs at once leave nothing', async () => {
  const site = sites().make();
  site.writeNodeFile();
  const pods = site.addPods(10);
  const added = await Promise.all(pods.map((pod) => site.weftAsync('ADD', pod, site.overlay())));
  const addresses = added.map((outcome) => succeeds(outcome).ips![0]!.address);
  assert.is(new Set(addresses).size, 10);
  assert.is(readLinks(site.namespace).filter(({ master }) => master === 'cni0').length, 10);
  assert.ok(site.pings(pods[9]!.namespace, addresses[0]!.split('/')[0]!));
  const deleted = await Promise.all(pods.map((pod) => site.weftAsync('DEL', pod, site.overlay())));
  for (const outcome of deleted) succeeds(outcome);
  assert.equal(site.reservations('weft'), []);
  assert.equal(
    readLinks(site.namespace).map(({ name }) => name),
    ['cni0'],
  );
});

run();
