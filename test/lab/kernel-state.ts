/** The kernel's state of a namespace as sorted lines: for comparison before and after, and for people to read. */

import { run } from './commands.ts';

interface IpLink {
  ifindex: number;
  ifname: string;
  link?: string;
  link_index?: number;
  flags: string[];
  mtu: number;
  master?: string;
  address?: string;
  ifalias?: string;
  promiscuity?: number;
  proto_down?: boolean;
  linkinfo?: {
    info_kind?: string;
    info_data?: Record<string, unknown>;
    info_slave_kind?: string;
    info_slave_data?: Record<string, unknown>;
  };
  addr_info: { family: string; local: string; prefixlen: number; scope: string; broadcast?: string }[];
}

export interface LinkState {
  readonly index: number;
  readonly name: string;
  readonly kind: string;
  readonly up: boolean;
  readonly running: boolean;
  /** Without a carrier because some program says so. */
  readonly protoDown: boolean;
  /** Whether neighbours' MACs are used at all. */
  readonly arp: boolean;
  readonly mtu: number;
  readonly mac: string;
  readonly master: string | undefined;
  readonly alias: string | undefined;
  readonly promiscuous: boolean;
  readonly peerIndex: number | undefined;
  readonly data: Record<string, unknown>;
  readonly port: Record<string, unknown>;
  /** With prefix length. */
  readonly addresses: string[];
  /** Those of scope link, with prefix length. */
  readonly linkLocal: string[];
}

function json<T>(argv: readonly string[], namespace: string): T[] {
  const text = run([argv[0]!, '-n', namespace, '-j', ...argv.slice(1)]).trim();
  return text === '' ? [] : (JSON.parse(text) as T[]).filter((item) => Object.keys(item as object).length > 0);
}

/** Every link of the namespace but `lo`. */
export function readLinks(namespace: string): LinkState[] {
  return json<IpLink>(['ip', '-d', 'addr', 'show'], namespace)
    .filter((link) => link.ifname !== 'lo')
    .map((link) => ({
      index: link.ifindex,
      name: link.ifname,
      kind: link.linkinfo?.info_kind ?? '',
      up: link.flags.includes('UP'),
      running: link.flags.includes('LOWER_UP'),
      protoDown: link.proto_down === true,
      arp: !link.flags.includes('NOARP'),
      mtu: link.mtu,
      mac: link.address ?? '',
      master: link.master,
      alias: link.ifalias,
      promiscuous: link.flags.includes('PROMISC'),
      peerIndex: link.link_index,
      data: link.linkinfo?.info_data ?? {},
      port: link.linkinfo?.info_slave_data ?? {},
      addresses: link.addr_info.filter(({ scope }) => scope !== 'link').map((a) => `${a.local}/${a.prefixlen}`),
      linkLocal: link.addr_info.filter(({ scope }) => scope === 'link').map((a) => `${a.local}/${a.prefixlen}`),
    }));
}

export const readLink = (namespace: string, name: string): LinkState | undefined =>
  readLinks(namespace).find((link) => link.name === name);

export interface RouteState {
  readonly destination: string;
  readonly gateway: string | undefined;
  readonly device: string | undefined;
  readonly protocol: string;
  readonly scope: string | undefined;
  readonly preferredSource: string | undefined;
  readonly metric: number | undefined;
  readonly table: string | undefined;
  readonly flags: readonly string[];
  readonly mtu: number | undefined;
  readonly advmss: number | undefined;
}

interface IpRoute {
  dst: string;
  gateway?: string;
  dev?: string;
  protocol?: string;
  scope?: string;
  prefsrc?: string;
  metric?: number;
  table?: string;
  flags?: string[];
  metrics?: Record<string, number>[];
}

/** Routes of a family in the main table, or in all. Without the kernel's own for link-local and multicast. */
export function readRoutes(namespace: string, family: 4 | 6 = 4, table = 'main'): RouteState[] {
  return json<IpRoute>(['ip', `-${family}`, 'route', 'show', 'table', table], namespace)
    .filter(({ dst }) => !/^(fe80:|ff00:)/.test(dst))
    .map((route) => ({
      destination: route.dst,
      gateway: route.gateway,
      device: route.dev,
      protocol: route.protocol ?? '',
      scope: route.scope,
      preferredSource: route.prefsrc,
      metric: route.metric,
      table: route.table,
      // Whether a link has a carrier is no part of a route's configuration.
      flags: (route.flags ?? []).filter((flag) => flag !== 'linkdown' && flag !== 'dead'),
      mtu: route.metrics?.[0]?.['mtu'],
      advmss: route.metrics?.[0]?.['advmss'],
    }));
}

const withoutUndefined = (value: object): string =>
  JSON.stringify(Object.fromEntries(Object.entries(value).filter(([, v]) => v !== undefined)));

function linkLines(namespace: string): string[] {
  return readLinks(namespace).flatMap(({ addresses, linkLocal: _, running: __, data, port, ...link }) => [
    `link ${link.name} ${withoutUndefined({ ...link, ...stableData(link.kind, data), port: stablePort(port) })}`,
    ...addresses.map((address) => `address ${link.name} ${address}`),
  ]);
}

/** The configuration in a link's own data, without timers and counters. */
function stableData(kind: string, data: Record<string, unknown>): Record<string, unknown> {
  if (kind !== 'vxlan') return {};
  const { id, local, local6, link, port, learning, gbp, ttl, tos, remote, remote6 } = data;
  return {
    ...{ id, local: local ?? local6, lower: link, port, learning, gbp: gbp === true },
    ...{ ttl, tos, remote: remote ?? remote6 },
  };
}

function stablePort(port: Record<string, unknown>): Record<string, unknown> | undefined {
  const { hairpin, isolated, learning, flood } = port;
  return Object.keys(port).length > 0 ? { hairpin, isolated, learning, flood } : undefined;
}

/** IPv6's local routes follow from the addresses, and come later than these: when the kernel's work queue gets to it. */
const isOfAddress = ({ table, protocol }: RouteState): boolean => table === 'local' && protocol === 'kernel';

/** Links, their addresses and the routes: what an attachment touches. */
export function describeNamespace(namespace: string): string[] {
  return [
    ...linkLines(namespace),
    ...([4, 6] as const).flatMap((family) =>
      readRoutes(namespace, family, 'all')
        .filter((route) => family === 4 || !isOfAddress(route))
        .map((route) => `route${family} ${withoutUndefined(route)}`),
    ),
  ].sort();
}

interface IpNeighbour {
  dst: string;
  dev: string;
  lladdr?: string;
  state?: string[];
}

interface FdbEntry {
  mac: string;
  ifname: string;
  dst?: string;
  port?: number;
  flags?: string[];
  state?: string;
}

/** Permanent neighbours: what people and daemons configured, not what the kernel found out. */
export function readNeighbours(namespace: string): { device: string; address: string; mac: string }[] {
  return json<IpNeighbour>(['ip', 'neigh', 'show', 'nud', 'permanent'], namespace).map((entry) => ({
    device: entry.dev,
    address: entry.dst,
    mac: entry.lladdr ?? '',
  }));
}

/** Permanent forwarding entries with a destination: those of tunnels. */
export function readFdb(
  namespace: string,
): { device: string; mac: string; destination: string; port?: number | undefined }[] {
  return json<FdbEntry>(['bridge', 'fdb', 'show'], namespace)
    .filter((entry) => entry.dst !== undefined)
    .map(({ ifname, mac, dst, port }) => ({
      ...{ device: ifname, mac, destination: dst! },
      ...(port === undefined ? {} : { port }),
    }));
}

/** nftables' rules, with their handles (a replaced rule shows) but without counters' values. */
function ruleLines(namespace: string): string[] {
  const { nftables } = JSON.parse(run(['nft', '-j', '-a', 'list', 'ruleset'], { namespace })) as {
    nftables: Record<string, unknown>[];
  };
  return nftables
    .filter((item) => !('metainfo' in item))
    .map((item) => `nft ${JSON.stringify(item).replace(/"(packets|bytes|expires)":\s*\d+/g, '"$1":0')}`);
}

/** Everything: links, addresses, routes, permanent neighbours, forwarding entries, rules. */
export function describeHost(namespace: string): string[] {
  return [
    ...describeNamespace(namespace),
    ...readNeighbours(namespace).map((entry) => `neighbour ${JSON.stringify(entry)}`),
    ...readFdb(namespace).map((entry) => `fdb ${JSON.stringify(entry)}`),
    ...ruleLines(namespace),
  ].sort();
}

/** The difference for people: lines that went with `-`, lines that came with `+`. */
export function difference(before: readonly string[], after: readonly string[]): string[] {
  const [had, has] = [new Set(before), new Set(after)];
  return [
    ...before.filter((line) => !has.has(line)).map((line) => `- ${line}`),
    ...after.filter((line) => !had.has(line)).map((line) => `+ ${line}`),
  ];
}
