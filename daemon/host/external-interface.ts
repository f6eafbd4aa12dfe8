/**
 * The external interface: other hosts reach this host by its address, and it carries the tunnel.
 *
 * As with flanneld, it is chosen by name, by address, by pattern or by a destination; otherwise it is the interface of
 * the default route, or without one, the interface that leads to the cluster's store. If no interface fits, the error lists the interfaces.
 *
 * An interface that serves containers is no candidate: it cannot carry the tunnel of its own packets. Only --iface can
 * name one, because that is the administrator's word; weftd then reports it.
 *
 * A chosen interface stays while it is up and has its address: a VPN that takes the default route, or an address that a
 * failover adds, must not move the tunnel. weftd follows a changed MTU or name at once. If the interface or an address
 * disappears, weftd chooses again. If nothing fits, it reports that and withdraws nothing: it keeps and repairs what it has
 * set up.
 */

import { parseGoPattern } from '../../command/go-pattern.ts';
import { printable } from '../../command/printable.ts';
import {
  type Address,
  type Family,
  families,
  formatAddress,
  isLinkLocal,
  parseAddress,
  sameAddress,
} from '../../net/address.ts';
import { type Prefix, prefixContains } from '../../net/prefix.ts';
import { isTunnelName } from '../backends/map.ts';

/** A network interface of the host with its usable addresses, the preferred first. */
export interface HostInterface {
  readonly index: number;
  readonly name: string;
  /** Its further names (`altname` of `ip link`). */
  readonly altNames?: readonly string[];
  readonly up: boolean;
  readonly loopback: boolean;
  readonly mtuBytes: number;
  readonly addresses: readonly Address[];
  /** The networks of `addresses`, in the same order. */
  readonly networks?: readonly Prefix[];
  /** It serves containers: the host's end of a container's veth, or a bridge without other ports. */
  readonly servesContainers?: boolean;
  /** A bridge without ports, or with containers only. If it has an address of the cluster, it serves containers. */
  readonly isInnerBridge?: boolean;
}

/** The route of a packet. */
export interface RouteAnswer {
  readonly index: number;
  readonly source: Address | undefined;
  /** The next hop. */
  readonly gateway?: Address | undefined;
}

/** How the interface is chosen. The first given kind of choice counts, and within it the first interface that fits. */
export interface InterfaceChoice {
  /** --iface: names or addresses. */
  readonly names: readonly string[];
  /** --iface-regex: regular expressions in Go's syntax for a name or an address. */
  readonly patterns: readonly string[];
  /** --iface-can-reach. */
  readonly canReach: Address | undefined;
  /** Addresses of the cluster's store. The interface that leads to one is taken if there is no default route. */
  readonly storeAddresses?: readonly Address[];
  /** --public-ip and --public-ipv6: the public address in the lease, if it is not the interface's own address (NAT). */
  readonly publicAddresses: Partial<Record<Family, Address>>;
}

export interface ExternalInterface {
  readonly index: number;
  readonly name: string;
  readonly mtuBytes: number;
  /** The interface's own address by family, for the families in use. */
  readonly addresses: Partial<Record<Family, Address>>;
  /** The public address by family, for the families in use. */
  readonly publicAddresses: Partial<Record<Family, Address>>;
}

/** No interface fits the choice. The message lists the interfaces and gives advice. */
export class InterfaceError extends Error {
  override readonly name = 'InterfaceError';
}

/** The host's state that the choice needs. */
export interface HostView {
  readonly interfaces: readonly HostInterface[];
  /** The default routes, the lowest metric first; of several next hops the first. */
  readonly defaultRoutes: (family: Family) => readonly RouteAnswer[];
  readonly lookupRoute: (destination: Address) => RouteAnswer | undefined;
}

const describe = ({ name, up, addresses }: HostInterface): string =>
  `${printable(name)} (${up ? addresses.map(formatAddress).join(', ') || 'no address' : 'down'})`;

const isInside = (address: Address, networks: readonly Prefix[]): boolean =>
  networks.some((network) => prefixContains(network, address));

const holdsClusterAddress = ({ addresses }: HostInterface, cluster: readonly Prefix[]): boolean =>
  addresses.some((address) => isInside(address, cluster));

/** Whether the interface cannot lead to other hosts: it is a tunnel of the cluster, or it serves containers. */
const isInner = (host: HostInterface, cluster: readonly Prefix[]): boolean =>
  isTunnelName(host.name) ||
  host.servesContainers === true ||
  (host.isInnerBridge === true && holdsClusterAddress(host, cluster));

/** The interfaces that may be chosen without being named. */
type Candidates = (host: HostInterface) => boolean;

/** `eth0 (192.0.2.1, 2001:db8::1), eth1 (down)` */
function describeAll(interfaces: readonly HostInterface[], isCandidate: Candidates): string {
  const rest = interfaces.filter(isCandidate);
  return rest.length > 0 ? `there are ${rest.map(describe).join(', ')}` : 'this host has none besides loopback';
}

interface Candidate {
  readonly host: HostInterface;
  /** The requested address, or the source address of the route. */
  readonly preferred?: Address | undefined;
}

function byName(name: string, view: HostView): Candidate | undefined {
  const address = parseAddress(name);
  const host = view.interfaces.find((candidate) =>
    address
      ? candidate.addresses.some((own) => sameAddress(own, address))
      : candidate.name === name || candidate.altNames?.includes(name),
  );
  return host && { host, preferred: address };
}

function byPattern(pattern: string, view: HostView, isCandidate: Candidates): Candidate | undefined {
  const matches = parseGoPattern(pattern);
  for (const host of view.interfaces.filter(isCandidate)) {
    const preferred = host.addresses.find((own) => matches(formatAddress(own)));
    if (preferred) return { host, preferred };
    if ([host.name, ...(host.altNames ?? [])].some((name) => matches(name))) return { host };
  }
  return undefined;
}

function byRoute(answer: RouteAnswer | undefined, view: HostView, isCandidate: Candidates): Candidate | undefined {
  const host = answer && view.interfaces.find(({ index }) => index === answer.index);
  return host && isCandidate(host) ? { host, preferred: answer.source } : undefined;
}

function firstOf<T>(items: readonly T[], find: (item: T) => Candidate | undefined): Candidate | undefined {
  for (const item of items) {
    const found = find(item);
    if (found) return found;
  }
  return undefined;
}

const quoted = (items: readonly string[]): string => items.map((item) => `"${item}"`).join(' or ');

/** The interface by pattern or route, or by the public address. */
function search(
  choice: InterfaceChoice,
  families: readonly Family[],
  view: HostView,
  isCandidate: Candidates,
): Candidate | undefined {
  if (choice.patterns.length > 0) return firstOf(choice.patterns, (pattern) => byPattern(pattern, view, isCandidate));
  if (choice.canReach) return byRoute(view.lookupRoute(choice.canReach), view, isCandidate);
  // If an interface has the public address, that interface is meant.
  const carried = firstOf(families, (family) => {
    const address = choice.publicAddresses[family];
    const found = address && byName(formatAddress(address), view);
    return found && (found.host.loopback || isCandidate(found.host)) ? found : undefined;
  });
  // An IPv6 network may have no IPv6 default route. Then the interface of the IPv4 default route is likely the right one.
  const byDefault = (family: Family): Candidate | undefined =>
    firstOf(view.defaultRoutes(family), (route) => byRoute(route, view, isCandidate));
  return (
    carried ??
    firstOf([...families, 4 as const, 6 as const], byDefault) ??
    firstOf(choice.storeAddresses ?? [], (address) => byRoute(view.lookupRoute(address), view, isCandidate))
  );
}

/** @param cluster the cluster's networks */
function findCandidate(
  choice: InterfaceChoice,
  families: readonly Family[],
  view: HostView,
  cluster: readonly Prefix[],
): Candidate {
  const mayLeadOut: Candidates = (host) => !host.loopback && !isInner(host, cluster);
  const isOutside: Candidates = (host) => mayLeadOut(host) && !holdsClusterAddress(host, cluster);
  const fail = (what: string, advice: string): never => {
    throw new InterfaceError(
      `Cannot choose the external interface: ${what}; ${describeAll(view.interfaces, isOutside)}; ${advice}`,
    );
  };
  if (choice.names.length > 0) {
    return (
      firstOf(choice.names, (name) => byName(name, view)) ??
      fail(`no interface has the name or address ${quoted(choice.names)} (--iface)`, 'give one of these')
    );
  }
  // The cluster's network may include the network between the hosts. Then the external interface has such an address.
  const found = search(choice, families, view, isOutside) ?? search(choice, families, view, mayLeadOut);
  if (found) return found;
  if (choice.patterns.length > 0) {
    return fail(
      `no interface's name or address matches ${quoted(choice.patterns)} (--iface-regex)`,
      'correct the expression',
    );
  }
  return choice.canReach
    ? fail(`no route leads to "${formatAddress(choice.canReach)}" (--iface-can-reach)`, 'choose one with --iface')
    : fail('there is no default route', 'choose one with --iface');
}

/** The interface's address whose network holds the next hop of a default route by this interface. */
function addressToNextHop(
  { index, addresses, networks = [] }: HostInterface,
  family: Family,
  view: HostView,
): Address | undefined {
  const gateways = view.defaultRoutes(family).flatMap((route) => (route.index === index && route.gateway) || []);
  return addresses.find((address, i) => {
    const network = networks[i];
    return network && !isLinkLocal(address) && gateways.some((gateway) => prefixContains(network, gateway));
  });
}

/** The address to use for the family; undefined if the interface has none. */
function pickAddress(
  host: HostInterface,
  family: Family,
  told: Address | undefined,
  preferred: Address | undefined,
  view: HostView,
): Address | undefined {
  const own = host.addresses.filter((address) => address.family === family);
  return (
    // The public address if the interface has it, because peers accept packets from that one only. Otherwise the
    // requested address, or else the one on the way out, or the first that is not link-local.
    own.find((candidate) => told && sameAddress(candidate, told)) ??
    own.find((candidate) => preferred && sameAddress(candidate, preferred)) ??
    addressToNextHop(host, family, view) ??
    own.find((candidate) => !isLinkLocal(candidate)) ??
    (family === 4 ? own[0] : undefined)
  );
}

/**
 * @param families the families in use, preferred first
 * @param cluster the cluster's networks
 * @throws InterfaceError if no interface fits, or if it has no address of a family in use
 */
export function chooseInterface(
  choice: InterfaceChoice,
  families: readonly Family[],
  view: HostView,
  cluster: readonly Prefix[] = [],
): ExternalInterface {
  const { host, preferred } = findCandidate(choice, families, view, cluster);
  if (!host.up) throw new InterfaceError(`The external interface "${host.name}" is down`);
  const addresses: Partial<Record<Family, Address>> = {};
  const publicAddresses: Partial<Record<Family, Address>> = {};
  for (const family of families) {
    const told = choice.publicAddresses[family];
    const address = pickAddress(host, family, told, preferred, view);
    if (!address) {
      const has = host.addresses.map(formatAddress).join(', ') || 'no address at all';
      throw new InterfaceError(
        `The external interface "${host.name}" has no IPv${family} address (it has ${has}), but the network config uses IPv${family}`,
      );
    }
    addresses[family] = address;
    publicAddresses[family] = told ?? address;
  }
  return { index: host.index, name: host.name, mtuBytes: host.mtuBytes, addresses, publicAddresses };
}

/**
 * Why peers with a peer lock may drop this host's packets: the public address is on another interface of this host, so
 * packets have the external interface's own address. (A public address on no interface belongs to a device that
 * translates addresses.)
 */
export function findSourceProblem(
  { name, addresses, publicAddresses }: ExternalInterface,
  { interfaces }: HostView,
): string | undefined {
  for (const family of families) {
    const [own, told] = [addresses[family], publicAddresses[family]];
    if (!own || !told || sameAddress(own, told)) continue;
    const holder = interfaces.find((each) => each.addresses.some((address) => sameAddress(address, told)));
    if (!holder) continue;
    const option = family === 4 ? '--public-ip' : '--public-ipv6';
    const instead = holder.loopback ? '' : `with --iface=${holder.name}, or `;
    return `The public address "${formatAddress(told)}" (${option}) is "${holder.name}"'s, but packets leave by "${name}" with the address "${formatAddress(own)}", which peers with a peer lock drop: run weftd ${instead}without ${option}`;
  }
  return undefined;
}

/**
 * The previous interface, for as long as no interface fits the choice. If it still exists, a lost address keeps its
 * previous value, so that nothing is withdrawn and the other family stays in order.
 * @returns undefined if it is gone or down, or had no address of a family
 */
export function keepInterface(
  before: ExternalInterface,
  { publicAddresses: told }: InterfaceChoice,
  families: readonly Family[],
  { interfaces }: HostView,
): ExternalInterface | undefined {
  const { index, name } = before;
  const host = interfaces.find((candidate) => candidate.index === index && candidate.name === name);
  if (!host?.up || !families.every((family) => before.addresses[family])) return undefined;
  const addresses: Partial<Record<Family, Address>> = {};
  const publicAddresses: Partial<Record<Family, Address>> = {};
  for (const family of families) {
    const known = before.addresses[family]!;
    const own = host.addresses.filter((address) => address.family === family && !isLinkLocal(address));
    const address = own.find((candidate) => sameAddress(candidate, known)) ?? own[0] ?? known;
    addresses[family] = address;
    publicAddresses[family] = told[family] ?? address;
  }
  return { index, name, mtuBytes: host.mtuBytes, addresses, publicAddresses };
}

/**
 * The previous interface, if there is no reason to choose again: it is up and still has the addresses in use.
 * @param cluster the cluster's networks
 */
export function stayOn(
  before: ExternalInterface,
  choice: InterfaceChoice,
  families: readonly Family[],
  view: HostView,
  cluster: readonly Prefix[],
): ExternalInterface | undefined {
  const host = view.interfaces.find(({ index }) => index === before.index);
  if (!host?.up || (choice.names.length === 0 && isInner(host, cluster))) return undefined;
  const addresses: Partial<Record<Family, Address>> = {};
  const publicAddresses: Partial<Record<Family, Address>> = {};
  for (const family of families) {
    const told = choice.publicAddresses[family];
    const known = before.addresses[family];
    const has = (address: Address): boolean => host.addresses.some((own) => sameAddress(own, address));
    // The public address has appeared: on this interface it is the one to use, on another it may be the one meant.
    const isElsewhere =
      told && !(known && sameAddress(known, told)) && (has(told) || byName(formatAddress(told), view) !== undefined);
    if (isElsewhere && (choice.names.length === 0 || has(told))) return undefined;
    const address = known ? (has(known) ? known : undefined) : pickAddress(host, family, told, undefined, view);
    if (!address) return undefined;
    addresses[family] = address;
    publicAddresses[family] = told ?? address;
  }
  return { index: host.index, name: host.name, mtuBytes: host.mtuBytes, addresses, publicAddresses };
}

/**
 * The interface that an earlier weftd chose, if this host still has it: one with all of these addresses, and by
 * preference with this name.
 */
export function recallInterface(
  { name, addresses: chosen }: { readonly name: string; readonly addresses: readonly Address[] },
  families: readonly Family[],
  { interfaces }: HostView,
): ExternalInterface | undefined {
  const known = chosen.filter(({ family }) => families.includes(family));
  const holders = interfaces.filter(
    (host) => known.length > 0 && known.every((address) => host.addresses.some((own) => sameAddress(own, address))),
  );
  const host = holders.find((holder) => holder.name === name) ?? holders[0];
  if (!host) return undefined;
  const addresses: Partial<Record<Family, Address>> = {};
  for (const address of known) addresses[address.family] ??= address;
  return { index: host.index, name: host.name, mtuBytes: host.mtuBytes, addresses, publicAddresses: addresses };
}

/** What is wrong with an interface that the administrator named. */
export function findInnerProblem(
  { index }: ExternalInterface,
  { interfaces }: HostView,
  cluster: readonly Prefix[],
): string | undefined {
  const host = interfaces.find((each) => each.index === index);
  if (!host || !isInner(host, cluster)) return undefined;
  return `The external interface "${host.name}" (--iface) serves containers or is a tunnel of the cluster, so other hosts are not reached by it: name another one with --iface`;
}
