/** The backends that weftd runs. A new one is a file of its own and a line here. */

import type { Family } from '../../net/address.ts';
import type { Backend, BackendConfig, OuterHeader } from './backend.ts';
import { gre } from './gre.ts';
import { hostGateway } from './host-gw.ts';
import { ipip } from './ipip.ts';
import { vxlan } from './vxlan.ts';

/** By name. */
export type Backends = ReadonlyMap<string, Backend>;

const all: readonly Backend[] = [vxlan, hostGateway, ipip, gre];

export const backends: Backends = new Map(all.map((each) => [each.name, each]));

/** The outer header of a family's packets; undefined if they have none. */
export const outer = (config: BackendConfig, family: Family): OuterHeader | undefined =>
  backends.get(config.type)?.outer(config, family);

/** Whether peers' packets may arrive without a tunnel. */
export const routesDirectly = (config: BackendConfig): boolean =>
  backends.get(config.type)?.routesDirectly(config) ?? false;

/** Whether a device is a tunnel of weftd's or flannel's, by its name. */
export const isTunnelName = (name: string): boolean => all.some((backend) => backend.isDeviceName(name));
