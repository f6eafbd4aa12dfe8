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
  /** Whether containers' packets come in by it as they are: by plain routes, or as answers to what was masqueraded. */
  readonly forwardsExternal: boolean;
  /** The value now; undefined where the kernel has no such setting. */
  readonly read: (path: readonly string[]) => string | undefined;
}

/** `rp_filter`, Documentation/networking/ip-sysctl.rst: of `all` and the interface's, the higher counts. */
const strict = 1;
const loose = '2';

/** What the settings have to be. A value that serves as it is, is left as it is. */
export function planSysctls({ families, tunnels, external, forwardsExternal, read }: SysctlNeeds): SysctlSetting[] {
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
    // A peer may send by the tunnel what this host sends by a plain route, while one of them is about to change over.
    const filter = ['all', name].map((of) => Number(read(['net', 'ipv4', 'conf', of, 'rp_filter']) ?? 0));
    if (Math.max(...filter) === strict) set(loose, 'ipv4', 'conf', name, 'rp_filter');
  }
  if (families.includes(4)) {
    set('1', 'ipv4', 'ip_forward');
    if (forwardsExternal) set('1', 'ipv4', 'conf', external, 'forwarding');
  }
  if (families.includes(6)) {
    // A host that forwards does not listen to routers any more unless it is told to: it would lose its default route.
    if (read(['net', 'ipv6', 'conf', external, 'accept_ra']) === '1') set('2', 'ipv6', 'conf', external, 'accept_ra');
    set('1', 'ipv6', 'conf', 'all', 'forwarding');
  }
  return settings;
}
