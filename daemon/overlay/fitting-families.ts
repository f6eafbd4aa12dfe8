/**
 * The families that containers can use: IPv6 needs an MTU of 1280 (RFC 8200), and a tunnel leaves less than its uplink has.
 * The kernel refuses an IPv6 address on such an interface. IPv4 works all the same, so containers then get IPv4 alone.
 */

import type { Family } from '../../net/address.ts';
import { minimumMtuBytes } from '../../net/mtu.ts';
import type { Backends } from '../backends/map.ts';
import type { ExternalInterface } from '../host/external-interface.ts';
import { type ClusterView, familiesInUse } from '../membership/view.ts';
import { containerMtu } from './desired.ts';

export interface FittingFamilies {
  readonly families: readonly Family[];
  /** Which family of the network config is left out, and why. */
  readonly problem: string | undefined;
}

export function fittingFamilies(
  { config, backend }: Pick<ClusterView, 'config' | 'backend'>,
  { name, mtuBytes }: Pick<ExternalInterface, 'name' | 'mtuBytes'>,
  backends: Backends,
): FittingFamilies {
  const inUse = familiesInUse(config);
  const left = containerMtu(backend, inUse, mtuBytes, backends);
  const least = minimumMtuBytes[6];
  if (!inUse.includes(6) || left >= least) return { families: inUse, problem: undefined };
  const others = inUse.filter((family) => family !== 6);
  const meanwhile = others.length > 0 ? 'containers get no IPv6 addresses' : 'no container can start';
  return {
    families: others.length > 0 ? others : inUse,
    problem:
      `IPv6 needs an MTU of ${least}, and "${name}" with ${mtuBytes} leaves ${left}: ` +
      `raise its MTU to ${mtuBytes + least - left} or more; until then ${meanwhile}`,
  };
}
