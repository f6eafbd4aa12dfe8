/** Bounds the number of peers by the cluster's network of each family. The caller adds the older ones first. */

import type { Lease } from '../../cluster/lease.ts';
import { families, type PerFamily, perFamily } from '../../cluster/network-config.ts';
import { SubnetRoom } from '../../cluster/subnet-room.ts';
import { formatPrefix, type Prefix } from '../../net/prefix.ts';

export class PeerRooms {
  readonly #rooms: PerFamily<SubnetRoom>;
  #isCrowded = false;

  constructor(networks: PerFamily<Prefix>, subnetLengths: PerFamily<number>) {
    this.#rooms = perFamily((family) => {
      const network = networks[family];
      return network && new SubnetRoom({ network, subnetLength: subnetLengths[family]! });
    });
  }

  /** Whether a peer was refused. */
  get isCrowded(): boolean {
    return this.#isCrowded;
  }

  /** Why there is no room for the subnet; undefined if there is. */
  refusal(subnet: Prefix): string | undefined {
    const room = this.#rooms[subnet.address.family]!;
    if (room.has(subnet)) return undefined;
    this.#isCrowded = true;
    return `its subnet "${formatPrefix(subnet)}" is one too many: the network has ${room.size} subnets, and older leases have as many`;
  }

  add(subnet: Prefix): void {
    this.#rooms[subnet.address.family]!.add(subnet);
  }

  remove(subnet: Prefix): void {
    this.#rooms[subnet.address.family]!.remove(subnet);
  }

  /** Whether the change of a lease decides on the room of others. */
  movesOthers({ subnets }: Lease): boolean {
    if (!this.#isCrowded) return false;
    return families.some((family) => {
      const [subnet, room] = [subnets[family], this.#rooms[family]];
      return subnet !== undefined && room !== undefined && (room.isOdd(subnet) || !room.has(subnet));
    });
  }
}
