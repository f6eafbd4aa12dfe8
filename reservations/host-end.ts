/**
 * The host's end of a container's veth pair. Its name is derived from network, container and interface, and its alias
 * spells them out. DEL finds the interface by its name when the container's namespace is gone, GC, weftd and weftctl know
 * its owner by the alias, and `ip link` shows it to people.
 */

import type { AttachmentName } from '../cni/spec/request.ts';

/** Which attachment: one interface of a container in a network. */
export interface AttachmentId extends AttachmentName {
  readonly network: string;
}

/** FNV-1a, 64 bits, of ASCII text: the two halves. */
function fnv1a(text: string): readonly [high: number, low: number] {
  let high = 0xcbf29ce4;
  let low = 0x84222325;
  for (let i = 0; i < text.length; i++) {
    low = (low ^ (text.charCodeAt(i) & 0xff)) >>> 0;
    // × 0x100000001b3, which is 2^40 + 0x1b3.
    const product = low * 0x1b3;
    high = (Math.imul(high, 0x1b3) + Math.floor(product / 2 ** 32) + (low << 8)) >>> 0;
    low = product >>> 0;
  }
  return [high, low];
}

/**
 * `veth` and eleven hex digits (IFNAMSIZ leaves 15 in all), always the same for an attachment. Changing this loses
 * track of the interfaces that are there.
 */
export function hostVethName({ network, containerId, ifname }: AttachmentId): string {
  const [high, low] = fnv1a(`${network}/${containerId}/${ifname}`);
  return `veth${(high & 0xfff).toString(16).padStart(3, '0')}${low.toString(16).padStart(8, '0')}`;
}

/** IFALIASZ, include/uapi/linux/if.h, is 256; the kernel takes less than that, the terminator included. */
const aliasLimitBytes = 254;

/** How the alias of every host's end begins, in any network. */
const aliasMark = 'weft ';

/** How the alias of every host's end of a network begins. */
export const aliasPrefix = (network: string): string => `${aliasMark}${network} `;

/** `weft <network> <container id> <interface>`, for people and for GC; cut off where the kernel takes no more. */
export const hostVethAlias = ({ network, containerId, ifname }: AttachmentId): string =>
  `${aliasPrefix(network)}${containerId} ${ifname}`.slice(0, aliasLimitBytes);

/** Whether an alias is that of a host's end, in any network. */
export const isHostVethAlias = (alias: string): boolean => alias.startsWith(aliasMark);

/** Reads an alias; undefined for others' aliases. One that was cut off gives a part of the names only. */
export function parseHostVethAlias(alias: string): AttachmentId | undefined {
  if (!isHostVethAlias(alias)) return undefined;
  const [network = '', containerId = '', ifname = ''] = alias.slice(aliasMark.length).split(' ');
  return { network, containerId, ifname };
}
