/** Which of the kernel's events the data path has to be compared for. */

import type { Backend } from '../backends/backend.ts';
import type { EventInterest } from '../host/events.ts';
import type { NodeState } from '../host/files.ts';
import type { HostState } from '../host/host-state.ts';
import type { Desired } from './desired.ts';
import type { Kernel } from './kernel.ts';

export function interestOf(
  backend: Backend,
  desired: Desired,
  external: string,
  { devices, networks }: NodeState,
  { links }: HostState,
  kernel: Pick<Kernel, 'port'>,
): EventInterest {
  const tunnels = new Set([...desired.state.devices.map(({ name }) => name), ...devices.keys()]);
  const names = new Set([external, ...tunnels]);
  const indexesOf = (wanted: ReadonlySet<string>): Set<number> =>
    new Set(links.filter(({ name }) => wanted.has(name)).map(({ index }) => index));
  return {
    names,
    indexes: indexesOf(names),
    tunnels: indexesOf(tunnels),
    networks,
    get port() {
      return kernel.port;
    },
    expects(entry, isThere) {
      const { address } = entry;
      if (!address) return false;
      if (entry.family !== 'bridge') return !isThere && !desired.table.covers(address);
      return backend.expects?.(entry, isThere, (key) => desired.table.hostOf(address.family, key)) ?? false;
    },
  };
}
