/**
 * The external interface: other hosts reach this host by its address, and it carries the tunnel.
 *
 * As with flanneld, it is chosen by name, by address, by pattern or by a destination; otherwise it is the interface of
 * the default route. If no interface fits, the error lists the interfaces.
 *
 * weftd follows a changed address, MTU, index or default route at once. If the interface or an address disappears, weftd
 * reports it and withdraws nothing: it keeps and repairs what it has set up.
 */

import {
  type Address,
  type Family,
  families,
  formatAddress,
  isLinkLocal,
  parseAddress,
  sameAddress,
} from '../../net/address.ts';
import { isTunnelName } from '../backends/map.ts';

/** A network interface of the host with its usable addresses, the preferred first. */
export interface HostInterface {
  readonly index: number;
  readonly name: string;
  readonly up: boolean;
  readonly loopback: boolean;
  readonly mtuBytes: number;
  readonly addresses: readonly Address[];
}

/** The route of a packet. */
export interface RouteAnswer {
  readonly index: number;
  readonly source: Address | undefined;
}

/** How the interface is chosen. The first given kind of choice counts, and within it the first interface that fits. */
export interface InterfaceChoice {
  /** --iface: names or addresses. */
  readonly names: readonly string[];
  /** --iface-regex: regular expressions for a name or an address. */
  readonly patterns: readonly string[];
  /** --iface-can-reach. */
  readonly canReach: Address | undefined;
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
  /** The interface of the default route with the lowest metric. */
  readonly defaultRoute: (family: Family) => RouteAnswer | undefined;
  readonly lookupRoute: (destination: Address) => RouteAnswer | undefined;
}

const describe = ({ name, up, addresses }: HostInterface): string =>
  `${name} (${up ? addresses.map(formatAddress).join(', ') || 'no address' : 'down'})`;

/** `eth0 (192.0.2.1, 2001:db8::1), eth1 (down)`; the loopback interface is left out. */
function describeAll(interfaces: readonly HostInterface[]): string {
  const rest = interfaces.filter(({ loopback, name }) => !loopback && !isTunnelName(name));
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
    address ? candidate.addresses.some((own) => sameAddress(own, address)) : candidate.name === name,
  );
  return host && { host, preferred: address };
}

function byPattern(pattern: string, view: HostView): Candidate | undefined {
  const expression = new RegExp(pattern);
  for (const host of view.interfaces) {
    // A tunnel cannot carry itself, even if the pattern matches it.
    if (host.loopback || isTunnelName(host.name)) continue;
    const preferred = host.addresses.find((own) => expression.test(formatAddress(own)));
    if (preferred) return { host, preferred };
    if (expression.test(host.name)) return { host };
  }
  return undefined;
}

function byRoute(answer: RouteAnswer | undefined, view: HostView): Candidate | undefined {
  const host = answer && view.interfaces.find(({ index }) => index === answer.index);
  return host && !host.loopback ? { host, preferred: answer.source } : undefined;
}

function firstOf<T>(items: readonly T[], find: (item: T) => Candidate | undefined): Candidate | undefined {
  for (const item of items) {
    const found = find(item);
    if (found) return found;
  }
  return undefined;
}

const quoted = (items: readonly string[]): string => items.map((item) => `"${item}"`).join(' or ');

function findCandidate(choice: InterfaceChoice, families: readonly Family[], view: HostView): Candidate {
  const fail = (what: string, advice: string): never => {
    throw new InterfaceError(
      `Cannot choose the external interface: ${what}; ${describeAll(view.interfaces)}; ${advice}`,
    );
  };
  if (choice.names.length > 0) {
    return (
      firstOf(choice.names, (name) => byName(name, view)) ??
      fail(`no interface has the name or address ${quoted(choice.names)} (--iface)`, 'give one of these')
    );
  }
  if (choice.patterns.length > 0) {
    return (
      firstOf(choice.patterns, (pattern) => byPattern(pattern, view)) ??
      fail(
        `no interface's name or address matches ${quoted(choice.patterns)} (--iface-regex)`,
        'correct the expression',
      )
    );
  }
  if (choice.canReach) {
    return (
      byRoute(view.lookupRoute(choice.canReach), view) ??
      fail(`no route leads to "${formatAddress(choice.canReach)}" (--iface-can-reach)`, 'choose one with --iface')
    );
  }
  // If an interface has the public address, that interface is meant.
  const carried = firstOf(families, (family) => {
    const address = choice.publicAddresses[family];
    return address && byName(formatAddress(address), view);
  });
  return (
    carried ??
    // An IPv6 network may have no IPv6 default route. Then the interface of the IPv4 default route is likely the right
    // one.
    firstOf([...families, 4 as const, 6 as const], (family) => byRoute(view.defaultRoute(family), view)) ??
    fail('there is no default route', 'choose one with --iface')
  );
}

/**
 * @param families the families in use, preferred first
 * @throws InterfaceError if no interface fits, or if it has no address of a family in use
 */
export function chooseInterface(
  choice: InterfaceChoice,
  families: readonly Family[],
  view: HostView,
): ExternalInterface {
  const { host, preferred } = findCandidate(choice, families, view);
  if (!host.up) throw new InterfaceError(`The external interface "${host.name}" is down`);
  const addresses: Partial<Record<Family, Address>> = {};
  const publicAddresses: Partial<Record<Family, Address>> = {};
  for (const family of families) {
    const own = host.addresses.filter((address) => address.family === family);
    const told = choice.publicAddresses[family];
    // The public address if the interface has it, because peers accept packets from that one only. Otherwise the
    // requested address, or else the first that is not link-local.
    const address =
      own.find((candidate) => told && sameAddress(candidate, told)) ??
      own.find((candidate) => preferred && sameAddress(candidate, preferred)) ??
      own.find((candidate) => !isLinkLocal(candidate)) ??
      (family === 4 ? own[0] : undefined);
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
