/** The common part of ipip's and gre's devices. */

import type { IpTunnelData } from '../../linux/netlink/ip-tunnel.ts';
import { formatAddress, sameAddress } from '../../net/address.ts';
import { addressDifference, type DeviceRules } from './entries.ts';

const keyText = (key: number | undefined): string => (key === undefined ? 'none' : String(key));

/** @param advice how to avoid a conflict with another device */
export const ipTunnelRules = (advice: string): DeviceRules<IpTunnelData> => ({
  difference({ data: wanted }, { data }) {
    if (!data) return 'the kernel does not describe it';
    if (data.external !== wanted.external) return `external control is ${data.external ? 'on' : 'off'}`;
    if (data.remote) return 'it has a remote host';
    if (data.lower !== undefined) return 'it is bound to an interface';
    if (data.key !== wanted.key) return `its key is ${keyText(data.key)}, not ${keyText(wanted.key)}`;
    const setting = data.settings?.[0];
    if (setting !== undefined) return `it has ${setting}`;
    if (wanted.local) return addressDifference(data.local, wanted.local);
    return data.local && `its local address is "${formatAddress(data.local)}", not unset`;
  },
  // ip_tunnel_find in ip_tunnel.c; there is one external device per kind.
  clash({ local, data: wanted }, { name, data }) {
    if (!data || data.remote) return undefined;
    if (wanted.external && data.external)
      return `"${name}" is the kernel's one device of this kind under external control; delete it`;
    const isSame = data.local !== undefined && sameAddress(data.local, local) && data.key === wanted.key;
    if (!isSame || data.lower !== undefined) return undefined;
    const key = data.key === undefined ? '' : ` and key ${data.key}`;
    return `"${name}" has the local address "${formatAddress(local)}"${key} already; delete it, or ${advice}`;
  },
});
