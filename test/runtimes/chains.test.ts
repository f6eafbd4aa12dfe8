/**
 * Weft in the chains of plugins that nerdctl and Nomad write, called by cnitool as they call them.
 * @long
 */

import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { findProgram } from '../lab/commands.ts';
import { fixture } from '../support/fixture.ts';
import { askOnce } from './answers.ts';
import { makeRootfs } from './image.ts';
import { type Machine, Machines } from './machine.ts';

const weft = { type: 'weft', ipam: { type: 'weft-ipam' } };

/** The programs' own templates, with Weft in the place of their bridge plugin. */
const chains = {
  nerdctl: {
    document: {
      cniVersion: '1.0.0',
      name: 'nerdctl',
      nerdctlID: '17f29b073143d8cd97b5bbe492bdeffec1c5fee55cc1fe2112c8b9335f8b6121',
      nerdctlLabels: { 'nerdctl/default-network': 'true' },
      plugins: [
        { ...weft, hairpinMode: true, capabilities: { ips: true, mac: true } },
        { type: 'portmap', capabilities: { portMappings: true } },
        { type: 'firewall', ingressPolicy: 'same-bridge' },
        { type: 'tuning' },
      ],
    },
    args: 'IgnoreUnknown=1;NERDCTL_CNI_DHCP_HOSTNAME=web',
  },
  Nomad: {
    document: {
      cniVersion: '0.4.0',
      name: 'nomad',
      plugins: [
        { type: 'loopback' },
        { ...weft, forceAddress: true, hairpinMode: false },
        { type: 'firewall', backend: 'iptables', iptablesAdminChainName: 'NOMAD-ADMIN' },
        { type: 'portmap', capabilities: { portMappings: true }, snat: true },
      ],
    },
    args: 'IgnoreUnknown=true;NOMAD_REGION=global;NOMAD_NAMESPACE=default;NOMAD_JOB_ID=web;NOMAD_ALLOC_ID=3f6c',
  },
} as const;

const test = suite('runtimes: chains');
const lab = fixture(
  test,
  async () => {
    const machines = await Machines.start('chains', { hosts: 2 });
    return { machines, www: makeRootfs(machines.cluster.scratch.makeFolder('image')) };
  },
  ({ machines }) => machines.remove(),
);

const portMappings = [{ hostPort: 8097, containerPort: 8080, protocol: 'tcp' }];

function cnitool(host: Machine, chain: keyof typeof chains, verb: string, name: string): string {
  const environment = {
    PATH: process.env['PATH'] ?? '',
    CNI_PATH: '/opt/cni/bin',
    NETCONFPATH: '/etc/cni/net.d',
    CNI_ARGS: chains[chain].args,
    // Debian's portmap looks for its IPv4 rules among those of IPv6, too, and fails CHECK.
    CAP_ARGS: JSON.stringify(verb === 'check' ? {} : { portMappings }),
  };
  const argv = ['cnitool', verb, chains[chain].document.name, `/run/netns/${name}`];
  const { status, stdout, stderr } = host.executeInside(argv, { environment });
  if (status !== 0) throw new Error(`cnitool ${verb}: ${stderr || stdout}`);
  return stdout;
}

for (const chain of Object.keys(chains) as (keyof typeof chains)[]) {
  test(`${chain}'s chain: ADD, CHECK, a port, a peer on the other host, DEL, and nothing is left`, async () => {
    const { machines, www } = lab();
    const [here, there] = machines.hosts as [Machine, Machine];
    for (const host of machines.hosts) {
      host.writeFile(`/etc/cni/net.d/${chain}.conflist`, JSON.stringify(chains[chain].document));
      host.inside('ip', 'netns', 'add', 'alloc');
    }
    const { ips } = JSON.parse(cnitool(here, chain, 'add', 'alloc')) as { ips: { address: string }[] };
    cnitool(there, chain, 'add', 'alloc');
    for (const host of machines.hosts) cnitool(host, chain, 'check', 'alloc');
    here.inside('nsenter', '--net=/run/netns/alloc', findProgram('busybox'), 'httpd', '-p', '8080', '-h', `${www}/www`);
    const asker = (argv: readonly string[]) => there.executeInside(['nsenter', '--net=/run/netns/alloc', ...argv]);
    const address = ips[0]!.address.split('/')[0]!;
    const { source } = askOnce(asker, address);
    assert.ok(source.startsWith(there.subnet.replace('0/24', '')), source);
    // By the port of the host, from another host.
    askOnce((argv) => there.execute(argv), here.address, 8097);
    for (const host of machines.hosts) {
      cnitool(host, chain, 'del', 'alloc');
      // Once more, as runtimes do after an error.
      cnitool(host, chain, 'del', 'alloc');
      host.kill('busybox');
      host.inside('ip', 'netns', 'del', 'alloc');
      assert.equal(host.leftovers(), []);
    }
  });
}

test.run();
