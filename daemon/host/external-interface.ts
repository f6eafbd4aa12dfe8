/**
 * The external interface: the one whose address other hosts reach this host by, and that carries the tunnel.
 *
 * Asked for by name, address, pattern or by what it reaches, as flanneld has it; otherwise the one with the default
 * route. A choice that fits nothing says what there was to choose from.
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

/** Where a packet would go. */
export interface RouteAnswer {
  readonly index: number;
  readonly source: Address | undefined;
}

/** How the interface is chosen; the first kind that is given counts, and within a kind the first that fits. */
export interface InterfaceChoice {
  /** --iface: names or addresses. */
  readonly names: readonly string[];
  /** --iface-regex: regular expressions for a name or an address. */
  readonly patterns: readonly string[];
  /** --iface-can-reach. */
  readonly canReach: Address | undefined;
  /** --public-ip and --public-ipv6: what the lease says, where it is not the interface's own address (NAT). */
  readonly publicAddresses: Partial<Record<Family, Address>>;
}

export interface ExternalInterface {
  readonly index: number;
  readonly name: string;
  readonly mtuBytes: number;
  /** The interface's own address by family, for the families in use. */
  readonly addresses: Partial<Record<Family, Address>>;
  /** What other hosts are told, for the families in use. */
  readonly publicAddresses: Partial<Record<Family, Address>>;
}

/** Nothing fits the choice. The message says what is there and what to do. */
export class InterfaceError extends Error {
  override readonly name = 'InterfaceError';
}

/** What the host has, as the choice needs it. */
export interface HostView {
  readonly interfaces: readonly HostInterface[];
  /** The interface of the default route with the lowest metric. */
  readonly defaultRoute: (family: Family) => RouteAnswer | undefined;
  readonly lookupRoute: (destination: Address) => RouteAnswer | undefined;
}

const describe = ({ name, up, addresses }: HostInterface): string =>
  `${name} (${up ? addresses.map(formatAddress).join(', ') || 'no address' : 'down'})`;

/** `eth0 (192.0.2.1, 2001:db8::1), eth1 (down)`; the loopback interface is no choice. */
function describeAll(interfaces: readonly HostInterface[]): string {
  const rest = interfaces.filter(({ loopback, name }) => !loopback && !isTunnelName(name));
  return rest.length > 0 ? `there are ${rest.map(describe).join(', ')}` : 'this host has none besides loopback';
}

interface Candidate {
  readonly host: HostInterface;
  /** The address that was asked for, or that the route has as its source. */
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
    // A tunnel cannot carry itself, whatever the pattern says.
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
      fail(`no interface's name or address matches ${quoted(choice.patterns)} (--iface-regex)`, 'mend the expression')
    );
  }
  if (choice.canReach) {
    return (
      byRoute(view.lookupRoute(choice.canReach), view) ??
      fail(`no route leads to "${formatAddress(choice.canReach)}" (--iface-can-reach)`, 'choose one with --iface')
    );
  }
  // A public address that an interface carries says which one is meant.
  const carried = firstOf(families, (family) => {
    const address = choice.publicAddresses[family];
    return address && byName(formatAddress(address), view);
  });
  return (
    carried ??
    // An IPv6 network may well have no IPv6 way out; the interface that leads out by IPv4 is the likely one then.
    firstOf([...families, 4 as const, 6 as const], (family) => byRoute(view.defaultRoute(family), view)) ??
    fail('there is no default route', 'choose one with --iface')
  );
}

/**
 * @param families the families in use, preferred first
 * @throws InterfaceError when nothing fits, or what fits has no address of a family in use
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
    // The public one if the interface has it, since peers take packets from no other; else the one asked for; else the
    // first that is not link-local.
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
 * Why peers with a peer lock may not take this host's packets: they are told of an address that the host has elsewhere,
 * so that the external interface's own is what packets come from. (One that the host has nowhere is another's who
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
 * The interface that was chosen before, while the choice fits nothing: where it is still there, an address that it has
 * lost stays what it was, so that nothing is withdrawn, and the other family is looked after, until there is a better one.
 * @returns undefined where it is gone, down, or knew nothing of a family
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
