/** The versions of the protocol: the one a test runs at, and results of each in the shape of 1.0.0. */

import type { CniDocument } from '../lab/plugin.ts';

export const versions = ['0.1.0', '0.2.0', '0.3.0', '0.3.1', '0.4.0', '1.0.0', '1.1.0'] as const;
export type Version = (typeof versions)[number];

/** The version for tests that are about no version. */
export const usualVersion: Version = '1.0.0';

let current: Version = usualVersion;

/** The version that the running test is to use. */
export const version = (): Version => current;

export function useVersion(next: Version): void {
  current = next;
}

/** Whether the version in use has CHECK. */
export const hasCheck = (): boolean => current >= '0.4.0';

type Address = NonNullable<CniDocument['ips']>[number];
type FamilyPart = NonNullable<CniDocument['ip4']>;

/** The result of an ADD in the shape of 1.0.0, whatever its version, which it keeps. What that does not have, is not made up. */
export function readResult(document: CniDocument): CniDocument {
  const { ip4, ip6, dns, ...rest } = document;
  const read: CniDocument = rest;
  if (dns && Object.keys(dns).length > 0) read.dns = dns;
  if (ip4 || ip6) {
    const parts = [ip4, ip6].filter((part) => part !== undefined);
    read.ips = parts.map(({ ip, gateway }) => ({ address: ip, ...(gateway === undefined ? {} : { gateway }) }));
    const routes = parts.flatMap((part) => part.routes ?? []);
    if (routes.length > 0) read.routes = routes;
  } else if (read.ips) read.ips = read.ips.map(({ version: _, ...address }) => address);
  return read;
}

const isV6 = (address: string): boolean => address.includes(':');

/** The reverse: a result in the shape that its version asks for, or else `fallback`. */
export function writeResult(result: CniDocument, fallback: unknown): CniDocument {
  const shape = String(result.cniVersion || fallback || '0.1.0');
  const { ips, interfaces, routes, ...rest } = result;
  if (shape >= '1.0.0' || result.ip4 || result.ip6) return result;
  if (shape >= '0.3.0') {
    const withVersion = (address: Address) => ({ version: isV6(address.address) ? '6' : '4', ...address });
    return { ...result, ...(ips ? { ips: ips.map(withVersion) } : {}), dns: result.dns ?? {} };
  }
  const part = (v6: boolean): FamilyPart | undefined => {
    const found = ips?.find(({ address }) => isV6(address) === v6);
    if (!found) return undefined;
    const own = routes?.filter(({ dst }) => isV6(dst) === v6) ?? [];
    return {
      ip: found.address,
      ...(found.gateway === undefined ? {} : { gateway: found.gateway }),
      ...(own.length > 0 ? { routes: own } : {}),
    };
  };
  const [ip4, ip6] = [part(false), part(true)];
  return { ...rest, ...(ip4 ? { ip4 } : {}), ...(ip6 ? { ip6 } : {}), dns: result.dns ?? {} };
}
