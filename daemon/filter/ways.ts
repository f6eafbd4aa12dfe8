/** The interfaces of the cluster's packets on this host: tunnels, the external interface, the containers' own. */

import type { PerFamily } from '../../cluster/network-config.ts';
import type { Address } from '../../net/address.ts';
import { type Prefix, prefixContains } from '../../net/prefix.ts';
import { isTunnelName } from '../backends/map.ts';
import type { HostInterface } from '../host/external-interface.ts';
import type { Roads } from './packet-walk.ts';

/** The host's interfaces for the cluster's packets. */
export interface FilterInterfaces extends Pick<Roads, 'peers' | 'external'> {
  /** Tunnels, and interfaces that lead to containers of any program. */
  readonly inner?: readonly string[];
  /** The networks of the other interfaces. */
  readonly networks?: readonly Prefix[];
  /** The external interface's addresses. */
  readonly addresses?: PerFamily<Address>;
}

export class Ways {
  readonly #readInterfaces: () => readonly HostInterface[];
  #interfaces: FilterInterfaces = { peers: [], external: '' };

  /** @param readInterfaces reads the host's current interfaces */
  constructor(readInterfaces: () => readonly HostInterface[]) {
    this.#readInterfaces = readInterfaces;
  }

  useInterfaces(interfaces: FilterInterfaces): void {
    this.#interfaces = interfaces;
  }

  /**
   * Asks the kernel for the interfaces.
   * @param subnets the subnets of this host's containers
   */
  read(subnets: readonly Prefix[]): Roads {
    const containers = this.#readInterfaces().filter(
      ({ name, addresses }) =>
        !isTunnelName(name) && addresses.some((address) => subnets.some((subnet) => prefixContains(subnet, address))),
    );
    return { ...this.#interfaces, containers: containers.map(({ name }) => name) };
  }
}
