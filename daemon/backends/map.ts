/** The backends that weftd runs. A new one is a file of its own and a line here. */

import type { HostGatewayBackend, VxlanBackend } from '../../cluster/network-config.ts';
import type { Family } from '../../net/address.ts';
import type { Backend, BackendConfig, OuterHeader } from './backend.ts';
import { hostGateway } from './host-gw.ts';
import { vxlan } from './vxlan.ts';

/** The backends that weftd runs itself. */
export type OwnBackend = VxlanBackend | HostGatewayBackend;

export type Backends = ReadonlyMap<string, Backend>;

export const backends: Backends = new Map<string, Backend>([vxlan, hostGateway].map((each) => [each.name, each]));

/** How packets of a family look from outside; undefined where they travel as they are. */
export const outer = (config: BackendConfig, family: Family): OuterHeader | undefined =>
  backends.get(config.type)?.outer(config, family);
