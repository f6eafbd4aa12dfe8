/** Each of the two plugins beside the reference's others: weft-ipam called by ptp and macvlan, weft calling their IPAMs. */

import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { type Site, Sites } from '../conformance/site.ts';
import type { PodSpace } from '../lab/bare-host.ts';
import { readLinks, readRoutes } from '../lab/kernel-state.ts';
import {
  bothFolders,
  type CallOptions,
  type CniDocument,
  callPlugin,
  type Outcome,
  pluginFolder,
} from '../lab/plugin.ts';
import { referenceFolder } from '../lab/project.ts';
import { waitFor } from '../lab/wait.ts';
import { succeeds } from '../support/cni.ts';
import { fixture } from '../support/fixture.ts';

const test = suite('partners');
const sites = fixture(
  test,
  () => new Sites('partners'),
  (made) => made.remove(),
);

const v4 = { subnet: '10.1.2.0/24' };
const v6 = { subnet: 'fd00:1::/64' };
const dual = { ranges: [[v4], [v6]] };

type Configuration = Record<string, unknown>;

function call(
  site: Site,
  pod: PodSpace,
  command: string,
  configuration: Configuration,
  options: CallOptions = {},
): Outcome {
  const { type } = configuration as { type: string };
  return callPlugin('weft', {
    command,
    containerId: pod.id,
    netns: pod.path,
    ifname: 'eth0',
    path: bothFolders,
    namespace: site.namespace,
    executable: join(type === 'weft' ? pluginFolder : referenceFolder, type),
    // The reference's look for iptables.
    environment: { PATH: process.env['PATH'] ?? '' },
    stdin: configuration,
    ...options,
  });
}

/** ADD, a look, CHECK, DEL, DEL again without the namespace. */
function live(site: Site, configuration: Configuration, look: (pod: PodSpace, result: CniDocument) => void): void {
  const pod = site.addPod();
  const result = succeeds(call(site, pod, 'ADD', configuration));
  look(pod, result);
  if (configuration['cniVersion'] !== '0.3.1') {
    succeeds(call(site, pod, 'CHECK', { ...configuration, prevResult: result }));
  }
  succeeds(call(site, pod, 'DEL', { ...configuration, prevResult: result }));
  assert.equal(readLinks(pod.namespace), [], 'no link is left in the container');
  assert.equal(site.reservations(), [], 'no address is left');
  succeeds(call(site, pod, 'DEL', configuration, { netns: '' }));
}

const addressesOf = (result: CniDocument): string[] => result.ips!.map(({ address }) => address);

for (const [name, ipam, cniVersion] of [
  ['IPv4', v4, '1.0.0'],
  ['dual stack', dual, '1.0.0'],
  ['IPv4 at 0.3.1', v4, '0.3.1'],
] as const) {
  const addresses = 'ranges' in ipam ? ['10.1.2.2/24', 'fd00:1::2/64'] : ['10.1.2.2/24'];

  test(`weft-ipam under ptp, ${name}`, () => {
    const site = sites().make();
    const routes = [{ dst: '0.0.0.0/0' }];
    live(site, { cniVersion, name: 'net', type: 'ptp', ipam: site.ipam({ ...ipam, routes }) }, (pod, result) => {
      assert.equal(addressesOf(result), addresses);
      assert.ok(site.pings(pod.namespace, '10.1.2.1'));
    });
  });

  test(`weft-ipam under macvlan, ${name}`, () => {
    const site = sites().make();
    site.ip('link', 'add', 'uplink', 'type', 'veth', 'peer', 'name', 'far');
    site.ip('link', 'set', 'uplink', 'up');
    site.ip('link', 'set', 'far', 'up');
    site.ip('addr', 'add', '10.1.2.1/24', 'dev', 'far');
    const configuration = { cniVersion, name: 'net', type: 'macvlan', master: 'uplink', ipam: site.ipam({ ...ipam }) };
    live(site, configuration, (pod, result) => {
      assert.equal(addressesOf(result), addresses);
      assert.ok(site.pings(pod.namespace, '10.1.2.1'));
    });
  });

  test(`weft-ipam under bridge, ${name}`, () => {
    const site = sites().make();
    const configuration = { cniVersion, name: 'net', type: 'bridge', bridge: 'br0', isDefaultGateway: true };
    live(site, { ...configuration, ipam: site.ipam({ ...ipam }) }, (pod, result) => {
      assert.equal(addressesOf(result), addresses);
      assert.ok(site.pings(pod.namespace, '10.1.2.1'));
    });
  });

  test(`weft with host-local, ${name}`, () => {
    const site = sites().make();
    const section = { type: 'host-local', dataDir: site.dataDir, ...ipam };
    live(site, site.bridge({ cniVersion, isDefaultGateway: true, ipam: section }), (pod, result) => {
      assert.equal(addressesOf(result), addresses);
      assert.equal(site.podLink(pod).addresses, addresses);
      assert.ok(site.pings(pod.namespace, '10.1.2.1'));
    });
  });
}

test('weft with static', () => {
  const site = sites().make();
  const section = {
    type: 'static',
    addresses: [{ address: '10.1.2.7/24', gateway: '10.1.2.1' }, { address: 'fd00:1::7/64' }],
    routes: [{ dst: '192.168.0.0/16', gw: '10.1.2.1' }],
    dns: { nameservers: ['192.0.2.1'] },
  };
  live(site, site.bridge({ isDefaultGateway: true, ipam: section }), (pod, result) => {
    assert.equal(addressesOf(result), ['10.1.2.7/24', 'fd00:1::7/64']);
    assert.equal(result.dns, { nameservers: ['192.0.2.1'] });
    assert.ok(site.pings(pod.namespace, '10.1.2.1'));
    assert.ok(readRoutes(pod.namespace).some(({ destination }) => destination === '192.168.0.0/16'));
  });
});

test('weft with static, addresses by CNI_ARGS', () => {
  const site = sites().make();
  const pod = site.addPod();
  const configuration = site.bridge({ isGateway: true, ipam: { type: 'static' } });
  const result = succeeds(
    call(site, pod, 'ADD', configuration, { args: 'IP=10.1.2.9/24;GATEWAY=10.1.2.1;IgnoreUnknown=1' }),
  );
  assert.equal(addressesOf(result), ['10.1.2.9/24']);
  assert.equal(site.link('br0').addresses, ['10.1.2.1/24']);
  succeeds(call(site, pod, 'DEL', configuration));
});

// The reference's bridge plugin shows that the server answers.
for (const type of ['bridge', 'weft']) {
  test(`${type} with dhcp`, async () => {
    const site = sites().make();
    site.ip('link', 'add', 'br0', 'type', 'bridge');
    site.ip('addr', 'add', '10.1.2.1/24', 'dev', 'br0');
    site.ip('link', 'set', 'br0', 'up');
    const socket = join(site.folder, 'dhcp.sock');
    const leases = join(site.folder, 'leases');
    writeFileSync(leases, '');
    const serverFile = join(site.folder, 'udhcpd.conf');
    writeFileSync(
      serverFile,
      [
        'start 10.1.2.100',
        'end 10.1.2.110',
        'interface br0',
        `lease_file ${leases}`,
        `pidfile ${join(site.folder, 'udhcpd.pid')}`,
        'option subnet 255.255.255.0',
        'option router 10.1.2.1',
        'option lease 600',
        '',
      ].join('\n'),
    );
    mkdirSync(site.dataDir, { recursive: true });
    const { namespace, scratch } = site;
    scratch.start(['busybox', 'udhcpd', '-f', '-I', '10.1.2.1', serverFile], {
      namespace,
      logFile: join(site.folder, 'udhcpd.log'),
    });
    const daemon = scratch.start([join(referenceFolder, 'dhcp'), 'daemon', '-socketpath', socket], {
      namespace,
      logFile: join(site.folder, 'dhcp.log'),
    });
    await waitFor('the DHCP daemon', () => {
      assert.ok(daemon.alive);
      return existsSync(socket);
    });
    const configuration = site.bridge({ type, isGateway: true, ipam: { type: 'dhcp', daemonSocketPath: socket } });
    live(site, configuration, (pod, result) => {
      assert.match(addressesOf(result)[0]!, /^10\.1\.2\.1\d\d\/24$/);
      assert.equal(site.podLink(pod).addresses, addressesOf(result));
      assert.ok(site.pings(pod.namespace, '10.1.2.1'));
    });
  });
}

test.run();
