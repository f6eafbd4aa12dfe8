import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { settingChecks } from '../../../../cli/doctor/checks/settings.ts';
import type { HostFinding } from '../../../../cli/doctor/host-check.ts';
import type { HostView } from '../../../../cli/doctor/host-view.ts';
import { parsePrefix } from '../../../../net/prefix.ts';

/** A host with these kernel settings, so many peers, and so many containers. */
function hostWith(settings: Readonly<Record<string, string>>, peers = 0, containers = 0): HostView {
  return {
    sysctl: (...path: string[]) => settings[path.join('.')],
    status: async () => ({ peers: new Array(peers) }),
    attachments: () => new Array(containers).fill({ host: { name: 'veth' } }),
    networks: [parsePrefix('10.244.0.0/16')],
    sys: { stat: (path: string) => (path === '/var/lib/kubelet/pods' && settings['kubelet'] ? {} : -2) },
  } as unknown as HostView;
}

async function find(code: string, host: HostView): Promise<HostFinding | undefined> {
  const check = settingChecks.find((each) => each.code === code);
  return (await check!.find(host, new AbortController().signal))[0];
}

test('a table of neighbours that peers and containers fill is found, and one with room is not', async () => {
  const limit = { 'net.ipv4.neigh.default.gc_thresh3': '1024' };
  const found = await find('neighbour-table', hostWith(limit, 900, 100));
  assert.is(found?.what, 'The kernel keeps 1024 neighbours of IPv4, and this host has 1000 peers and containers');
  assert.is(
    found?.command,
    'sysctl -w net.ipv4.neigh.default.gc_thresh3=4096 && sysctl -w net.ipv4.neigh.default.gc_thresh2=2048',
  );
  assert.is(await find('neighbour-table', hostWith(limit, 700, 100)), undefined);
  // A network namespace that is not the machine's has no such setting.
  assert.is(await find('neighbour-table', hostWith({}, 900, 100)), undefined);
});

test('a table of connections that is nearly full is found', async () => {
  const table = (count: string) => ({
    'net.netfilter.nf_conntrack_count': count,
    'net.netfilter.nf_conntrack_max': '1000',
  });
  assert.is(
    (await find('conntrack-full', hostWith(table('950'))))?.command,
    'sysctl -w net.netfilter.nf_conntrack_max=2000',
  );
  assert.is(await find('conntrack-full', hostWith(table('899'))), undefined);
  assert.is(await find('conntrack-full', hostWith({})), undefined);
});

test("packets between a bridge's ports have to pass rules where kubelet runs, and nowhere else", async () => {
  const off = { 'net.bridge.bridge-nf-call-iptables': '0' };
  assert.is(await find('bridge-nf-call', hostWith(off)), undefined);
  const found = await find('bridge-nf-call', hostWith({ ...off, kubelet: 'yes' }));
  assert.is(found?.command, 'sysctl -w net.bridge.bridge-nf-call-iptables=1');
  const missing = await find('bridge-nf-call', hostWith({ kubelet: 'yes' }));
  assert.match(missing?.command ?? '', /^modprobe br_netfilter && sysctl -w/);
});

test.run();
