/**
 * The steps that bring the kernel to the desired state: a pure comparison.
 *
 * The order is flannel's, and makes a peer reachable at once: first entries that nothing uses yet (neighbour, then FDB
 * entry), the route last; removal in reverse. A plan touches only what is weftd's: everything on its own devices, the very
 * place of a desired route, and elsewhere routes to a part of the cluster's networks that carry its mark, or are flannel's
 * (flannel-routes.ts). No other route is removed, whatever a lease names as its gateway.
 *
 * Applying a plan and planning again gives nothing.
 */

import { isTunnelKind } from '../../linux/netlink/tunnel.ts';
import { addressKey, sameAddress } from '../../net/address.ts';
import { type Mac, macKey, sameMac } from '../../net/mac.ts';
import { formatPrefix, networkKey, networkOf, type Prefix, prefixContains } from '../../net/prefix.ts';
import {
  type ActualAddress,
  type ActualDevice,
  type ActualFdbEntry,
  type ActualRoute,
  type ActualState,
  type DesiredState,
  type DeviceAddress,
  defaultMetric,
  type FdbEntry,
  formatFdbEntry,
  formatNeighbour,
  formatRoute,
  type NeighbourEntry,
  type RouteEntry,
  routeProtocol,
  sameWay,
  type TunnelDevice,
} from '../backends/entries.ts';
import { isTunnelName } from '../backends/map.ts';

export interface DeviceChanges {
  readonly mac?: Mac;
  readonly mtuBytes?: number;
  readonly up?: true;
  /** Out of the bridge that somebody has put it in. */
  readonly master?: 0;
  readonly arp?: true;
  readonly protoDown?: false;
}

/** One step. `set-…` adds, or replaces what is there under the same key. */
export type Operation =
  | { readonly kind: 'add-device'; readonly device: TunnelDevice }
  | { readonly kind: 'change-device'; readonly name: string; readonly changes: DeviceChanges }
  | { readonly kind: 'remove-device'; readonly name: string; readonly because: string }
  | { readonly kind: 'add-address'; readonly address: DeviceAddress }
  | { readonly kind: 'remove-address'; readonly address: ActualAddress }
  | { readonly kind: 'set-neighbour' | 'remove-neighbour'; readonly neighbour: NeighbourEntry }
  | { readonly kind: 'set-fdb'; readonly entry: FdbEntry }
  | { readonly kind: 'remove-fdb'; readonly entry: ActualFdbEntry }
  | { readonly kind: 'set-route'; readonly route: RouteEntry }
  | { readonly kind: 'remove-route'; readonly route: ActualRoute };

export interface Plan {
  readonly operations: readonly Operation[];
  /** Obstacles that weftd must not change. */
  readonly problems: readonly string[];
}

/** `VXLAN device "flannel.1"` */
const describeDevice = ({ kind, name }: TunnelDevice): string => `${kind.toUpperCase()} device "${name}"`;

/** The step in words: `set route "10.1.2.0/24" via "10.1.2.0" on "flannel.1"`. Also what identifies it across plans. */
export function formatOperation(operation: Operation): string {
  switch (operation.kind) {
    case 'add-device':
      return `add ${describeDevice(operation.device)}`;
    case 'change-device':
      return `change ${Object.keys(operation.changes).map(changeName).join(', ')} of device "${operation.name}"`;
    case 'remove-device':
      return `remove device "${operation.name}"`;
    case 'add-address':
      return `add address "${formatPrefix(operation.address.prefix)}" to "${operation.address.device}"`;
    case 'remove-address':
      return `remove address "${formatPrefix(operation.address.prefix)}" from "${operation.address.device}"`;
    case 'set-neighbour':
      return `set ${formatNeighbour(operation.neighbour)}`;
    case 'remove-neighbour':
      return `remove ${formatNeighbour(operation.neighbour)}`;
    case 'set-fdb':
      return `set ${formatFdbEntry(operation.entry)}`;
    case 'remove-fdb':
      return `remove ${formatFdbEntry(operation.entry)}`;
    case 'set-route':
      return `set ${formatRoute(operation.route)}`;
    case 'remove-route':
      return `remove ${formatRoute(operation.route)}`;
  }
}

/** Whether the step is on a device itself, and not on an entry of one. */
export const isDeviceOperation = ({ kind }: Operation): boolean => kind.endsWith('-device');

/** The step's device. */
export function deviceOf(operation: Operation): string {
  switch (operation.kind) {
    case 'add-address':
    case 'remove-address':
      return operation.address.device;
    case 'set-neighbour':
    case 'remove-neighbour':
      return operation.neighbour.device;
    case 'set-fdb':
    case 'remove-fdb':
      return operation.entry.device;
    case 'set-route':
    case 'remove-route':
      return operation.route.device;
    case 'add-device':
      return operation.device.name;
    case 'change-device':
    case 'remove-device':
      return operation.name;
  }
}

const changeName = (key: string): string =>
  ({ mac: 'MAC', mtuBytes: 'MTU', up: 'state', arp: 'ARP', protoDown: 'carrier' })[key] ?? key;

/** The key of an entry. Formatting a text for 15,000 entries would be slow. */
type Key = number | string;

const prefixKey = (prefix: Prefix): Key => networkKey(networkOf(prefix));

function deviceChanges({ mac, ...device }: TunnelDevice, actual: ActualDevice): DeviceChanges | undefined {
  const changes: DeviceChanges = {
    ...(!mac || (actual.mac && sameMac(actual.mac, mac)) ? {} : { mac }),
    ...(actual.mtuBytes === device.mtuBytes ? {} : { mtuBytes: device.mtuBytes }),
    ...(actual.up ? {} : { up: true as const }),
    ...(actual.master ? { master: 0 as const } : {}),
    // A device without a MAC needs no neighbour's.
    ...(mac && actual.noArp ? { arp: true as const } : {}),
    ...(actual.protoDown ? { protoDown: false as const } : {}),
  };
  return Object.keys(changes).length > 0 ? changes : undefined;
}

/** A set of keys per device. */
class DeviceKeys {
  readonly #keys = new Map<string, Set<Key>>();

  add(device: string, key: Key): void {
    const known = this.#keys.get(device);
    if (known) known.add(key);
    else this.#keys.set(device, new Set([key]));
  }

  has(device: string, key: Key): boolean {
    return this.#keys.get(device)?.has(key) === true;
  }
}

/**
 * Compares two lists by device and key: entries of `desired` that are missing or different in `actual`, and entries of
 * `actual` without a desired one. Several actual entries may share a key.
 */
function compare<D, A>(
  desired: readonly D[],
  actual: readonly A[],
  deviceOf: (entry: D | A) => string,
  keyOf: (entry: D | A) => Key,
  matches: (desired: D, actual: A) => boolean,
): { missing: D[]; surplus: A[] } {
  const missing = new Map<string, Map<Key, D>>();
  for (const entry of desired) {
    const device = deviceOf(entry);
    const entries = missing.get(device) ?? new Map<Key, D>();
    missing.set(device, entries.set(keyOf(entry), entry));
  }
  const surplus: A[] = [];
  for (const entry of actual) {
    const entries = missing.get(deviceOf(entry));
    const key = keyOf(entry);
    const want = entries?.get(key);
    if (want && matches(want, entry)) entries!.delete(key);
    else surplus.push(entry);
  }
  return { missing: [...missing.values()].flatMap((entries) => [...entries.values()]), surplus };
}

/** Whether weftd may replace and remove the route. */
function ownsRoute(desired: DesiredState, devices: ReadonlySet<string>, isFlannels: (route: ActualRoute) => boolean) {
  return (route: ActualRoute): boolean => {
    if (devices.has(route.device)) return true;
    // Another network's, whose weftd would set it again: it may have this network's former addresses.
    if (isTunnelName(route.device)) return false;
    const inside = desired.networks.some(
      (network) => route.destination.length > network.length && prefixContains(network, route.destination.address),
    );
    if (!inside) return false;
    if (route.protocol === routeProtocol.RTPROT_WEFT) return true;
    return route.protocol === routeProtocol.RTPROT_BOOT && isFlannels(route);
  };
}

export function plan(desired: DesiredState, actual: ActualState): Plan {
  const devicesBefore: Operation[] = [];
  const additions: Operation[] = [];
  const removals: Operation[] = [];
  const problems: string[] = [];

  const wantedDevices = new Set(desired.devices.map((device) => device.name));
  /** Devices whose addresses and entries the kernel drops before the entries are set. */
  const gone = new Set<string>();
  /** Devices that cannot be created now. */
  const blocked = new Set<string>();

  for (const device of desired.devices) {
    const link = actual.devices.find(({ name }) => name === device.name);
    if (!link) {
      const clashes = actual.devices.flatMap((other) => {
        const clash = other.kind === device.kind ? device.rules.clash(device, other) : undefined;
        return clash === undefined ? [] : [{ other, clash }];
      });
      const [first] = clashes;
      const isOurs = first?.other.mac && device.mac && sameMac(first.other.mac, device.mac);
      if (first && !isOurs) {
        problems.push(`Cannot make ${describeDevice(device)}: ${first.clash}`);
        blocked.add(device.name);
        continue;
      }
      // With our MAC it is ours under another name.
      if (first) {
        devicesBefore.push({ kind: 'remove-device', name: first.other.name, because: `it was "${device.name}"` });
      }
      devicesBefore.push({ kind: 'add-device', device });
      continue;
    }
    if (link.kind !== device.kind) {
      problems.push(
        `Cannot make ${describeDevice(device)}: a link of kind "${link.kind ?? 'physical'}" has this name; rename or delete it`,
      );
      blocked.add(device.name);
      continue;
    }
    const because = device.rules.difference(device, link);
    if (because !== undefined) {
      devicesBefore.push({ kind: 'remove-device', name: device.name, because }, { kind: 'add-device', device });
      gone.add(device.name);
      continue;
    }
    const changes = deviceChanges(device, link);
    if (changes) devicesBefore.push({ kind: 'change-device', name: device.name, changes });
  }
  const formerDevices = actual.devices.filter(
    ({ name, kind }) => isTunnelKind(kind) && desired.formerDevices.includes(name) && !wantedDevices.has(name),
  );

  const usable = <E extends { readonly device: string }>(entries: readonly E[]): E[] =>
    entries.filter(({ device }) => !blocked.has(device));
  const onOwnDevices = <E extends { readonly device: string }>(entries: readonly E[]): E[] =>
    entries.filter(({ device }) => wantedDevices.has(device) && !gone.has(device) && !blocked.has(device));

  const deviceAddressKey = ({ device, prefix }: DeviceAddress): string => `${device} ${formatPrefix(prefix)}`;
  const addresses = compare<DeviceAddress, ActualAddress>(
    usable(desired.addresses),
    onOwnDevices(actual.addresses),
    ({ device }) => device,
    ({ prefix }) => formatPrefix(prefix),
    (_, { local, oddity }) => local === undefined && oddity === undefined,
  );
  const missingAddresses = new Set(addresses.missing.map(deviceAddressKey));
  // A wrong one must make room for the right one.
  const inTheWay = (address: ActualAddress): boolean => missingAddresses.has(deviceAddressKey(address));
  for (const address of addresses.surplus) if (inTheWay(address)) additions.push({ kind: 'remove-address', address });
  for (const address of addresses.missing) additions.push({ kind: 'add-address', address });

  const neighbours = compare<NeighbourEntry, NeighbourEntry>(
    usable(desired.neighbours),
    onOwnDevices(actual.neighbours),
    ({ device }) => device,
    ({ address }) => addressKey(address),
    (a, b) => sameMac(a.mac, b.mac),
  );
  const replacedNeighbours = new DeviceKeys();
  for (const neighbour of neighbours.missing) {
    additions.push({ kind: 'set-neighbour', neighbour });
    replacedNeighbours.add(neighbour.device, addressKey(neighbour.address));
  }

  // In the kernel's table a MAC can lead to several hosts; here only to one.
  const fdb = compare<FdbEntry, ActualFdbEntry>(
    usable(desired.fdb),
    onOwnDevices(actual.fdb),
    ({ device }) => device,
    ({ mac }) => macKey(mac),
    (a, b) => b.oddity === undefined && sameAddress(a.destination, b.destination),
  );
  const surplusOf = new DeviceKeys();
  const severalOf = new DeviceKeys();
  for (const { device, mac } of fdb.surplus) {
    const key = macKey(mac);
    (surplusOf.has(device, key) ? severalOf : surplusOf).add(device, key);
  }
  const missingFdb = new DeviceKeys();
  for (const { device, mac } of fdb.missing) missingFdb.add(device, macKey(mac));
  const fdbRemovals: Operation[] = [];
  for (const entry of fdb.surplus) {
    const key = macKey(entry.mac);
    // A replacing request overwrites a single wrong destination; of several, only the first.
    if (!missingFdb.has(entry.device, key)) fdbRemovals.push({ kind: 'remove-fdb', entry });
    else if (severalOf.has(entry.device, key)) additions.push({ kind: 'remove-fdb', entry });
  }
  for (const entry of fdb.missing) additions.push({ kind: 'set-fdb', entry });

  const formerNames = new Set(formerDevices.map(({ name }) => name));
  const flannelGateways = new Set(desired.flannelGateways.map(addressKey));
  const owned = ownsRoute(
    desired,
    new Set([...wantedDevices, ...formerNames]),
    ({ gateway }) => gateway !== undefined && flannelGateways.has(addressKey(gateway)),
  );
  const presentRoutes = actual.routes.filter(({ device }) => !gone.has(device) && !blocked.has(device));
  const routes = compare<RouteEntry, ActualRoute>(
    usable(desired.routes),
    presentRoutes,
    () => '',
    ({ destination }) => prefixKey(destination),
    (a, b) =>
      sameWay(a, b) &&
      b.metric === defaultMetric[a.destination.address.family] &&
      (b.onlink || !a.onlink) &&
      b.oddity === undefined,
  );
  const replacedRoutes = new Set<Key>();
  for (const route of routes.missing) {
    additions.push({ kind: 'set-route', route });
    replacedRoutes.add(prefixKey(route.destination));
  }
  for (const route of routes.surplus) {
    if (!owned(route)) continue;
    const { family } = route.destination.address;
    // A replacing request overwrites the first route with the same destination and metric.
    if (route.metric === defaultMetric[family] && replacedRoutes.delete(prefixKey(route.destination))) continue;
    removals.push({ kind: 'remove-route', route });
  }
  removals.push(...fdbRemovals);
  for (const neighbour of neighbours.surplus) {
    const isReplaced = replacedNeighbours.has(neighbour.device, addressKey(neighbour.address));
    if (!isReplaced) removals.push({ kind: 'remove-neighbour', neighbour });
  }
  for (const address of addresses.surplus) if (!inTheWay(address)) removals.push({ kind: 'remove-address', address });
  for (const { name } of formerDevices) {
    removals.push({ kind: 'remove-device', name, because: 'the configuration no longer has it' });
  }
  return { operations: [...devicesBefore, ...additions, ...removals], problems };
}
