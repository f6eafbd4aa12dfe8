/** The kernel settings that packets between containers depend on. */

import type { Family } from '../../net/address.ts';

export interface SysctlSetting {
  readonly path: readonly string[];
  readonly value: string;
}

export interface SysctlNeeds {
  readonly families: readonly Family[];
  /** Our tunnel devices. */
  readonly tunnels: readonly { readonly name: string; readonly family: Family }[];
  /** The interface that leads to the other hosts. */
  readonly external: string;
  /** Interfaces with a route that a router has advertised. */
  readonly advertised: readonly string[];
  /** Whether containers' packets arrive through it without a tunnel: by plain routes, or as answers to masqueraded ones. */
  readonly forwardsExternal: boolean;
  /** The current value; undefined if the kernel lacks the setting. */
  readonly read: (path: readonly string[]) => string | undefined;
}

/** `rp_filter`, Documentation/networking/ip-sysctl.rst: the higher of `all`'s and the interface's value counts. */
const strict = 1;
const loose = '2';

/** The required settings. A value that already serves stays. */
export function planSysctls(needs: SysctlNeeds): SysctlSetting[] {
  const { families, tunnels, external, advertised, forwardsExternal, read } = needs;
  const settings: SysctlSetting[] = [];
  const set = (value: string, ...path: string[]): void => void settings.push({ path: ['net', ...path], value });
  for (const { name, family } of tunnels) {
    // A router's advertisement from the tunnel could give it an address and a route.
    set('0', 'ipv6', 'conf', name, 'accept_ra');
    if (family === 6) {
      set('0', 'ipv6', 'conf', name, 'disable_ipv6');
      continue;
    }
    set('1', 'ipv4', 'conf', name, 'forwarding');
    // While one of two hosts changes over, a peer may use the tunnel where this host uses a plain route.
    const filter = ['all', name].map((of) => Number(read(['net', 'ipv4', 'conf', of, 'rp_filter']) ?? 0));
    if (Math.max(...filter) === strict) set(loose, 'ipv4', 'conf', name, 'rp_filter');
  }
  if (families.includes(4)) {
    set('1', 'ipv4', 'ip_forward');
    if (forwardsExternal) set('1', 'ipv4', 'conf', external, 'forwarding');
  }
  if (families.includes(6)) {
    // A host that forwards ignores router advertisements unless told otherwise: it would lose its default route.
    // The external interface may get its route later.
    for (const name of new Set([external, ...advertised])) {
      if (read(['net', 'ipv6', 'conf', name, 'accept_ra']) === '1') set('2', 'ipv6', 'conf', name, 'accept_ra');
    }
    set('1', 'ipv6', 'conf', 'all', 'forwarding');
  }
  return settings;
}
