/**
 * How many subnets of a network count. Those of the config's length are as many as the network has. After a change of the
 * config there are older leases of another length, or of a former network; of these, as many count: otherwise one node could
 * lease every single address.
 */

import { type Prefix, prefixContains } from '../net/prefix.ts';
import type { FamilyNetwork } from './network-config.ts';

/** An IPv6 network has any number of subnets. */
const mostSubnets = 65_536;

export class SubnetRoom {
  /** The number of the network's subnets. */
  readonly size: number;
  readonly #network: Prefix;
  readonly #length: number;
  #regular = 0;
  #odd = 0;

  constructor({ network, subnetLength }: Pick<FamilyNetwork, 'network' | 'subnetLength'>) {
    this.#network = network;
    this.#length = subnetLength;
    this.size = Math.min(2 ** (subnetLength - network.length), mostSubnets);
  }

  /** Whether the config's nodes cannot lease the subnet. */
  isOdd({ address, length }: Prefix): boolean {
    return length !== this.#length || !prefixContains(this.#network, address);
  }

  has(subnet: Prefix): boolean {
    return (this.isOdd(subnet) ? this.#odd : this.#regular) < this.size;
  }

  add(subnet: Prefix): void {
    if (this.isOdd(subnet)) this.#odd++;
    else this.#regular++;
  }

  remove(subnet: Prefix): void {
    if (this.isOdd(subnet)) this.#odd--;
    else this.#regular--;
  }
}
