/**
 * Plans an attachment: its links, addresses, routes and sysctls, from the configuration, the node's network and the
 * IPAM's answer. Pure; attach.ts carries it out.
 */

import type { NewAddress } from '../linux/netlink/address.ts';
import type { NewRoute } from '../linux/netlink/route.ts';
import { type Address, type Family, families, isUnspecified, offsetAddress } from '../net/address.ts';
import { formatMac, type Mac } from '../net/mac.ts';
import { minimumMtuBytes } from '../net/mtu.ts';
import { defaultPrefix, lastAddressOf, networkOf, type Prefix, samePrefix } from '../net/prefix.ts';
import { type AttachmentId, hostVethAlias, hostVethName } from '../reservations/host-end.ts';
import type { PortVlans, Settings } from './settings.ts';
import { CniError, errorCodes } from './spec/errors.ts';
import type { Result, ResultInterface, ResultIp, ResultRoute } from './spec/results.ts';

export type { PortVlans };

/** A kernel setting. Optional: not every kernel or namespace has it, and the attachment works without it. */
export interface Sysctl {
  readonly path: readonly string[];
  readonly value: string;
  readonly optional: boolean;
}

export interface PlanInput {
  readonly attachment: AttachmentId;
  /** CNI_NETNS, unchanged. */
  readonly netns: string;
  readonly settings: Settings;
  /** MTU of the node's network, if it is in use. */
  readonly nodeMtuBytes: number | undefined;
  /** The IPAM's answer; empty for layer 2. */
  readonly ipam: Pick<Result, 'ips' | 'routes' | 'dns'>;
  /** The known gateways of other attachments to the bridge. */
  readonly knownGateways: readonly Prefix[];
  readonly hostMac: Mac;
  readonly containerMac: Mac;
}

export interface AttachmentPlan {
  readonly bridge: {
    readonly name: string;
    /** For a bridge that does not exist yet. */
    readonly mtuBytes: number | undefined;
    /** For a bridge that does not exist yet. */
    readonly vlanFiltering: boolean;
    readonly promiscuous: boolean;
    /** The VLAN whose gateway carries the addresses; undefined: the bridge itself carries them. */
    readonly gatewayVlan: number | undefined;
    /** The addresses that it must have. */
    readonly gateways: readonly Prefix[];
    /** Other addresses that it may have; 'any': all. */
    readonly tolerated: readonly Prefix[] | 'any';
    /** Whether other addresses are removed, rather than refused. */
    readonly replaceOthers: boolean;
    /** Whether no other interface may have the gateways' subnets: they are the node's. */
    readonly isOnlyCarrier: boolean;
  };
  readonly host: {
    readonly name: string;
    readonly mac: Mac;
    readonly alias: string;
    readonly mtuBytes: number | undefined;
    readonly hairpin: boolean;
    readonly isolated: boolean;
    readonly vlans: PortVlans | undefined;
  };
  readonly container: {
    readonly name: string;
    readonly mac: Mac;
    readonly mtuBytes: number | undefined;
    readonly up: boolean;
    readonly addresses: readonly Omit<NewAddress, 'index'>[];
    readonly routes: readonly Omit<NewRoute, 'oif'>[];
  };
  /** In the host's namespace: for the bridge, for forwarding and for the host's end. */
  readonly bridgeSysctls: readonly Sysctl[];
  /** For a new bridge, which has no ports yet. */
  readonly newBridgeSysctls: readonly Sysctl[];
  readonly hostSysctls: readonly Sysctl[];
  /** In the container's namespace. */
  readonly containerSysctls: readonly Sysctl[];
  /** Makes the result. Only the bridge's MAC is not known before the bridge is. */
  readonly result: (bridgeMac: Mac | undefined) => Result;
}

/** include/uapi/linux/rtnetlink.h */
const RT_SCOPE_LINK = 253;
/** Prefixes longer than this have no broadcast address (RFC 3021). */
const longestBroadcastPrefix = 30;

/** Index of the container's end in a result's `interfaces`: the bridge and the host's end come first. */
const containerInterfaceIndex = 2;

const familyOf = (prefix: Prefix): Family => prefix.address.family;

const ipv4Sysctl = (ifname: string, key: string, value: string): Sysctl => ({
  path: ['net', 'ipv4', 'conf', ifname, key],
  value,
  optional: true,
});
const ipv6Sysctl = (ifname: string, key: string, value: string, optional = true): Sysctl => ({
  path: ['net', 'ipv6', 'conf', ifname, key],
  value,
  optional,
});

function withGateway(ip: ResultIp, isGateway: boolean): ResultIp {
  const { address } = ip;
  const gateway = ip.gateway ?? (isGateway ? offsetAddress(networkOf(address).address, 1) : undefined);
  return { address, ...(gateway ? { gateway } : {}), interface: containerInterfaceIndex };
}

const isDefault = (route: ResultRoute): boolean => route.dst.length === 0 && isUnspecified(route.dst.address);

/** A default route for each family that has an address and no default route yet. */
function defaultRoutes(ips: readonly ResultIp[], routes: readonly ResultRoute[]): ResultRoute[] {
  return families.flatMap((family) => {
    const gateway = gatewayOf(ips, family);
    if (!gateway || routes.some((route) => isDefault(route) && familyOf(route.dst) === family)) return [];
    return [{ dst: defaultPrefix(family), gw: gateway }];
  });
}

const gatewayOf = (ips: readonly ResultIp[], family: Family): Address | undefined =>
  ips.find((ip) => familyOf(ip.address) === family && ip.gateway)?.gateway;

/** An interface's address as it is sent to the kernel. An IPv4 subnet has a broadcast address. */
export function planAddress(prefix: Prefix, duplicateDetection: boolean): Omit<NewAddress, 'index'> {
  if (familyOf(prefix) === 6) return { prefix, noDad: !duplicateDetection };
  return prefix.length > longestBroadcastPrefix ? { prefix } : { prefix, broadcast: lastAddressOf(prefix) };
}

/** No preferred source: the kernel chooses the address, also after addresses change. */
function planRoute(route: ResultRoute, ips: readonly ResultIp[]): Omit<NewRoute, 'oif'> {
  const gateway = route.gw ?? (route.scope === RT_SCOPE_LINK ? undefined : gatewayOf(ips, familyOf(route.dst)));
  return {
    destination: route.dst,
    ...(gateway ? { gateway } : {}),
    ...(route.mtu ? { mtuBytes: route.mtu } : {}),
    ...(route.advmss ? { advmss: route.advmss } : {}),
    ...(route.priority ? { metric: route.priority } : {}),
    ...(route.table ? { table: route.table } : {}),
    ...(route.scope === undefined ? {} : { scope: route.scope }),
  };
}

function uniquePrefixes(prefixes: readonly Prefix[]): Prefix[] {
  return prefixes.filter((prefix, i) => !prefixes.slice(0, i).some((other) => sameInterfaceAddress(other, prefix)));
}

/** Same address and same length. `samePrefix` compares networks only. */
export const sameInterfaceAddress = (a: Prefix, b: Prefix): boolean =>
  samePrefix(a, b) && a.address.bytes.every((byte, i) => byte === b.address.bytes[i]);

export function planAttachment(input: PlanInput): AttachmentPlan {
  const { attachment, settings, ipam } = input;
  const { ifname } = attachment;
  const { bridge } = settings;
  const mtuBytes = settings.mtuBytes ?? input.nodeMtuBytes;
  const ips = ipam.ips.map((ip) => withGateway(ip, settings.isGateway));
  const routes = settings.isDefaultGateway ? [...ipam.routes, ...defaultRoutes(ips, ipam.routes)] : ipam.routes;
  const used = new Set(ips.map((ip) => familyOf(ip.address)));
  if (used.has(6) && mtuBytes !== undefined && mtuBytes < minimumMtuBytes[6]) {
    const whose = settings.mtuBytes === undefined ? "that of this node's containers" : '"mtu"';
    throw new CniError(
      errorCodes.invalidConfiguration,
      `An IPv6 address needs an MTU of ${minimumMtuBytes[6]} or more, and ${whose} is ${mtuBytes}`,
    );
  }
  const gateways = settings.isGateway
    ? uniquePrefixes(
        ips.flatMap(({ gateway, address }) => (gateway ? [{ address: gateway, length: address.length }] : [])),
      )
    : [];
  const gatewayFamilies = new Set(gateways.map(familyOf));
  const name = hostVethName(attachment);
  const dns = settings.dns ?? ipam.dns;

  const bridgeSysctls: Sysctl[] = [ipv6Sysctl(bridge, 'accept_ra', '0')];
  if (gatewayFamilies.has(4)) {
    bridgeSysctls.push({ path: ['net', 'ipv4', 'ip_forward'], value: '1', optional: false });
  }
  if (gatewayFamilies.has(6)) {
    bridgeSysctls.push(ipv6Sysctl('all', 'forwarding', '1', false), ipv6Sysctl(bridge, 'disable_ipv6', '0', false));
  }
  // The bridge's link-local address is made from a MAC of our own. For a second or two after its first port comes up
  // the kernel checks that the address is unique. Until then the bridge could not ask for a container's MAC, and the
  // first container would be unreachable.
  const newBridgeSysctls = gatewayFamilies.has(6) ? [ipv6Sysctl(bridge, 'accept_dad', '0')] : [];
  const containerSysctls: Sysctl[] = [ipv4Sysctl(ifname, 'arp_notify', '1')];
  if (used.has(6)) {
    containerSysctls.push(
      ipv6Sysctl(ifname, 'disable_ipv6', '0', false),
      ipv6Sysctl(ifname, 'ndisc_notify', '1'),
      ipv6Sysctl(ifname, 'keep_addr_on_down', '1'),
    );
  }
  // Any neighbour could advertise a default route. A container without addresses may want them from a router (SLAAC).
  if (ips.length > 0) containerSysctls.push(ipv6Sysctl(ifname, 'accept_ra', '0'));
  containerSysctls.push(ipv6Sysctl(ifname, 'accept_dad', settings.duplicateDetection ? '1' : '0'));
  // A bridge in hairpin mode returns a container's own probe. This setting tells it from a probe of another host.
  if (settings.duplicateDetection) containerSysctls.push(ipv6Sysctl(ifname, 'enhanced_dad', '1'));

  return {
    bridge: {
      name: bridge,
      mtuBytes,
      vlanFiltering: settings.vlans !== undefined,
      promiscuous: settings.promiscuous,
      gatewayVlan: settings.vlans?.native,
      gateways,
      // The node's subnet may change while containers of the old one still run. Then both gateways stay.
      tolerated: settings.overlay && !settings.forceAddress ? 'any' : input.knownGateways,
      replaceOthers: settings.forceAddress,
      isOnlyCarrier: settings.overlay && settings.vlans?.native === undefined,
    },
    host: {
      name,
      mac: input.hostMac,
      alias: hostVethAlias(attachment),
      mtuBytes,
      hairpin: settings.hairpin,
      isolated: settings.isolated,
      vlans: settings.vlans,
    },
    container: {
      name: ifname,
      mac: input.containerMac,
      mtuBytes,
      up: !settings.interfaceDisabled,
      addresses: ips.map((ip) => planAddress(ip.address, settings.duplicateDetection)),
      routes: routes.map((route) => planRoute(route, ips)),
    },
    bridgeSysctls,
    newBridgeSysctls,
    hostSysctls: [ipv6Sysctl(name, 'accept_ra', '0')],
    containerSysctls,
    result: (bridgeMac) => {
      const mtu = mtuBytes === undefined ? {} : { mtu: mtuBytes };
      const interfaces: ResultInterface[] = [
        { name: bridge, ...(bridgeMac ? { mac: formatMac(bridgeMac) } : {}) },
        { name, mac: formatMac(input.hostMac), ...mtu },
        { name: ifname, mac: formatMac(input.containerMac), ...mtu, sandbox: input.netns },
      ];
      return { interfaces, ips, routes, dns };
    },
  };
}
