/** The ways that the cluster's packets take on this host: the tunnels, the external interface, the containers' own. */

import { type Prefix, prefixContains } from '../../net/prefix.ts';
import { isTunnelName } from '../backends/map.ts';
import type { HostInterface } from '../host/external-interface.ts';
import type { Roads } from './packet-walk.ts';

/** The host's interfaces that the cluster's packets take, but for the containers' own. */
export type FilterInterfaces = Pick<Roads, 'peers' | 'external'>;

export class Ways {
  readonly #readInterfaces: () => readonly HostInterface[];
  #interfaces: FilterInterfaces = { peers: [], external: '' };

  /** @param readInterfaces the host's interfaces as they are now */
  constructor(readInterfaces: () => readonly HostInterface[]) {
    this.#readInterfaces = readInterfaces;
  }

  useInterfaces(interfaces: FilterInterfaces): void {
    this.#interfaces = interfaces;
  }

  /**
   * Asks the kernel for the interfaces.
   * @param subnets those that containers of this host have addresses of
   */
  read(subnets: readonly Prefix[]): Roads {
    const containers = this.#readInterfaces().filter(
      ({ name, addresses }) =>
        !isTunnelName(name) && addresses.some((address) => subnets.some((subnet) => prefixContains(subnet, address))),
    );
    return { ...this.#interfaces, containers: containers.map(({ name }) => name) };
  }
}
