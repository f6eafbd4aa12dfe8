/** Whether packets reach the peers: weftd's own questions, and doctor's. */

import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { type Cluster, startCluster } from '../lab/cluster.ts';
import { type DoctorFinding, Patient } from '../lab/doctor.ts';
import type { Host } from '../lab/host.ts';
import { waitFor } from '../lab/wait.ts';
import { fixture } from '../support/fixture.ts';

/** Hosts whose weftd asks the peers each second. */
async function start(): Promise<Cluster> {
  process.env['WEFTD_TEST_PROBE_MS'] = '1000';
  try {
    return await startCluster('paths', { hosts: 3 });
  } finally {
    delete process.env['WEFTD_TEST_PROBE_MS'];
  }
}

const patients = new Map<Host, Patient>();
function patientOf(host: Host): Patient {
  const known = patients.get(host) ?? new Patient(host);
  patients.set(host, known);
  return known;
}

const findingOf = (host: Host, code: string): Promise<DoctorFinding> =>
  waitFor(code, () =>
    patientOf(host)
      .examine()
      .findings.find((each) => each.code === code),
  );

const isWell = (host: Host): Promise<unknown> =>
  waitFor(`${host.name} to be well`, () => {
    const { findings, failed } = patientOf(host).examine();
    if (findings.length + failed.length > 0) throw new Error(JSON.stringify([...findings, ...failed]));
    return true;
  });

const knows = (host: Host, asked: number, silent: readonly string[]): Promise<unknown> =>
  host.waitForStatus(`${silent.join()} to be silent`, ({ paths }) => {
    const names = paths?.list.map(({ node }) => node);
    return paths?.asked === asked && JSON.stringify(names) === JSON.stringify(silent);
  });

/** @param all false: what the gate tries */
export function testPaths(name: string, all: boolean): ReturnType<typeof suite> {
  const test = suite(name);
  const cluster = fixture(test, start, (made) => made.remove());

  test('a firewall that drops the tunnel at a peer is seen from here, and repaired there', async () => {
    const [one, two] = cluster().hosts as [Host, Host];
    await knows(one, 2, []);
    assert.match(one.weftctl('status').stdout, /^ {2}Paths +all 2 peers answer$/m);
    await isWell(one);
    two.run(
      'nft',
      'add table inet host; add chain inet host input { type filter hook input priority 0; policy drop; }; ' +
        'add rule inet host input ct state established,related accept; add rule inet host input iifname lo accept; ' +
        'add rule inet host input icmp type echo-request accept; add rule inet host input tcp dport 2379 accept',
    );
    await knows(one, 2, ['host2']);
    assert.match(one.weftctl('status').stdout, /^ {2}Paths +1 of 2 peers silent: host2 for \d+ s; weftctl doctor$/m);
    const argv = ['curl', '--silent', '--unix-socket', join(one.runDir, 'weftd.sock'), 'http://weftd/metrics'];
    assert.match(one.run(...argv), /^weftd_peers_silent 1$/m);
    const seen = await findingOf(one, 'peer-silent');
    assert.match(
      seen.what,
      /^"host2" does not answer through the tunnel, and its public address [\d.]+ does: something drops UDP port 8472/,
    );
    const cause = await findingOf(two, 'tunnel-port');
    assert.is(cause.command, 'nft insert rule inet host input udp dport 8472 accept');
    assert.is(patientOf(two).shell(cause.command!).status, 0);
    await knows(one, 2, []);
    await isWell(one);
    await isWell(two);
  });

  test('without CAP_NET_RAW, weftd asks where the kernel lets its group, and says so where not', async () => {
    const [, , three] = cluster().hosts as [Host, Host, Host];
    await three.weftd!.stop();
    process.env['WEFTD_TEST_PROBE_MS'] = '1000';
    try {
      three.startWeftdWith({ through: ['setpriv', '--bounding-set', '-net_raw', '--inh-caps', '-net_raw'] });
    } finally {
      delete process.env['WEFTD_TEST_PROBE_MS'];
    }
    const why = await three.waitForStatus('a reason', ({ paths }) => paths?.unavailable);
    assert.match(why, /^Cannot open a socket for ICMP: E(ACCES|PERM) \(it needs CAP_NET_RAW/);
    await findingOf(three, 'probe-rights');
    three.run('sysctl', '-qw', 'net.ipv4.ping_group_range=0 0');
    await knows(three, 2, []);
    await isWell(three);
  });

  if (!all) return test;

  test('a network that takes smaller packets than the hosts believe is found, with the size, and the command repairs it', async () => {
    const [one] = cluster().hosts as [Host];
    cluster().underlay.batch('link set host2 mtu 1400');
    try {
      const { what, command } = await findingOf(one, 'peer-mtu');
      // A bridge's port lets a VLAN's four bytes more pass.
      assert.is(what, 'Packets of 1450 bytes to "host2" are lost, and up to 1354 bytes arrive');
      assert.is(command, 'ip link set dev eth0 mtu 1404');
      assert.is(patientOf(one).shell(command!).status, 0);
      await isWell(one);
    } finally {
      cluster().underlay.batch('link set host2 mtu 1500');
      one.ip('link', 'set', 'eth0', 'mtu', '1500');
    }
  });

  test('answers that take another way are found at the host that sends them', async () => {
    const [one, two] = cluster().hosts as [Host, Host];
    two.ip('route', 'add', one.subnet.replace('/24', '/32'), 'via', one.address, 'dev', 'eth0');
    assert.match((await findingOf(one, 'peer-silent')).what, /or the answers take another way$/);
    const { command } = await findingOf(two, 'network-overlap');
    assert.is(patientOf(two).shell(command!).status, 0);
    await isWell(one);
  });

  test('a host that is down is told from a tunnel that is cut', async () => {
    const [one, two] = cluster().hosts as [Host, Host];
    two.ip('link', 'set', 'eth0', 'down');
    assert.match(
      (await findingOf(one, 'peer-silent')).what,
      /nor does its public address [\d.]+: the host is down, or the network is cut$/,
    );
    two.ip('link', 'set', 'eth0', 'up');
    two.ip('route', 'replace', 'default', 'via', cluster().underlay.gateway);
    await isWell(one);
  });

  return test;
}
