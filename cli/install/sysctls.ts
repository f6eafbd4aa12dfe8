/** The kernel settings that weftd and the plugins change for the whole host: as they are, and back. */

import { readdirSync } from 'node:fs';
import type { Sys } from '../../linux/sys.ts';
import { ensureSysctl, readSysctl } from '../../linux/sysctl.ts';
import { hasLegacyTables } from './host-facts.ts';
import { foreignForwarding } from './nft-remains.ts';
import type { Installation } from './record.ts';
import { otherBridges } from './remaining-links.ts';

/** The value that Weft gives them. */
const wefts = {
  'net/ipv4/ip_forward': '1',
  'net/ipv6/conf/all/forwarding': '1',
} as const;

/** Of each interface. */
const ofInterface = [
  ['ipv4', 'forwarding', '1'],
  ['ipv6', 'accept_ra', '2'],
] as const;

const nameOf = (family: string, interfaceName: string, setting: string): string =>
  `net/${family}/conf/${interfaceName}/${setting}`;

/** What Weft sets it to; undefined for a setting that it does not change. */
export function weftsValue(name: string): string | undefined {
  const fixed = (wefts as Record<string, string>)[name];
  if (fixed !== undefined) return fixed;
  return ofInterface.find(
    ([family, setting]) => name.startsWith(`net/${family}/conf/`) && name.endsWith(`/${setting}`),
  )?.[2];
}

/** Global settings first: they change those of all interfaces. */
export const globalSettings: readonly string[] = Object.keys(wefts);

/** The names of interfaces may contain dots, so that the parts are kept apart by slashes. */
export const readByName = (sys: Sys, name: string): string | undefined => readSysctl(sys, name.split('/'));

export function readHostSysctls(sys: Sys): Record<string, string> {
  const interfaces = readdirSync('/sys/class/net').filter((name) => /^[\w.-]{1,15}$/.test(name));
  const names = [
    ...globalSettings,
    ...interfaces.flatMap((name) => ofInterface.map(([family, setting]) => nameOf(family, name, setting))),
  ];
  return Object.fromEntries(
    names.flatMap((name) => {
      const value = readByName(sys, name);
      return value === undefined || !/^-?\d{1,4}$/.test(value) ? [] : [[name, value]];
    }),
  );
}

/** Others that may need the host to forward, or that its settings serve. */
function othersOnHost(sys: Sys): string[] {
  return [
    ...otherBridges(sys).map((name) => `the bridge ${name}`),
    ...foreignForwarding(sys).map((name) => `rules in "${name}"`),
    ...(hasLegacyTables() ? ['rules of the older iptables'] : []),
  ];
}

/**
 * Puts settings back that Weft has changed: only if the value is still Weft's, and nobody else needs it.
 * @returns lines: what was put back, and what stays with the reason
 */
export function restoreSysctls(
  sys: Sys,
  { sysctls }: Pick<Installation, 'sysctls'>,
): { restored: string[]; left: string[] } {
  // All are looked at first: a global setting changes those of the interfaces.
  const changed = Object.entries(sysctls).filter(([name, before]) => {
    const now = readByName(sys, name);
    return now !== undefined && now !== before && now === weftsValue(name);
  });
  if (changed.length === 0) return { restored: [], left: [] };
  const others = othersOnHost(sys);
  if (others.length > 0) {
    // Whoever forwards here did without advertisements before, because the host forwarded already.
    const isNobodys = ([name]: readonly [string, string]): boolean =>
      name.endsWith('/accept_ra') && sysctls['net/ipv6/conf/all/forwarding'] === '1';
    const names = changed.filter(
      (each) => !isNobodys(each) && (globalSettings.includes(each[0]) || !isOfGlobal(each[0], changed)),
    );
    return {
      restored: changed.filter(isNobodys).map(([name, before]) => {
        ensureSysctl(sys, name.split('/'), before);
        return `set ${name} back to ${before}`;
      }),
      left: names.map(([name, before]) => `${name}, which was ${before}: ${others.slice(0, 3).join(', ')} may need it`),
    };
  }
  const ordered = [...changed].sort(
    ([a], [b]) => Number(globalSettings.includes(b)) - Number(globalSettings.includes(a)),
  );
  const restored = ordered.flatMap(([name, before]) => {
    const now = readByName(sys, name);
    if (now === undefined || now === before) return [];
    ensureSysctl(sys, name.split('/'), before);
    return [`set ${name} back to ${before}`];
  });
  // A global setting has changed interfaces that Weft did not.
  for (const [name, before] of Object.entries(sysctls)) {
    if (globalSettings.includes(name) || weftsValue(name) !== '1' || restored.length === 0) continue;
    if (readByName(sys, name) !== undefined) ensureSysctl(sys, name.split('/'), before);
  }
  return { restored, left: [] };
}

/** Whether an interface's setting has followed the global one. */
const isOfGlobal = (name: string, changed: readonly (readonly [string, string])[]): boolean =>
  name.endsWith('/forwarding') && changed.some(([each]) => globalSettings.includes(each));
