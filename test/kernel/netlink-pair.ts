/** Two namespaces, a host's and a pod's, with a netlink connection to each, and what `ip` and `bridge` show of them. */

import * as assert from 'uvu/assert';
import { type NetlinkConnection, openNetlink } from '../../linux/netlink/connection.ts';
import { createBridge, getLink, type Link } from '../../linux/netlink/link.ts';
import { openNamespace } from '../../linux/netns.ts';
import { sys } from '../../linux/sys-bun.ts';
import { type Address, parseAddress } from '../../net/address.ts';
import { type Mac, parseMac } from '../../net/mac.ts';
import { type Prefix, parsePrefix } from '../../net/prefix.ts';
import { run } from '../lab/commands.ts';
import { namespacePath } from '../lab/namespaces.ts';
import { Scratch } from '../lab/scratch.ts';

export const address = (text: string): Address => parseAddress(text)!;
export const prefix = (text: string): Prefix => parsePrefix(text)!;
export const mac = (last: number): Mac => parseMac(`02:00:00:00:00:${last.toString(16).padStart(2, '0')}`)!;

export class NetlinkPair {
  readonly hostName: string;
  readonly podName: string;
  readonly hostFd: number;
  readonly podFd: number;
  readonly host: NetlinkConnection;
  readonly pod: NetlinkConnection;
  readonly #scratch: Scratch;

  constructor(label: string) {
    this.#scratch = new Scratch(label);
    const [hostName, podName] = this.#scratch.addNamespaces(['host', 'pod']) as [string, string];
    this.hostName = hostName;
    this.podName = podName;
    this.hostFd = openNamespace(sys, namespacePath(hostName));
    this.podFd = openNamespace(sys, namespacePath(podName));
    this.host = openNetlink(sys, { namespace: this.hostFd });
    this.pod = openNetlink(sys, { namespace: this.podFd });
  }

  /** The host's bridge, made by the first that asks for it. */
  bridge(): Link {
    if (!this.host.get(getLink({ name: 'br0' }))) {
      this.host.execute([createBridge({ name: 'br0', mac: mac(1), mtuBytes: 1450, up: true })]);
    }
    return linkOf(this.host, 'br0');
  }

  remove(): void {
    this.host.close();
    this.pod.close();
    sys.close(this.hostFd);
    sys.close(this.podFd);
    this.#scratch.remove();
  }
}

/** One object of what `ip -j` and `bridge -j` show: those of its fields that are looked at here. */
export interface Shown {
  readonly ifindex: number;
  readonly address: string;
  readonly mtu: number;
  readonly num_tx_queues: number;
  readonly num_rx_queues: number;
  readonly flags: string[];
  readonly master: string;
  readonly ifalias: string;
  readonly linkinfo: {
    readonly info_kind: string;
    readonly info_slave_data: { readonly hairpin: boolean; readonly isolated: boolean };
    readonly info_data: {
      readonly id: number;
      readonly port: number;
      readonly local?: string;
      readonly local6?: string;
      readonly link: string;
      readonly learning: boolean;
    };
  };
  readonly addr_info: {
    readonly local: string;
    readonly prefixlen: number;
    readonly broadcast?: string;
    readonly scope: string;
    readonly nodad?: boolean;
  }[];
  readonly dst: string;
  readonly gateway: string;
  readonly dev: string;
  readonly protocol: string;
  readonly metric: number;
  readonly metrics: unknown;
  readonly scope: string;
  readonly mac: string;
  readonly lladdr: string;
  readonly state: string;
}
export const show = (name: string, program: string, ...words: string[]): Shown[] =>
  JSON.parse(run([program, '-n', name, '-d', '-j', ...words]) || '[]');
/** The only one that is shown. */
export function showOne(...argv: Parameters<typeof show>): Shown {
  const [first, ...others] = show(...argv);
  assert.ok(first && others.length === 0, argv.join(' '));
  return first;
}

export const linkOf = (connection: NetlinkConnection, name: string): Link => {
  const link = connection.get(getLink({ name }));
  assert.ok(link, name);
  return link;
};
