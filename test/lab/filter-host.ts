/** A host that forwards between two wires, for what packet filters do to the cluster's packets. */

import type { RuleSettings } from '../../daemon/filter/rule-table.ts';
import { inNamespace, openCurrentNamespace, openNamespace } from '../../linux/netns.ts';
import { sys } from '../../linux/sys-bun.ts';
import { parsePrefix } from '../../net/prefix.ts';
import { execute, run } from './commands.ts';
import { ping } from './packets.ts';
import type { Scratch } from './scratch.ts';
import { waitFor } from './wait.ts';

/** Of the cluster that the host below is of. */
export const filterSettings: RuleSettings = {
  networks: { 4: parsePrefix('10.5.0.0/16')!, 6: parsePrefix('fd00:5::/50')! },
  subnets: [{ 4: parsePrefix('10.5.1.0/24')!, 6: parsePrefix('fd00:5:0:1::/64')! }],
  ipMasq: true,
  randomPorts: true,
  forward: true,
  lock: undefined,
};

/** Runs the body with the calling thread in a namespace: sockets opened in it are the namespace's. */
export function insideNamespace<T>(name: string, body: () => T): T {
  const [from, to] = [openCurrentNamespace(sys), openNamespace(sys, `/run/netns/${name}`)];
  try {
    return inNamespace(sys, { from, to }, body);
  } finally {
    sys.close(from);
    sys.close(to);
  }
}

/**
 * `flannel.1` with 10.5.0.0/16 but 10.5.1.0/24, and `cni0` with that, both wires to namespaces of their own; IPv6 beside
 * it.
 */
export class FilterHost {
  readonly name: string;
  readonly here: string;
  readonly there: string;

  constructor(scratch: Scratch) {
    const [name, here, there] = scratch.addNamespaces(['host', 'here', 'there']) as [string, string, string];
    this.name = name;
    this.here = here;
    this.there = there;
    for (const [device, other, host, address, host6, address6] of [
      ['cni0', here, '10.5.1.1/24', '10.5.1.2/24', 'fd00:5:0:1::1/64', 'fd00:5:0:1::2/64'],
      ['flannel.1', there, '10.5.2.1/24', '10.5.2.2/24', 'fd00:5:0:2::1/64', 'fd00:5:0:2::2/64'],
    ] as const) {
      run(['ip', 'link', 'add', device, 'netns', name, 'type', 'veth', 'peer', 'name', 'eth0', 'netns', other]);
      for (const [namespace, link, addresses] of [
        [name, device, [host, host6]],
        [other, 'eth0', [address, address6]],
      ] as const) {
        for (const each of addresses) run(['ip', '-n', namespace, 'addr', 'add', each, 'dev', link, 'nodad']);
        run(['ip', '-n', namespace, 'link', 'set', link, 'up']);
      }
      run(['ip', '-n', other, 'route', 'add', 'default', 'via', host.split('/')[0]!]);
      run(['ip', '-n', other, '-6', 'route', 'add', 'default', 'via', host6.split('/')[0]!]);
    }
    run(['sysctl', '-qw', 'net.ipv4.ip_forward=1', 'net.ipv6.conf.all.forwarding=1'], { namespace: name });
  }

  run(...argv: string[]): string {
    return run(argv, { namespace: this.name });
  }

  fails(...argv: string[]): boolean {
    return execute(argv, { namespace: this.name }).status !== 0;
  }

  /** Resolves once packets pass by both families. */
  async whenForwarding(): Promise<void> {
    await waitFor('packets of both families on the wires', () => this.forwards() === '46');
  }

  /** By which families containers reach each other across the host. */
  forwards(): string {
    const reaches = (address: string): boolean => ping(this.here, address, { timeoutMs: 500 }).received === 1;
    return [reaches('10.5.2.2') ? '4' : '', reaches('fd00:5:0:2::2') ? '6' : ''].join('');
  }
}
