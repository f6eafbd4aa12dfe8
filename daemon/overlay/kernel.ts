/** The kernel adapter: reads the actual state, one dump per kind, and applies a plan's steps in batches. */

import { type ErrnoName, hasCode, NetlinkError } from '../../linux/errors.ts';
import { deleteAddress, dumpAddresses, newAddress } from '../../linux/netlink/address.ts';
import {
  makeRequest,
  type NetlinkConnection,
  type NetlinkRequest,
  openNetlink,
} from '../../linux/netlink/connection.ts';
import { encapsulationAttributes, encapsulationOf } from '../../linux/netlink/encapsulation.ts';
import { changeLink, deleteLink, dumpLinks, getLink, iff, type Link } from '../../linux/netlink/link.ts';
import {
  deleteFdbEntry,
  deleteNeighbour,
  dumpFdb,
  dumpNeighbours,
  nda,
  newFdbEntry,
  newNeighbour,
} from '../../linux/netlink/neighbour.ts';
import { deleteRoute, dumpRoutes, lookupRoute, newRoute, rta } from '../../linux/netlink/route.ts';
import { createTunnel, isTunnelKind, moduleOf, tunnelOf } from '../../linux/netlink/tunnel.ts';
import type { Sys } from '../../linux/sys.ts';
import { ensureSysctl, readSysctl } from '../../linux/sysctl.ts';
import { type Address, isLinkLocal } from '../../net/address.ts';
import { hostPrefix } from '../../net/prefix.ts';
import {
  type ActualAddress,
  type ActualDevice,
  type ActualFdbEntry,
  type ActualRoute,
  type ActualState,
  defaultMetric,
  fdbOddity,
  type NeighbourEntry,
  routeProtocol,
} from '../backends/entries.ts';
import type { HostInterface, HostView } from '../host/external-interface.ts';
import { answerOf, defaultRoutesOf, type HostState, hostInterfaces } from '../host/host-state.ts';
import type { SysctlSetting } from '../host/sysctls.ts';
import { busyPortError } from './busy-port.ts';
import { addressOddity, routeOddity } from './oddities.ts';
import { deviceOf, formatOperation, isDeviceOperation, type Operation } from './plan.ts';

/** The result of a plan's step. */
export interface Outcome {
  readonly operation: Operation;
  readonly error: Error | undefined;
}

const actualDevice = (link: Link): ActualDevice => ({
  name: link.name,
  index: link.index,
  kind: link.kind,
  up: link.up,
  mac: link.mac,
  mtuBytes: link.mtuBytes,
  noArp: (link.flags & iff.IFF_NOARP) !== 0,
  protoDown: link.protoDown === true,
  master: link.master,
  data: tunnelOf(link),
});

/** Routes with one gateway, or with an encapsulation; others are never weftd's. */
function actualRoutes({ links, routes }: HostState): ActualRoute[] {
  const nameOf = new Map(links.map(({ index, name }) => [index, name]));
  const found: ActualRoute[] = [];
  for (const route of routes) {
    const { destination, gateway, oif, protocol, metric, onlink, type } = route;
    const device = oif === undefined ? undefined : nameOf.get(oif);
    if (device === undefined || type !== rta.RTN_UNICAST) continue;
    const rest = {
      device,
      onlink,
      protocol,
      metric: metric ?? defaultMetric[destination.address.family],
      oddity: routeOddity(route),
    };
    const encapsulation = gateway ? undefined : encapsulationOf(route);
    if (gateway) found.push({ destination, gateway, ...rest });
    else if (encapsulation) found.push({ destination, encapsulation, ...rest });
  }
  return found;
}

/** How many steps of each kind were done, and how many failed; for the log. */
export function countKinds(outcomes: readonly Outcome[]): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const { operation, error } of outcomes) {
    const [verb, noun] = operation.kind.split('-') as [string, string];
    const key = error ? 'failed' : `${noun}${verb === 'remove' ? 'Removed' : verb === 'change' ? 'Changed' : 'Set'}`;
    counts[key] = (counts[key] ?? 0) + 1;
  }
  return counts;
}

/** Errors that mean: already done. */
const alreadyDone: Partial<Record<Operation['kind'], readonly ErrnoName[]>> = {
  'add-address': ['EEXIST'],
  'remove-address': ['EADDRNOTAVAIL', 'ENODEV'],
  'remove-neighbour': ['ENOENT', 'ENODEV'],
  'remove-fdb': ['ENOENT', 'ENODEV'],
  'remove-route': ['ESRCH', 'ENOENT', 'ENODEV'],
  'remove-device': ['ENODEV'],
};

export class Kernel {
  readonly #sys: Sys;
  readonly #procSysDir: string | undefined;
  #connection: NetlinkConnection | undefined;

  /** @param procSysDir where the kernel's settings are; /proc/sys by default */
  constructor(sys: Sys, procSysDir?: string) {
    this.#sys = sys;
    this.#procSysDir = procSysDir;
  }

  close(): void {
    this.#connection?.close();
    this.#connection = undefined;
  }

  /** Runs `body` on the connection; after an error other than a refusal the connection is discarded. */
  #use<T>(body: (connection: NetlinkConnection) => T): T {
    this.#connection ??= openNetlink(this.#sys, { receiveBytes: 32_768 });
    try {
      return body(this.#connection);
    } catch (error) {
      if (!(error instanceof NetlinkError)) this.close();
      throw error;
    }
  }

  /** The port by which the kernel's events name this adapter as their cause. */
  get port(): number | undefined {
    return this.#connection?.port;
  }

  /** Whether the kernel has IPv6 at all. */
  hasIPv6(): boolean {
    return this.readSysctl(['net', 'ipv6', 'conf', 'all', 'forwarding']) !== undefined;
  }

  readHost(): HostState {
    return this.#readHost(undefined);
  }

  /** Without the routes that weftd has made: thousands, where it is enough to know the host's own. */
  readHostAlone(): HostState {
    return this.#readHost(routeProtocol.RTPROT_WEFT);
  }

  #readHost(withoutProtocol: number | undefined): HostState {
    return this.#use((connection) => ({
      links: connection.dump(dumpLinks()),
      addresses: connection.dump(dumpAddresses()),
      routes: (this.hasIPv6() ? ([4, 6] as const) : ([4] as const)).flatMap((family) =>
        connection.dump(dumpRoutes({ family, table: rta.RT_TABLE_MAIN, without: withoutProtocol })),
      ),
    }));
  }

  /** The host's earlier state, with its current links. */
  withLinks(host: HostState): HostState {
    return { ...host, links: this.#use((connection) => connection.dump(dumpLinks())) };
  }

  /** Only the interfaces and their addresses. */
  readInterfaces(): HostInterface[] {
    return this.#use((connection) =>
      hostInterfaces({
        links: connection.dump(dumpLinks()),
        addresses: connection.dump(dumpAddresses()),
        routes: [],
      }),
    );
  }

  hostView(host: HostState): HostView {
    return {
      interfaces: hostInterfaces(host),
      defaultRoutes: (family) => defaultRoutesOf(host, family),
      lookupRoute: (destination) => answerOf(this.#use((connection) => connection.get(lookupRoute(destination)))),
    };
  }

  /** The part of the host's state for plans; entries of the named devices. */
  readActual(host: HostState, deviceNames: ReadonlySet<string>): ActualState {
    const addresses: ActualAddress[] = [];
    const neighbours: NeighbourEntry[] = [];
    const fdb: ActualFdbEntry[] = [];
    const own = host.links.filter(({ name }) => deviceNames.has(name));
    this.#use((connection) => {
      for (const { index, name: device, kind, mac: ownMac } of own) {
        if (!isTunnelKind(kind)) continue;
        for (const address of host.addresses) {
          if (address.index !== index || isLinkLocal(address.prefix.address)) continue;
          const { prefix, local } = address;
          addresses.push({ device, prefix, local, oddity: addressOddity(address) });
        }
        for (const family of [4, 6] as const) {
          if (family === 6 && !this.hasIPv6()) continue;
          for (const { address, mac, state } of connection.dump(dumpNeighbours({ family, index }))) {
            if (address && mac && state & nda.NUD_PERMANENT) neighbours.push({ device, address, mac });
          }
        }
        // A device without a MAC has no such table.
        for (const entry of ownMac ? connection.dump(dumpFdb({ index })) : []) {
          const { address: destination, mac, state, port, vni, lower } = entry;
          if (entry.index !== index || !destination || !mac) continue;
          if (state & nda.NUD_PERMANENT)
            fdb.push({ device, mac, destination, port, vni, lower, oddity: fdbOddity(entry) });
        }
      }
    });
    return { devices: host.links.map(actualDevice), addresses, neighbours, fdb, routes: actualRoutes(host) };
  }

  /**
   * Applies the steps in order and continues after failures. Steps on a device that could not be created fail with its
   * error.
   */
  apply(operations: readonly Operation[], host: HostState): Outcome[] {
    const indexes = new Map(host.links.map(({ name, index }) => [name, index]));
    const outcomes: Outcome[] = [];
    const failedDevices = new Map<string, Error>();
    for (let at = 0; at < operations.length; ) {
      const operation = operations[at]!;
      if (isDeviceOperation(operation)) {
        const error = this.#applyDevice(operation, indexes, failedDevices);
        outcomes.push({ operation, error });
        at++;
        continue;
      }
      let end = at;
      while (end < operations.length && !isDeviceOperation(operations[end]!)) end++;
      outcomes.push(...this.#applyEntries(operations.slice(at, end), indexes, failedDevices));
      at = end;
    }
    return outcomes;
  }

  #applyDevice(
    operation: Operation,
    indexes: Map<string, number>,
    failedDevices: Map<string, Error>,
  ): Error | undefined {
    try {
      this.#use((connection) => {
        const execute = (...requests: NetlinkRequest[]): void =>
          connection.execute(requests.map((request) => named(operation, request)));
        if (operation.kind === 'remove-device') {
          execute(deleteLink({ name: operation.name }));
          indexes.delete(operation.name);
        } else if (operation.kind === 'change-device') {
          execute(changeLink({ name: operation.name }, operation.changes));
        } else if (operation.kind === 'add-device') {
          const { device } = operation;
          execute(createTunnel(device.kind, device, device.data));
          // Before it is up: otherwise a router advertisement from the tunnel could give it an address and a route.
          this.ensureSysctl({ path: ['net', 'ipv6', 'conf', device.name, 'accept_ra'], value: '0' });
          execute(changeLink({ name: device.name }, { up: true }));
          const link = connection.get(getLink({ name: device.name }));
          if (link) indexes.set(device.name, link.index);
        }
      });
      return undefined;
    } catch (error) {
      if (operation.kind === 'remove-device' && hasCode(error, 'ENODEV')) return undefined;
      const busy = hasCode(error, 'EADDRINUSE') ? this.#busyPort(operation, error as Error) : undefined;
      if (operation.kind !== 'add-device') return busy ?? (error as Error);
      const { name, kind } = operation.device;
      const reason = hasCode(error, 'EOPNOTSUPP')
        ? new Error(`Cannot ${formatOperation(operation)}: the kernel has no module "${moduleOf(kind)}"; install it`, {
            cause: error,
          })
        : (busy ?? (error as Error));
      failedDevices.set(name, reason);
      indexes.delete(name);
      return reason;
    }
  }

  #busyPort(operation: Operation, cause: Error): Error | undefined {
    const links = this.#use((connection) => connection.dump(dumpLinks()));
    return busyPortError(this.#sys, links, operation, cause);
  }

  #applyEntries(
    operations: readonly Operation[],
    indexes: ReadonlyMap<string, number>,
    failedDevices: ReadonlyMap<string, Error>,
  ): Outcome[] {
    const outcomes: { operation: Operation; error: Error | undefined }[] = [];
    const requests: NetlinkRequest[] = [];
    const places: number[] = [];
    for (const operation of operations) {
      const device = deviceOf(operation);
      const index = indexes.get(device);
      if (index === undefined) {
        // Gone since the dump, or never made; a removal has nothing to do then.
        const error = operation.kind.startsWith('remove-')
          ? undefined
          : (failedDevices.get(device) ?? new Error(`Cannot set entries of "${device}": the device is gone`));
        outcomes.push({ operation, error });
        continue;
      }
      places.push(outcomes.length);
      outcomes.push({ operation, error: undefined });
      requests.push(named(operation, requestOf(operation, index)));
    }
    const errors = requests.length > 0 ? this.#use((connection) => connection.executeEach(requests)) : [];
    errors.forEach((error, i) => {
      const outcome = outcomes[places[i]!]!;
      if (!error || hasCode(error, ...(alreadyDone[outcome.operation.kind] ?? []))) return;
      const { operation } = outcome;
      outcome.error = isGatewayElsewhere(operation, error)
        ? this.#setRouteElsewhere(operation.route.gateway!, requests[i]!, indexes.get(operation.route.device)!)
        : error;
    });
    return outcomes;
  }

  /**
   * Sets an IPv6 route whose gateway is behind another interface by another route. The kernel refuses that, even if this
   * other route is the one to be replaced. A temporary route to the gateway alone makes the kernel accept it.
   */
  #setRouteElsewhere(gateway: Address, request: NetlinkRequest, index: number): Error | undefined {
    const helper = { destination: hostPrefix(gateway), oif: index, protocol: routeProtocol.RTPROT_WEFT };
    const [, error] = this.#use((connection) =>
      connection.executeEach([newRoute(helper, 'replace'), request, deleteRoute(helper)]),
    );
    return error;
  }

  /**
   * Sets a differing setting. A setting that the kernel lacks (IPv6 is off) is skipped.
   * @returns whether anything was written
   */
  ensureSysctl({ path, value }: SysctlSetting): boolean {
    if (this.readSysctl(path) === undefined) return false;
    try {
      return ensureSysctl(this.#sys, path, value, this.#procSysDir);
    } catch (error) {
      if (!hasCode(error, 'EROFS')) throw error;
      const advice =
        "in a container, mount the host's /proc/sys/net elsewhere, and name the folder above it by --proc-sys-dir";
      throw new Error(`${(error as Error).message}; ${advice}`, { cause: error });
    }
  }

  readSysctl(path: readonly string[]): string | undefined {
    return readSysctl(this.#sys, path, this.#procSysDir);
  }
}

/** `ip6_route_check_nh_onlink` in net/ipv6/route.c. */
const isGatewayElsewhere = (
  operation: Operation,
  error: Error,
): operation is Extract<Operation, { kind: 'set-route' }> =>
  operation.kind === 'set-route' &&
  operation.route.onlink &&
  operation.route.gateway?.family === 6 &&
  hasCode(error, 'EINVAL');

/** The request, with the step's own text in its errors: interfaces by name, not by number. */
const named = (operation: Operation, { type, flags, encodeBody }: NetlinkRequest): NetlinkRequest =>
  makeRequest(type, flags, () => formatOperation(operation), encodeBody);

/** The netlink message for a step on an entry, not on a device. */
function requestOf(operation: Operation, index: number): NetlinkRequest {
  switch (operation.kind) {
    case 'add-address':
      return newAddress({ index, prefix: operation.address.prefix, noDad: true });
    case 'remove-address':
      return deleteAddress({ index, ...operation.address });
    case 'set-neighbour':
      return newNeighbour({ ...operation.neighbour, index });
    case 'remove-neighbour':
      return deleteNeighbour({ index, address: operation.neighbour.address });
    case 'set-fdb':
      return newFdbEntry({ ...operation.entry, index });
    case 'remove-fdb':
      return deleteFdbEntry({ ...operation.entry, index });
    case 'set-route': {
      const { destination, gateway, onlink, encapsulation } = operation.route;
      const protocol = routeProtocol.RTPROT_WEFT;
      const way = {
        ...(gateway && { gateway }),
        ...(encapsulation && { unknown: encapsulationAttributes(encapsulation) }),
      };
      return newRoute({ destination, ...way, oif: index, onlink, protocol }, 'replace');
    }
    case 'remove-route': {
      const { destination, gateway, metric } = operation.route;
      return deleteRoute({ destination, ...(gateway && { gateway }), oif: index, ...(metric > 0 && { metric }) });
    }
    default:
      throw new TypeError(`${operation.kind} is no step on an entry`);
  }
}
