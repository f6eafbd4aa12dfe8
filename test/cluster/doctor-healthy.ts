/** Set-ups of hosts on which `weftctl doctor` finds nothing, and what each is like. */

import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Family } from '../../net/address.ts';
import { Cluster } from '../lab/cluster.ts';
import { Patient } from '../lab/doctor.ts';
import { exampleConfig } from '../lab/project.ts';

export interface SetUp {
  readonly name: string;
  readonly config?: object;
  readonly families?: readonly Family[];
  /** weftd's further arguments. */
  readonly further?: string;
  /** The gate tries it. */
  readonly inGate?: boolean;
  /** What else is on the host. Its weftd runs, and its peer's. */
  prepare(patient: Patient): void;
}

const attach = ({ host }: Patient): void => void host.attachPods(2);

export const setUps: readonly SetUp[] = [
  {
    name: 'IPv4 and IPv6, masqueraded',
    config: {
      Network: '10.96.0.0/16',
      EnableIPv6: true,
      IPv6Network: 'fd96::/48',
      Backend: { Type: 'vxlan', VNI: 5, Port: 4789 },
    },
    families: [4, 6],
    further: '--ip-masq',
    inGate: true,
    prepare: attach,
  },
  {
    name: 'plain routes (host-gw)',
    config: { Network: '10.96.0.0/16', Backend: { Type: 'host-gw' } },
    further: '--ip-masq',
    prepare: attach,
  },
  {
    name: "Docker alone, whose bridge has the node's subnet, and no CNI configuration",
    prepare({ host, confDir }) {
      rmSync(confDir, { recursive: true });
      host.ip('link', 'add', 'docker0', 'type', 'bridge');
      host.ip('addr', 'add', host.subnet.replace(/\.0\//, '.1/'), 'dev', 'docker0');
      host.ip('link', 'set', 'docker0', 'up');
    },
  },
  {
    name: "a firewall that drops by default, with the rules that Weft's documentation asks for, and Docker's policy",
    inGate: true,
    prepare(patient) {
      patient.host.run(
        'nft',
        'add table inet host; add chain inet host input { type filter hook input priority 0; policy drop; }; ' +
          'add rule inet host input ct state established,related accept; add rule inet host input iifname lo accept; ' +
          'add rule inet host input ip saddr { 192.168.0.0/16, 10.0.0.0/8 } udp dport 8400-8500 accept; add rule inet host input icmp type echo-request accept; ' +
          'add rule inet host input tcp dport { 22, 2379 } accept',
      );
      if (Patient.has('iptables-nft')) patient.host.run('iptables-nft', '-P', 'FORWARD', 'DROP');
      attach(patient);
    },
  },
  {
    name: "flannel's configuration, another network behind it, and routes where neighbours are near (DirectRouting)",
    config: { Network: '10.96.0.0/16', Backend: { Type: 'vxlan', DirectRouting: true } },
    prepare(patient) {
      const { host, confDir, conflist } = patient;
      attach(patient);
      const plugins = [{ type: 'weft', ipam: { type: 'weft-ipam' } }];
      rmSync(conflist);
      writeFileSync(
        join(confDir, '10-flannel.conflist'),
        JSON.stringify({ cniVersion: '1.0.0', name: 'cbr0', plugins }),
      );
      writeFileSync(join(confDir, '87-podman-bridge.conflist'), '{"name":"podman","plugins":[{"type":"bridge"}]}');
      writeFileSync(join(confDir, 'README'), 'notes');
      host.ip('link', 'add', 'lan1', 'type', 'bridge');
      host.ip('addr', 'add', '172.30.0.1/24', 'dev', 'lan1');
      host.ip('link', 'set', 'lan1', 'up');
    },
  },
];

export async function startSetUp({ name, config, families, further = '' }: SetUp, number: number) {
  const cluster = new Cluster(`well${number}`, families ? { families } : {});
  try {
    await cluster.startEtcd();
    cluster.put('config', config ? JSON.stringify(config) : readFileSync(exampleConfig, 'utf8'));
    const [host, other] = [cluster.addHost(), cluster.addHost()];
    const patient = new Patient(host);
    patient.useService({ further });
    patient.startService();
    other.startWeftd(...(further === '' ? [] : [further]));
    for (const each of cluster.hosts) await each.reaches(cluster.hosts);
    return { cluster, patient };
  } catch (error) {
    cluster.remove();
    throw new Error(`Cannot start "${name}"`, { cause: error });
  }
}
