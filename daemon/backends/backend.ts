/** The seam that a backend plugs into: a backend is a way for packets to travel from host to host. */

import type { Family } from '../../net/address.ts';

/** A backend's part of the network config, parsed. `type` is the name of the backend that it is for. */
export interface BackendConfig {
  readonly type: string;
}

/** How the packets between hosts look from outside: what the packet filter knows them by. */
export interface OuterHeader {
  /** IPPROTO_* of include/uapi/linux/in.h: 17 UDP, 4 IPIP, 41 IPV6, 47 GRE. */
  readonly ipProtocol: 17 | 4 | 41 | 47;
  /** Destination port, where the protocol is UDP. */
  readonly udpPort?: number;
  /** VXLAN network identifier. */
  readonly vni?: number;
  /** GRE key; absent where the packets carry none. */
  readonly key?: number;
}

/** Methods take the config that `parseConfig` of the same backend made. */
export interface Backend<Config extends BackendConfig = BackendConfig> {
  /** The `Type` in the network config, and `BackendType` in leases. */
  readonly name: Config['type'];

  /** Undefined where packets of this family travel as they are: nothing tells them from others. */
  outer(config: Config, family: Family): OuterHeader | undefined;
}
