/**
 * The bridge. The first attachment creates it and gives it its addresses. It belongs to the host, not to an attachment:
 * no failure and no DEL removes it, because the next attachment may already be using it. It gets a MAC of its own, so
 * that its MAC stays the same when containers come and go. The kernel chooses that MAC, and it is set a second time before
 * the bridge is up: another one would take the carrier, and with it the link-local address, until a port is up. A bridge
 * that others made keeps the MAC that it has, if that is one: without ports, or with all of them down, its MAC is set once
 * more, and the kernel then leaves it alone.
 */

import { check, hasCode } from '../linux/errors.ts';
import { deleteAddress, dumpAddresses, type InterfaceAddress, newAddress } from '../linux/netlink/address.ts';
import { hasAny, type NetlinkConnection, type NetlinkRequest } from '../linux/netlink/connection.ts';
import { changeLink, createBridge, dumpLinkIndexes, getLink, iff, type Link } from '../linux/netlink/link.ts';
import type { Sys } from '../linux/sys.ts';
import { ensureSysctl } from '../linux/sysctl.ts';
import { isUnicastMac, localMac, type Mac } from '../net/mac.ts';
import { minimumMtuBytes } from '../net/mtu.ts';
import { formatPrefix, type Prefix, prefixesOverlap } from '../net/prefix.ts';
import { checkOtherCarriers } from './carriers.ts';
import { type AttachmentPlan, planAddress, type Sysctl, sameInterfaceAddress } from './plan.ts';
import { keepAdvertisedRoutes } from './router-advertisements.ts';
import { CniError, errorCodes } from './spec/errors.ts';

const macBytes = 6;

/** `count` random, locally administered MACs, by one system call. */
export function randomMacs(sys: Sys, count: number): Mac[] {
  const random = new ArrayBuffer(count * macBytes);
  check(sys.getrandom(random, 0, random.byteLength), 'get random bytes');
  return Array.from({ length: count }, (_, i) => localMac(new Uint8Array(random, i * macBytes, macBytes)));
}

/**
 * Applies settings of the current namespace.
 * @param set `setNewSysctl` for those of a link that was just made
 */
export function ensureSysctls(
  sys: Sys,
  sysctls: readonly Sysctl[],
  set: (...setting: Parameters<typeof ensureSysctl>) => unknown = ensureSysctl,
): void {
  for (const { path, value, optional } of sysctls) {
    try {
      set(sys, path, value);
    } catch (error) {
      // A kernel without IPv6, or a /proc/sys that is read-only.
      if (!optional || !hasCode(error, 'ENOENT', 'EROFS', 'EACCES')) throw error;
    }
  }
}

/** Ignores errors that mean that another process was faster. */
function executeUnless(
  connection: NetlinkConnection,
  requests: readonly NetlinkRequest[],
  ...codes: ['EEXIST' | 'EADDRNOTAVAIL']
) {
  for (const error of connection.executeEach(requests)) if (error && !hasCode(error, ...codes)) throw error;
}

function findOrCreate(
  connection: NetlinkConnection,
  { name, mtuBytes, vlanFiltering, gateways, isOnlyCarrier }: AttachmentPlan['bridge'],
): { link: Link; isNew: boolean; addresses: readonly InterfaceAddress[] } {
  const found = connection.get(getLink({ name }));
  const addresses = isOnlyCarrier ? checkOtherCarriers(connection, gateways, name, found?.index) : [];
  // One that is down may be another call's that is about to set it up.
  if (found) return { link: found, isNew: !found.up, addresses };
  const settings = {
    name,
    ...(mtuBytes === undefined ? {} : { mtuBytes }),
    ...(vlanFiltering ? { vlanFiltering } : {}),
  };
  executeUnless(connection, [createBridge(settings)], 'EEXIST');
  const link = connection.get(getLink({ name }));
  if (link) return { link, isNew: true, addresses };
  throw new CniError(errorCodes.kernelRefused, `The bridge "${name}" was deleted while a container was attached to it`);
}

/**
 * @param known addresses of the host that were read before
 * @throws CniError 106 where the link has another address than the plan says
 */
export function ensureAddresses(
  connection: NetlinkConnection,
  link: Link,
  plan: AttachmentPlan['bridge'],
  known: readonly InterfaceAddress[] = [],
): void {
  const { gateways, tolerated } = plan;
  const { index } = link;
  const add = (prefix: Prefix) => newAddress({ index, ...planAddress(prefix, false) });
  if (gateways.length === 0) return;
  if (tolerated === 'any') {
    // Other addresses do not matter: one message adds the address, or reports that it exists.
    const isKnown = (gateway: Prefix) =>
      known.some((address) => address.index === index && sameInterfaceAddress(address.prefix, gateway));
    const unknown = gateways.filter((gateway) => !isKnown(gateway));
    if (unknown.length > 0) executeUnless(connection, unknown.map(add), 'EEXIST');
    return;
  }
  const present = connection.dump(dumpAddresses({ index })).map(({ prefix }) => prefix);
  const isOneOf = (list: readonly Prefix[], prefix: Prefix) =>
    list.some((other) => sameInterfaceAddress(other, prefix));
  const missing = gateways.filter((gateway) => !isOneOf(present, gateway));
  // A bridge gets one IPv4 network unless the configuration asks for more. IPv6 networks only must not overlap. If the
  // gateway is present already, somebody wants the other addresses.
  const conflicts = (prefix: Prefix): boolean =>
    !isOneOf(gateways, prefix) &&
    !isOneOf(tolerated, prefix) &&
    missing.some(
      (gateway) =>
        gateway.address.family === prefix.address.family &&
        (gateway.address.family === 4 || prefixesOverlap(gateway, prefix)),
    );
  const others = present.filter(conflicts);
  if (others.length > 0 && !plan.replaceOthers) {
    throw new CniError(
      errorCodes.bridgeAddressDiffers,
      `The bridge "${plan.name}" has the address ${others.map(formatPrefix).join(', ')} and should have ` +
        `${gateways.map(formatPrefix).join(', ')}; remove the one it has, or set "forceAddress"`,
    );
  }
  executeUnless(
    connection,
    others.map((prefix) => deleteAddress({ index, prefix })),
    'EADDRNOTAVAIL',
  );
  executeUnless(connection, missing.map(add), 'EEXIST');
}

/** The bridge passes packets by its ports, or at least has some, or has its MAC from us. */
function isInUse(sys: Sys, { index, flags, operstate }: Link): boolean {
  if ((flags & iff.IFF_LOWER_UP) === 0) return false;
  // Others' bridge that has a carrier since it is up keeps its unknown state. It may have a thousand ports.
  return operstate === iff.IF_OPER_UP || hasAny(sys, dumpLinkIndexes({ master: index }));
}

/**
 * The MAC to set on a bridge that others made, which otherwise takes the lowest MAC of its ports, and zero without ports.
 * Undefined for one that is in use, because setting its MAC again would clear its neighbours. Zero is no MAC: no container
 * reaches a gateway that has it.
 */
function macToSet(sys: Sys, link: Link): Mac | undefined {
  if (!link.mac || !isUnicastMac(link.mac)) return randomMacs(sys, 1)[0];
  return isInUse(sys, link) ? undefined : link.mac;
}

/**
 * A bridge takes the MTU of its narrowest port. Below IPv6's least, the kernel takes IPv6 away from it, and all its
 * containers lose their gateway. One that is given an MTU keeps that.
 */
function ensureMtuForIPv6(connection: NetlinkConnection, { index, mtuBytes }: Link, wantedBytes?: number): void {
  const least = minimumMtuBytes[6];
  if (mtuBytes >= least) return;
  connection.execute([changeLink({ index }, { mtuBytes: Math.max(least, wantedBytes ?? least) })]);
}

/**
 * @param connection of the host's namespace, which the calling thread is in
 * @throws CniError 105, 106, 116
 */
export function ensureBridge(sys: Sys, connection: NetlinkConnection, plan: AttachmentPlan): Link {
  const { bridge } = plan;
  const { link, isNew, addresses } = findOrCreate(connection, bridge);
  if (link.kind !== 'bridge') {
    throw new CniError(
      errorCodes.notABridge,
      `"${bridge.name}" is ${link.kind ? `a ${link.kind} interface` : 'an interface'} and no bridge; name another by "bridge"`,
    );
  }
  if (bridge.gateways.some(({ address }) => address.family === 6)) {
    keepAdvertisedRoutes(sys, connection);
    ensureMtuForIPv6(connection, link, bridge.mtuBytes);
  }
  // Before its addresses, because an IPv6 address is refused while IPv6 is off.
  ensureSysctls(sys, isNew ? [...plan.newBridgeSysctls, ...plan.bridgeSysctls] : plan.bridgeSysctls);
  const promiscuous = bridge.promiscuous && (link.flags & iff.IFF_PROMISC) === 0;
  const mac = macToSet(sys, link);
  if (!link.up || promiscuous || mac) {
    connection.execute([
      changeLink(
        { index: link.index },
        {
          up: true,
          // A bridge that is up with a carrier keeps its unknown state, and each ADD would have to ask for its ports.
          ...(isNew ? { operstate: iff.IF_OPER_UP } : {}),
          ...(promiscuous ? { promiscuous: true } : {}),
          ...(mac ? { mac } : {}),
        },
      ),
    ]);
  }
  if (bridge.gatewayVlan === undefined) ensureAddresses(connection, link, bridge, addresses);
  return mac ? { ...link, mac } : link;
}
