/**
 * The containers that this host has: one record for each interface of a container in a network. It is put together from
 * the reservations of addresses and from the host's ends of the veth pairs.
 *
 * Later capabilities may add fields: the container's namespace and MAC, the pod's name, the runtime.
 */

import type { AttachmentName } from '../cni/spec/request.ts';
import { openNetlink } from '../linux/netlink/connection.ts';
import { dumpLinks, type Link } from '../linux/netlink/link.ts';
import type { Sys } from '../linux/sys.ts';
import type { Address } from '../net/address.ts';
import type { Mac } from '../net/mac.ts';
import { hostVethName, isHostVethAlias, parseHostVethAlias } from './host-end.ts';
import { type NetworkReservation, readReservations, readReservedAddresses } from './reader.ts';

/** The host's end of a veth pair. */
export interface HostEnd {
  readonly index: number;
  readonly name: string;
  readonly mac: Mac | undefined;
  readonly up: boolean;
  /** '' where it has none. */
  readonly alias: string;
}

export interface Attachment extends AttachmentName {
  readonly network: string;
  /** Empty for an attachment whose addresses another IPAM plugin keeps, or that has none. */
  readonly addresses: readonly Address[];
  /** missing: there is no such interface. unknown: the interfaces of the host cannot be listed. */
  readonly host: HostEnd | 'missing' | 'unknown';
}

/** Looks at the host at the time of the call. */
export interface AttachmentReader {
  /** Every attachment. Reads a file for each reservation. */
  list(): Attachment[];
  /** How many attachments have a host's end, by one list of links; undefined where links cannot be listed. */
  count(): number | undefined;
  /** Every reserved address of every network, by the names of files. */
  addresses(): Address[];
}

export interface Attachments extends AttachmentReader {
  /**
   * Calls back after a host's end has come, gone or changed, and whenever such an event may have been lost. It tells no
   * more than that: the listener calls `list`. An address is reserved before its link is made, and released after its
   * link is gone.
   */
  watch(onChange: () => void): { close(): void };
}

const toHostEnd = ({ index, name, mac, up, alias = '' }: Link): HostEnd => ({ index, name, mac, up, alias });

/** The veth interfaces of this network namespace; undefined where they cannot be listed. */
function readVeths(sys: Sys): HostEnd[] | undefined {
  try {
    const connection = openNetlink(sys);
    try {
      return connection.dump(dumpLinks({ kind: 'veth' })).map(toHostEnd);
    } finally {
      connection.close();
    }
  } catch {
    return undefined;
  }
}

/**
 * Puts reservations and interfaces together. An interface belongs to a reservation by its name, for an alias may be cut
 * off; one without a reservation is known by its alias.
 * @param veths undefined where they cannot be listed
 */
export function joinAttachments(
  reservations: readonly NetworkReservation[],
  veths: readonly HostEnd[] | undefined,
): Attachment[] {
  const byName = new Map(veths?.map((veth) => [veth.name, veth]));
  const missing = veths ? 'missing' : 'unknown';
  const found = new Map<string, Attachment>();
  for (const { network, address, holder } of reservations) {
    const key = `${network}/${holder.containerId}/${holder.ifname}`;
    const { addresses, host } = found.get(key) ?? {
      addresses: [],
      host: byName.get(hostVethName({ network, ...holder })) ?? missing,
    };
    found.set(key, { network, ...holder, addresses: [...addresses, address], host });
  }
  const reserved = new Set([...found.values()].map(({ host }) => host));
  const others = (veths ?? []).filter((veth) => !reserved.has(veth)).flatMap(toAttachment);
  return [...found.values(), ...others];
}

/** An attachment without a reservation, by its alias. */
function toAttachment(host: HostEnd): Attachment | readonly never[] {
  const named = parseHostVethAlias(host.alias);
  return named ? { ...named, addresses: [], host } : [];
}

/** @param dataDir where the plugins keep the reservations */
export const openAttachmentReader = (sys: Sys, dataDir: string): AttachmentReader => ({
  list: () => joinAttachments(readReservations(sys, dataDir), readVeths(sys)),
  count: () => readVeths(sys)?.filter(({ alias }) => isHostVethAlias(alias)).length,
  addresses: () => readReservedAddresses(sys, dataDir),
});
