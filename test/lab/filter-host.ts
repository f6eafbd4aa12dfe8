/** A host that forwards between two wires, for what packet filters do to the cluster's packets. */

import { parsePrefix } from '../../net/prefix.ts';
import { BareHost } from './bare-host.ts';
import type { RuleSettings } from './filter-rules.ts';
import { addCable, ipBatch } from './namespaces.ts';
import { ping } from './packets.ts';
import type { Scratch } from './scratch.ts';
import { waitFor } from './wait.ts';

/** Rule settings of the cluster that the host below belongs to. */
export const filterSettings: RuleSettings = {
  networks: { 4: parsePrefix('10.5.0.0/16')!, 6: parsePrefix('fd00:5::/50')! },
  subnets: [{ 4: parsePrefix('10.5.1.0/24')!, 6: parsePrefix('fd00:5:0:1::/64')! }],
  ipMasq: true,
  randomPorts: true,
  forward: true,
  lock: undefined,
};

/**
 * `flannel.1` with 10.5.0.0/16 but 10.5.1.0/24, and `cni0` with that, both wires to namespaces of their own; IPv6 beside
 * it.
 */
export class FilterHost extends BareHost {
  readonly here: string;
  readonly there: string;

  constructor(scratch: Scratch) {
    super(scratch, 'host');
    const [here, there] = scratch.addNamespaces(['here', 'there']) as [string, string];
    this.here = here;
    this.there = there;
    this.#wire('cni0', here, ['10.5.1.1/24', 'fd00:5:0:1::1/64'], ['10.5.1.2/24', 'fd00:5:0:1::2/64']);
    this.#wire('flannel.1', there, ['10.5.2.1/24', 'fd00:5:0:2::1/64'], ['10.5.2.2/24', 'fd00:5:0:2::2/64']);
    this.run('sysctl', '-qw', 'net.ipv4.ip_forward=1', 'net.ipv6.conf.all.forwarding=1');
  }

  /** A cable from a device of the host to another namespace's `eth0`, which has its default routes by the host. */
  #wire(device: string, other: string, own: readonly string[], others: readonly string[]): void {
    const { namespace } = this;
    addCable({ namespace, device }, { namespace: other, device: 'eth0' });
    for (const [name, link, addresses] of [
      [namespace, device, own],
      [other, 'eth0', others],
    ] as const) {
      const added = addresses.map((address) => `addr add ${address} dev ${link} nodad`);
      ipBatch(name, [...added, `link set ${link} up`]);
    }
    ipBatch(
      other,
      own.map((address) => `route add default via ${address.split('/')[0]}`),
    );
  }

  fails(...argv: string[]): boolean {
    return this.execute(argv).status !== 0;
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
