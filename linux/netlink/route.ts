/** Routes: RTM_NEWROUTE and its kin, `struct rtmsg` of include/uapi/linux/rtnetlink.h. */

import { type Address, type Family, formatAddress } from '../../net/address.ts';
import { defaultPrefix, formatPrefix, type Prefix } from '../../net/prefix.ts';
import { type Action, errno } from '../errors.ts';
import { familyNumber, familyOf } from './address.ts';
import { makeQuery, makeRequest, type NetlinkQuery, type NetlinkRequest } from './connection.ts';
import { encodeRawAttributes, NetlinkReader, type NetlinkWriter, nlmsg, type RawAttribute } from './wire.ts';

/** include/uapi/linux/rtnetlink.h */
export const rtmRoute = { RTM_NEWROUTE: 24, RTM_DELROUTE: 25, RTM_GETROUTE: 26 } as const;

/** include/uapi/linux/rtnetlink.h: attributes, RTAX_* metrics, and the values of rtmsg's fields */
export const rta = {
  RTA_DST: 1,
  RTA_OIF: 4,
  RTA_GATEWAY: 5,
  RTA_PRIORITY: 6,
  RTA_PREFSRC: 7,
  RTA_METRICS: 8,
  RTA_MULTIPATH: 9,
  RTA_TABLE: 15,
  RTA_ENCAP_TYPE: 21,
  RTA_ENCAP: 22,
  RTAX_MTU: 2,
  RTAX_ADVMSS: 8,
  RT_TABLE_UNSPEC: 0,
  RT_TABLE_MAIN: 254,
  RT_TABLE_LOCAL: 255,
  RTPROT_UNSPEC: 0,
  RTPROT_KERNEL: 2,
  RTPROT_BOOT: 3,
  RTPROT_STATIC: 4,
  RTPROT_RA: 9,
  RTPROT_DHCP: 16,
  RT_SCOPE_UNIVERSE: 0,
  RT_SCOPE_LINK: 253,
  RT_SCOPE_HOST: 254,
  RT_SCOPE_NOWHERE: 255,
  RTN_UNSPEC: 0,
  RTN_UNICAST: 1,
  RTN_LOCAL: 2,
  RTN_BLACKHOLE: 6,
  RTNH_F_ONLINK: 4,
} as const;

const rtmsgBytes = 12;
/** Of rtm_protocol in `struct rtmsg`. */
const protocolOffset = 5;

export interface Route {
  readonly family: Family;
  readonly destination: Prefix;
  readonly gateway?: Address;
  /** Index of the outgoing interface. */
  readonly oif?: number;
  readonly table: number;
  /** RTPROT_*: who made it. */
  readonly protocol: number;
  /** RT_SCOPE_* */
  readonly scope: number;
  /** RTN_*: 1 unicast, 2 local, … */
  readonly type: number;
  /** RTA_PRIORITY; the lowest wins. IPv6's default is 1024, and the kernel reports it. */
  readonly metric?: number;
  readonly preferredSource?: Address;
  /** The gateway counts as on the link, whatever addresses the interface has. */
  readonly onlink: boolean;
  readonly mtuBytes?: number;
  /** The MSS that TCP announces. */
  readonly advmss?: number;
  /** Other metrics (RTAX_*), undecoded. */
  readonly otherMetrics?: readonly RawAttribute[];
  /** RTNH_F_* and RTM_F_* bits as they came, `onlink` among them. */
  readonly flags: number;
  /** Other attributes (several next hops, expiry, …), undecoded. */
  readonly unknown?: readonly RawAttribute[];
}

export interface NewRoute {
  readonly destination: Prefix;
  readonly gateway?: Address;
  readonly oif?: number;
  /** Default as `ip route` has it: link for an IPv4 route without gateway, else universe. */
  readonly scope?: number;
  readonly onlink?: boolean;
  readonly preferredSource?: Address;
  /** Default main. */
  readonly table?: number;
  readonly metric?: number;
  readonly mtuBytes?: number;
  readonly advmss?: number;
  /** Default RTPROT_BOOT, as `ip route`. */
  readonly protocol?: number;
  /** Further attributes, encoded. */
  readonly unknown?: readonly RawAttribute[];
}

function actionOn(op: string, route: { destination: Prefix; gateway?: Address; oif?: number }): Action {
  const via = route.gateway ? `via ${formatAddress(route.gateway)}` : '';
  const on = route.oif === undefined ? '' : `on interface ${route.oif}`;
  return [op, formatPrefix(route.destination), `${via} ${on}`.trim() || undefined];
}

function encodeRequest(writer: NetlinkWriter, route: NewRoute, defaults: Pick<Route, 'scope' | 'type' | 'protocol'>) {
  encodeRoute(writer, {
    ...route,
    family: route.destination.address.family,
    table: route.table ?? rta.RT_TABLE_MAIN,
    protocol: route.protocol ?? defaults.protocol,
    scope: route.scope ?? defaults.scope,
    type: defaults.type,
    onlink: route.onlink ?? false,
    flags: route.onlink ? rta.RTNH_F_ONLINK : 0,
  });
}

/**
 * Adds a route.
 * @param mode 'create': EEXIST if there is a route to this destination with this metric; 'replace': replaces that
 *   route; 'beside': keeps both, and with IPv4 this one comes first
 */
export const newRoute = (route: NewRoute, mode: 'create' | 'replace' | 'beside' = 'create'): NetlinkRequest =>
  makeRequest(
    rtmRoute.RTM_NEWROUTE,
    nlmsg.NLM_F_CREATE | { create: nlmsg.NLM_F_EXCL, replace: nlmsg.NLM_F_REPLACE, beside: 0 }[mode],
    () => actionOn(mode === 'replace' ? 'set route' : 'add route', route),
    (writer) => {
      const onLink = route.gateway === undefined && route.destination.address.family === 4;
      encodeRequest(writer, route, {
        scope: onLink ? rta.RT_SCOPE_LINK : rta.RT_SCOPE_UNIVERSE,
        type: rta.RTN_UNICAST,
        protocol: rta.RTPROT_BOOT,
      });
    },
  );

/**
 * Deletes the first route that matches all given fields. If there is none: ESRCH, or ENOENT for a default route of
 * IPv6.
 */
export const deleteRoute = (route: NewRoute): NetlinkRequest =>
  makeRequest(
    rtmRoute.RTM_DELROUTE,
    0,
    () => actionOn('delete route', route),
    (writer) =>
      encodeRequest(writer, route, {
        // These say "any" to the kernel.
        scope: rta.RT_SCOPE_NOWHERE,
        type: rta.RTN_UNSPEC,
        protocol: rta.RTPROT_UNSPEC,
      }),
  );

/**
 * The routes of a family, optionally only those of an interface or of a table; by default of all tables.
 * @param filter `without`: routes of this protocol are left out, which costs less than decoding them
 */
export const dumpRoutes = (filter: {
  family: Family;
  oif?: number;
  table?: number;
  without?: number | undefined;
}): NetlinkQuery<Route> =>
  makeQuery(
    rtmRoute.RTM_GETROUTE,
    () => `list IPv${filter.family} routes`,
    (writer) => {
      writer.u32(familyNumber(filter.family));
      writer.zeros(rtmsgBytes - 4);
      if (filter.table !== undefined) writer.attributeU32(rta.RTA_TABLE, filter.table);
      if (filter.oif !== undefined) writer.attributeU32(rta.RTA_OIF, filter.oif);
    },
    (_type, body) => (body.u8(protocolOffset) === filter.without ? undefined : decodeRoute(body)),
  );

/** The interfaces that IPv6 routes lead through which routers have advertised, by index: without decoding all of a route. */
export const dumpAdvertisedInterfaces = (): NetlinkQuery<number> =>
  makeQuery(
    rtmRoute.RTM_GETROUTE,
    () => 'list IPv6 routes',
    (writer) => {
      writer.u32(familyNumber(6));
      writer.zeros(rtmsgBytes - 4);
      writer.attributeU32(rta.RTA_TABLE, rta.RT_TABLE_MAIN);
    },
    (_type, body) => {
      if (body.u8(protocolOffset) !== rta.RTPROT_RA) return undefined;
      const r = body.attributes(rtmsgBytes, 'route');
      while (r.next()) {
        if (r.type === rta.RTA_OIF) return r.u32();
        // Of several next hops the first.
        if (r.type === rta.RTA_MULTIPATH) return r.u32(nextHopIndexOffset);
      }
      return undefined;
    },
  );

/** The route that the kernel would use for a packet to `destination`; undefined if there is none. */
export const lookupRoute = (destination: Address): NetlinkQuery<Route> =>
  makeQuery(
    rtmRoute.RTM_GETROUTE,
    () => ['find the route to', formatAddress(destination)],
    (writer) => {
      writer.u8(familyNumber(destination.family));
      writer.u8(destination.bytes.length * 8);
      writer.zeros(rtmsgBytes - 2);
      writer.attributeBytes(rta.RTA_DST, destination.bytes);
    },
    (_type, body) => {
      const route = decodeRoute(body);
      // IPv6 answers with a route of type "unreachable" where IPv4 answers with an error.
      return route && route.type > RTN_LAST_USABLE ? undefined : route;
    },
    [errno.ENETUNREACH, errno.EHOSTUNREACH],
  );
/** RTN_MULTICAST; those after it are blackhole, unreachable, prohibit, … */
const RTN_LAST_USABLE = 5;

/** The body of an RTM_NEWROUTE or RTM_DELROUTE message: `struct rtmsg` and attributes. */
export function encodeRoute(writer: NetlinkWriter, route: Route): void {
  const { destination, table } = route;
  writer.u8(familyNumber(route.family));
  writer.u8(destination.length);
  writer.u8(0);
  writer.u8(0);
  writer.u8(table > 255 ? rta.RT_TABLE_UNSPEC : table);
  writer.u8(route.protocol);
  writer.u8(route.scope);
  writer.u8(route.type);
  writer.u32(route.flags);
  if (destination.length > 0) writer.attributeBytes(rta.RTA_DST, destination.address.bytes);
  if (table > 255) writer.attributeU32(rta.RTA_TABLE, table);
  if (route.gateway) writer.attributeBytes(rta.RTA_GATEWAY, route.gateway.bytes);
  if (route.oif !== undefined) writer.attributeU32(rta.RTA_OIF, route.oif);
  if (route.metric !== undefined) writer.attributeU32(rta.RTA_PRIORITY, route.metric);
  if (route.preferredSource) writer.attributeBytes(rta.RTA_PREFSRC, route.preferredSource.bytes);
  if (route.mtuBytes !== undefined || route.advmss !== undefined || route.otherMetrics) {
    const metrics = writer.begin(rta.RTA_METRICS);
    if (route.mtuBytes !== undefined) writer.attributeU32(rta.RTAX_MTU, route.mtuBytes);
    if (route.advmss !== undefined) writer.attributeU32(rta.RTAX_ADVMSS, route.advmss);
    encodeRawAttributes(writer, route.otherMetrics);
    writer.end(metrics);
  }
  encodeRawAttributes(writer, route.unknown);
}

/** Destinations of messages that name none: default routes. */
const everywhere = { 4: defaultPrefix(4), 6: defaultPrefix(6) };

/** The body of an RTM_NEWROUTE or RTM_DELROUTE message; undefined for a family other than IPv4 and IPv6. */
export function decodeRoute(body: NetlinkReader): Route | undefined {
  const family = familyOf(body.u8(0));
  if (family === undefined) return undefined;
  const size = family === 4 ? 4 : 16;
  const flags = body.u32(8);
  let unknown: RawAttribute[] | undefined;
  const route: { -readonly [K in keyof Route]: Route[K] } = {
    family,
    destination: everywhere[family],
    table: body.u8(4),
    protocol: body.u8(protocolOffset),
    scope: body.u8(6),
    type: body.u8(7),
    onlink: (flags & rta.RTNH_F_ONLINK) !== 0,
    flags,
  };
  const length = body.u8(1);
  const r = body.attributes(rtmsgBytes, 'route');
  while (r.next()) {
    switch (r.type) {
      case rta.RTA_DST:
        route.destination = { address: { family, bytes: r.bytes(0, size) }, length };
        break;
      case rta.RTA_OIF:
        route.oif = r.u32();
        break;
      case rta.RTA_GATEWAY:
        route.gateway = { family, bytes: r.bytes(0, size) };
        break;
      case rta.RTA_PRIORITY:
        route.metric = r.u32();
        break;
      case rta.RTA_PREFSRC:
        route.preferredSource = { family, bytes: r.bytes(0, size) };
        break;
      case rta.RTA_TABLE:
        route.table = r.u32();
        break;
      case rta.RTA_METRICS: {
        const metrics = r.nested();
        const others: RawAttribute[] = [];
        while (metrics.next()) {
          if (metrics.type === rta.RTAX_MTU) route.mtuBytes = metrics.u32();
          else if (metrics.type === rta.RTAX_ADVMSS) route.advmss = metrics.u32();
          else others.push(metrics.raw());
        }
        if (others.length > 0) route.otherMetrics = others;
        break;
      }
      default:
        unknown ??= [];
        unknown.push(r.raw());
    }
  }
  if (unknown) route.unknown = unknown;
  return route;
}

/** `struct rtnexthop`: the interface stands behind length, flags and weight; attributes follow. */
const nextHopIndexOffset = 4;
const nextHopBytes = 8;

/** The interface that the route leaves by; of several next hops that of the first. */
export function outgoingInterface({ oif, unknown = [] }: Pick<Route, 'oif' | 'unknown'>): number | undefined {
  if (oif !== undefined) return oif;
  const hops = unknown.find(({ type }) => type === rta.RTA_MULTIPATH)?.value;
  return hops && new DataView(hops.buffer, hops.byteOffset).getInt32(nextHopIndexOffset, true);
}

/** The route's gateways: one, those of several next hops, or none. */
export function gatewaysOf({
  family,
  gateway,
  unknown = [],
}: Pick<Route, 'family' | 'gateway' | 'unknown'>): Address[] {
  if (gateway) return [gateway];
  const hops = unknown.find(({ type }) => type === rta.RTA_MULTIPATH)?.value;
  const gateways: Address[] = [];
  for (let rest = hops; rest && rest.length >= nextHopBytes; ) {
    const length = new DataView(rest.buffer, rest.byteOffset).getUint16(0, true);
    if (length < nextHopBytes || length > rest.length) break;
    const r = NetlinkReader.of('next hop', rest.subarray(0, length)).attributes(nextHopBytes, 'next hop');
    while (r.next())
      if (r.type === rta.RTA_GATEWAY) gateways.push({ family, bytes: r.bytes(0, family === 4 ? 4 : 16) });
    rest = rest.subarray((length + 3) & ~3);
  }
  return gateways;
}
