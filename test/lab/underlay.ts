/** The network between hosts: a switch, which is a bridge in a namespace of its own. Nothing of it is seen outside. */

import type { Family } from '../../net/address.ts';
import { run } from './commands.ts';
import { ipBatch } from './namespaces.ts';
import type { Scratch } from './scratch.ts';

/** An address is the prefix with a number after it. */
export interface UnderlayNetwork {
  readonly prefix: string;
  readonly length: number;
}

const usualNetworks: Readonly<Record<Family, UnderlayNetwork>> = {
  4: { prefix: '192.168.77.', length: 24 },
  6: { prefix: 'fd77::', length: 64 },
};
const switchNumber = 1;

export interface UnderlayOptions {
  /** The families of the hosts' addresses; IPv4 by default. */
  readonly families?: readonly Family[];
}

export class Underlay {
  readonly families: readonly Family[];
  readonly namespace: string;

  constructor(scratch: Scratch, { families = [4] }: UnderlayOptions = {}) {
    this.families = families;
    this.namespace = scratch.addNamespace('switch');
    const addresses = families.map((family) => this.addressOf(family, switchNumber));
    // Its own MAC: otherwise it is the lowest of its ports, and changes when a port comes, to the loss of its neighbours.
    const own = 'link add br0 address 02:77:00:00:00:01 type bridge';
    this.batch(own, 'link set br0 up', ...this.#addressLines(addresses, 'br0'));
  }

  addressOf(family: Family, number: number): string {
    return usualNetworks[family].prefix + number;
  }

  /** The switch's own, where etcd runs. */
  get gateway(): string {
    return this.addressOf(this.families[0]!, switchNumber);
  }

  /** Commands of ip(8) in the switch's namespace. */
  batch(...lines: string[]): void {
    ipBatch(this.namespace, lines);
  }

  /** Nothing here has to be found out to be free first: IPv6 looks for no duplicates. */
  #addressLines(addresses: readonly string[], device: string): string[] {
    return addresses.map((address) => {
      const family = address.includes(':') ? 6 : 4;
      return `addr add ${address}/${usualNetworks[family].length} dev ${device}${family === 6 ? ' nodad' : ''}`;
    });
  }

  /** A cable from a port of the switch to a device of the namespace, which is down and has no address. */
  plug(port: string, namespace: string, device = 'eth0'): void {
    this.batch(
      `link add ${port} type veth peer name ${device} netns ${namespace}`,
      `link set ${port} master br0`,
      `link set ${port} up`,
    );
  }

  /** A cable to the namespace's `eth0`, which gets the addresses and leads everywhere. */
  connect(port: string, namespace: string, addresses: readonly string[]): void {
    this.plug(port, namespace);
    // Its link-local address has to be there at once, too: without it, IPv6 cannot look for another host's MAC.
    if (this.families.includes(6)) run(['sysctl', '-qw', 'net.ipv6.conf.eth0.accept_dad=0'], { namespace });
    ipBatch(namespace, [
      ...this.#addressLines(addresses, 'eth0'),
      'link set eth0 up',
      ...this.families.map((family) => `route add default via ${this.addressOf(family, switchNumber)}`),
    ]);
  }
}
