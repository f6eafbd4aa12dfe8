/** Faults of a host, one for each thing that `weftctl doctor` must find, and whether weftd runs meanwhile. */

import { chmodSync, mkdirSync, readFileSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Patient } from '../lab/doctor.ts';
import { waitFor } from '../lab/wait.ts';

export interface Fault {
  /** What happened to the host: the test's name. */
  readonly name: string;
  /** The finding's code, and a part of its subject. */
  readonly code: string;
  readonly subject?: string;
  /** weftd repairs such damage at once: it is for a host whose weftd has stopped. */
  readonly stopped?: boolean;
  /** Programs of the machine that it needs. */
  readonly needs?: readonly string[];
  /** The gate tries it. */
  readonly inGate?: boolean;
  inject(patient: Patient): void | Promise<void>;
  /** What the finding's command does not take back. */
  cleanUp?(patient: Patient): void;
}

const bridge = '{"cniVersion":"1.0.0","name":"other","plugins":[{"type":"bridge"}]}';
const hourAgo = (): number => Date.now() / 1000 - 3600;

/** A file that nobody has touched for an hour. */
function writeOld(path: string, text: string): void {
  mkdirSync(join(path, '..'), { recursive: true });
  writeFileSync(path, text);
  utimesSync(path, hourAgo(), hourAgo());
}

const gatewayOf = (subnet: string): string => subnet.replace(/\.0\//, '.1/');
/** A subnet of the cluster's network that no node has. */
const otherSubnet = (subnet: string, third: number): string => subnet.replace(/\.\d+\.0\/24$/, `.${third}.0/24`);
/** A container's interface on the host. */
const vethOf = ({ host }: Patient): string =>
  (JSON.parse(host.ip('-j', 'link', 'show', 'type', 'veth')) as { ifname: string; ifalias?: string }[]).find(
    ({ ifalias }) => ifalias?.startsWith('weft '),
  )!.ifname;
const tunnelOf = ({ host }: Patient): string =>
  (JSON.parse(host.ip('-j', 'link', 'show', 'type', 'vxlan')) as { ifname: string }[]).find(({ ifname }) =>
    ifname.startsWith('flannel.'),
  )!.ifname;

function changeByte(path: string, at: number, value: number): void {
  const bytes = readFileSync(path);
  bytes[at] = value;
  rmSync(path);
  writeFileSync(path, bytes, { mode: 0o755 });
}

export const faults: readonly Fault[] = [
  {
    name: "the runtime's folder has no configuration of Weft",
    code: 'conflist-missing',
    inject: ({ conflist }) => rmSync(conflist),
  },
  {
    name: "Weft's configuration is cut off",
    inGate: true,
    code: 'conflist-broken',
    inject: ({ conflist }) => writeFileSync(conflist, '{"name":"weft",'),
  },
  {
    name: 'another configuration comes first by name',
    code: 'conflist-order',
    subject: '05-other',
    inject: ({ confDir }) => writeFileSync(join(confDir, '05-other.conflist'), bridge),
  },
  { name: 'a plugin is missing', code: 'plugin-missing', inject: ({ binDir }) => rmSync(join(binDir, 'weft')) },
  {
    name: 'a plugin may not be executed',
    code: 'plugin-not-executable',
    inject: ({ binDir }) => chmodSync(join(binDir, 'weft'), 0o644),
  },
  {
    name: 'a plugin is for another processor',
    inGate: true,
    code: 'plugin-architecture',
    // e_machine: 183 is arm64, 62 x64.
    inject: ({ binDir }) => changeByte(join(binDir, 'weft'), 18, process.arch === 'arm64' ? 62 : 183),
  },
  {
    name: 'a plugin was left behind by an upgrade',
    code: 'plugin-version',
    inject({ binDir }) {
      rmSync(join(binDir, 'weft'));
      writeFileSync(join(binDir, 'weft'), '#!/bin/sh\necho "CNI weft plugin v0.0.1" >&2\n', { mode: 0o755 });
    },
  },
  {
    name: 'subnet.env is empty',
    code: 'node-files',
    inject: ({ host }) => writeFileSync(host.subnetFile, ''),
  },
  {
    name: "the containers' bridge is down",
    code: 'bridge-down',
    inject: ({ host }) => void host.ip('link', 'set', 'cni0', 'down'),
  },
  {
    name: "the host's end of a container's interface is down",
    code: 'container-link',
    inject: (patient) => void patient.host.ip('link', 'set', vethOf(patient), 'down'),
  },
  {
    name: "the host's end of a container's interface has left the bridge",
    inGate: true,
    code: 'container-link',
    inject: (patient) => void patient.host.ip('link', 'set', vethOf(patient), 'nomaster'),
  },
  {
    name: "Docker's bridge has the node's subnet, too",
    inGate: true,
    code: 'subnet-carrier',
    subject: 'docker0',
    inject({ host }) {
      host.ip('link', 'add', 'docker0', 'type', 'bridge');
      host.ip('addr', 'add', gatewayOf(host.subnet), 'dev', 'docker0');
      host.ip('link', 'set', 'docker0', 'up');
    },
    cleanUp: ({ host }) => void host.ip('link', 'del', 'docker0'),
  },
  {
    name: "another program's route leads a part of the cluster's network elsewhere",
    code: 'network-overlap',
    inject: ({ host }) => void host.ip('route', 'add', otherSubnet(host.subnet, 251), 'dev', 'eth0'),
  },
  {
    name: "another interface has an address of the cluster's network",
    code: 'network-overlap',
    inject({ host }) {
      host.ip('link', 'add', 'lan1', 'type', 'bridge');
      host.ip('addr', 'add', gatewayOf(otherSubnet(host.subnet, 252)), 'dev', 'lan1');
      host.ip('link', 'set', 'lan1', 'up');
    },
    cleanUp: ({ host }) => void host.ip('link', 'del', 'lan1'),
  },
  {
    name: 'the bridge has an address of an earlier subnet',
    code: 'stale-address',
    inject: ({ host }) => void host.ip('addr', 'add', gatewayOf(otherSubnet(host.subnet, 253)), 'dev', 'cni0'),
  },
  {
    name: 'Cilium has left its device',
    code: 'leftover-interface',
    subject: 'cilium_vxlan',
    inject: ({ host }) => void host.ip('link', 'add', 'cilium_vxlan', 'type', 'vxlan', 'id', '77', 'dstport', '9999'),
  },
  {
    name: 'an earlier flannel has left a device with another number',
    code: 'leftover-interface',
    subject: 'flannel.4094',
    inject: ({ host }) => void host.ip('link', 'add', 'flannel.4094', 'type', 'vxlan', 'id', '4094', 'dstport', '9998'),
  },
  {
    name: 'Calico has left its rules',
    code: 'leftover-rules',
    needs: ['iptables-nft'],
    inject: ({ host }) => void host.run('iptables-nft', '-N', 'cali-FORWARD'),
  },
  {
    name: 'two networks have reserved one address',
    inGate: true,
    code: 'address-twice',
    inject({ host }) {
      const path = join(host.dataDir, 'cbr0', host.pods[0]!.address);
      mkdirSync(join(path, '..'), { recursive: true });
      writeFileSync(path, 'another\r\neth0');
    },
  },
  {
    name: 'an address is reserved for a container that is gone',
    code: 'reservation-without-container',
    inject: ({ host }) => writeOld(join(host.dataDir, 'weft', host.subnet.replace('.0/24', '.77')), 'gone\r\neth0'),
  },
  {
    name: "flannel's plugin has left a record",
    code: 'flannel-record',
    inject: ({ host }) => writeOld(join(host.folder, 'flannel', 'gone'), '{}'),
  },
  {
    name: "a result of libcni's is empty after a power cut",
    code: 'empty-result',
    inject: ({ results }) => writeOld(join(results, 'weft-gone-eth0'), ''),
  },
  {
    name: "the host's firewall drops the tunnel's packets",
    inGate: true,
    code: 'tunnel-port',
    subject: 'inet host input',
    inject: ({ host }) =>
      void host.run(
        'nft',
        'add table inet host; add chain inet host input { type filter hook input priority 0; policy drop; }; ' +
          'add rule inet host input ct state established,related accept; add rule inet host input iifname lo accept; ' +
          'add rule inet host input tcp dport { 22, 2379 } accept',
      ),
    cleanUp: ({ host }) => void host.run('nft', 'delete table inet host'),
  },
  {
    name: 'nobody masquerades packets to the outside',
    code: 'masquerade',
    stopped: true,
    inject(patient) {
      patient.useService({ further: '--ip-masq' });
      patient.startService();
      const masquerades = (): string => patient.host.run('nft', 'list', 'table', 'inet', 'weft');
      return waitFor('masquerading', () => /masquerade/.test(masquerades())).then(() => {
        patient.stopService();
        patient.host.run('nft', 'delete', 'table', 'inet', 'weft');
      });
    },
    cleanUp(patient) {
      patient.stopService();
      patient.useService({});
    },
  },
  {
    name: 'weftd lacks the right to read the older iptables',
    code: 'legacy-rights',
    needs: ['iptables-legacy', 'setpriv'],
    inject(patient) {
      patient.host.run('iptables-legacy', '-t', 'filter', '-S');
      patient.useService({ through: 'setpriv --bounding-set -net_raw --inh-caps -net_raw' });
      patient.shell('systemctl restart weftd');
    },
  },
  {
    name: 'offloads of the tunnel device are off',
    code: 'offloads',
    needs: ['ethtool'],
    inject: (patient) => void patient.host.run('ethtool', '-K', tunnelOf(patient), 'gso', 'off'),
  },
  {
    name: 'the return path is strict, and nobody masquerades',
    code: 'rp-filter',
    inject: ({ host }) => void host.run('sysctl', '-qw', 'net.ipv4.conf.eth0.rp_filter=1'),
  },
  { name: 'weftd has stopped', code: 'weftd-down', stopped: true, inject: () => undefined },
  {
    name: 'the host does not forward',
    code: 'sysctl',
    subject: 'net.ipv4.ip_forward',
    stopped: true,
    inject: ({ host }) => void host.run('sysctl', '-qw', 'net.ipv4.ip_forward=0'),
  },
  {
    name: 'the tunnel device is down',
    code: 'tunnel-down',
    stopped: true,
    inject: (patient) => void patient.host.ip('link', 'set', tunnelOf(patient), 'down'),
  },
  {
    name: 'the external interface is down',
    code: 'external-down',
    stopped: true,
    inject: ({ host }) => void host.ip('link', 'set', 'eth0', 'down'),
    cleanUp: ({ host }) =>
      void host.ip('route', 'replace', 'default', 'via', host.etcd.endpoint.replace(/^http:\/\/|:\d+$/g, '')),
  },
  {
    name: "a firewall's chain drops forwarded packets",
    code: 'forward-drop',
    subject: 'inet fw forward',
    stopped: true,
    inject: ({ host }) =>
      void host.run(
        'nft',
        'add table inet fw; add chain inet fw forward { type filter hook forward priority 0; policy drop; }',
      ),
    cleanUp: ({ host }) => void host.run('nft', 'delete table inet fw'),
  },
  {
    name: "Docker's policy drops forwarded packets",
    inGate: true,
    code: 'forward-drop',
    subject: 'ip filter FORWARD',
    stopped: true,
    needs: ['iptables-nft'],
    inject({ host }) {
      host.run('iptables-nft', '-P', 'FORWARD', 'DROP');
      // weftd's own rules stay in such a table, and would pass the packets.
      host.run('iptables-nft', '-F', 'FORWARD');
    },
    cleanUp({ host }) {
      host.run('iptables-nft', '-P', 'FORWARD', 'ACCEPT');
      host.run('iptables-nft', '-F', 'FORWARD');
    },
  },
  {
    name: "the older iptables' policy drops forwarded packets",
    code: 'forward-drop',
    subject: 'iptables-legacy',
    stopped: true,
    needs: ['iptables-legacy'],
    inject({ host }) {
      host.run('iptables-legacy', '-P', 'FORWARD', 'DROP');
      host.run('iptables-legacy', '-F', 'FORWARD');
    },
    cleanUp({ host }) {
      host.run('iptables-legacy', '-P', 'FORWARD', 'ACCEPT');
      host.run('iptables-legacy', '-F', 'FORWARD');
    },
  },
  {
    name: "etcd has lost the network's configuration",
    code: 'network-config',
    stopped: true,
    inject: ({ host }) => void host.etcd.ctl('del', '/coreos.com/network/config'),
  },
];
