/**
 * host-local's format of a reservation: a file `<dataDir>/<network>/<address>` that holds `<container id>\r\n<interface>`.
 * Other files lie beside them: `lock`, `last_reserved_ip.<set>`, and Weft's temporary file.
 */

import type { AttachmentName } from '../cni/spec/request.ts';
import { type Address, parseAddress } from '../net/address.ts';

export interface Reservation {
  readonly address: Address;
  /** `ifname` is '' in a record of an old host-local, which holds the container's id only. */
  readonly holder: AttachmentName;
}

/** Names of reservations begin so, and no other name in the folder does. */
const addressPattern = /^[0-9a-f:]/i;

/** The address that a file's name stands for; undefined for a file that is no reservation. */
export const parseReservationName = (name: string): Address | undefined =>
  addressPattern.test(name) ? parseAddress(name) : undefined;

export const formatHolder = ({ containerId, ifname }: AttachmentName): string => `${containerId}\r\n${ifname}`;

/**
 * `containerId` is '' in an empty file, which host-local leaves after a failed write, and in a file of NULs, which a file
 * system leaves after a power cut: it belongs to nobody.
 */
export function parseHolder(content: string): AttachmentName {
  const [containerId = '', ifname = ''] = content.replaceAll('\0', '').trim().split(/\r?\n/);
  return { containerId: containerId.trim(), ifname: ifname.trim() };
}
