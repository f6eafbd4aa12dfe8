/** flannel's formats, read and written strictly and independently of Weft's own: for a host of flannel's among hosts of Weft's. */

import { readFileSync } from 'node:fs';
import type { Family } from '../../net/address.ts';
import { etcdPrefix } from './cluster.ts';

export type PerFamily<T> = { [family in Family]?: T };
export const families = [4, 6] as const;

/** The parts of the network config that are used here. */
export interface Config {
  readonly networks: PerFamily<string>;
  readonly backend: 'vxlan' | 'host-gw';
  readonly vni: number;
  readonly port: number;
}

export interface Lease {
  readonly key: string;
  readonly subnets: PerFamily<string>;
  readonly publicAddresses: PerFamily<string>;
  readonly backendType: string;
  readonly macs: PerFamily<string>;
}

export const deviceName = (family: Family, vni: number): string =>
  family === 4 ? `flannel.${vni}` : `flannel-v6.${vni}`;
export const networkAddress = (subnet: string): string => subnet.split('/')[0]!;
export const hostLength = { 4: 32, 6: 128 } as const;
export const overheadBytes = { 4: 50, 6: 70 } as const;

export function readConfig(text: string): Config {
  const document = JSON.parse(text) as {
    EnableIPv4?: boolean;
    EnableIPv6?: boolean;
    Network?: string;
    IPv6Network?: string;
    Backend: { Type: string; VNI?: number; Port?: number };
  };
  const { Type, VNI = 1, Port = 0 } = document.Backend;
  if (Type !== 'vxlan' && Type !== 'host-gw') throw new Error(`backend "${Type}" is not imitated`);
  return {
    networks: {
      ...(document.EnableIPv4 !== false && { 4: document.Network! }),
      ...(document.EnableIPv6 === true && { 6: document.IPv6Network! }),
    },
    backend: Type,
    vni: VNI,
    port: Port || 8472,
  };
}

/** Go's net.ParseMAC takes more, flannel writes only this. */
const macPattern = /^[\da-f]{2}(:[\da-f]{2}){5}$/;
const ipv4Pattern = /^\d{1,3}(\.\d{1,3}){3}$/;
const ipv6Pattern = /^[\da-f:]+$/;

/** As flannel's registry reads a lease. @throws on whatever it would stumble over */
export function readLease(key: string, value: string): Lease {
  const fail = (what: string): never => {
    throw new Error(`flannel cannot read "${key}" = ${value}: ${what}`);
  };
  const folder = `${etcdPrefix}/subnets/`;
  const match = /^(\d+\.\d+\.\d+\.\d+)-(\d+)(?:&([a-f\d:]+)-(\d+))?$/.exec(key.slice(folder.length));
  if (!key.startsWith(folder) || !match) return fail('the key is no subnet');
  const [, v4, v4Length, v6, v6Length] = match;
  const document = JSON.parse(value) as Record<string, unknown>;
  const { PublicIP, PublicIPv6, BackendType, BackendData, BackendV6Data } = document;
  if (typeof PublicIP !== 'string' || !ipv4Pattern.test(PublicIP)) return fail('PublicIP');
  if (PublicIPv6 !== null && (typeof PublicIPv6 !== 'string' || !ipv6Pattern.test(PublicIPv6))) {
    return fail('PublicIPv6');
  }
  if (typeof BackendType !== 'string') return fail('BackendType');
  const mac = (data: unknown, name: string): string | undefined => {
    if (BackendType !== 'vxlan' || data === undefined) return undefined;
    const { VNI, VtepMAC } = data as { VNI?: unknown; VtepMAC?: unknown };
    if (typeof VNI !== 'number') return fail(`${name}.VNI`);
    if (typeof VtepMAC !== 'string' || !macPattern.test(VtepMAC)) return fail(`${name}.VtepMAC`);
    return VtepMAC;
  };
  const [macV4, macV6] = [mac(BackendData, 'BackendData'), mac(BackendV6Data, 'BackendV6Data')];
  return {
    key,
    subnets: { ...(v4 !== '0.0.0.0' && { 4: `${v4}/${v4Length}` }), ...(v6 && { 6: `${v6}/${v6Length}` }) },
    publicAddresses: {
      ...(PublicIP !== '0.0.0.0' && { 4: PublicIP }),
      ...(typeof PublicIPv6 === 'string' && { 6: PublicIPv6 }),
    },
    backendType: BackendType,
    macs: { ...(macV4 && { 4: macV4 }), ...(macV6 && { 6: macV6 }) },
  };
}

/** The key and the value, byte for byte as flannel's Go writes them. */
export function writeLease({ subnets, publicAddresses, backendType, macs }: Omit<Lease, 'key'>, vni: number) {
  const keyPart = (subnet: string): string => subnet.replace('/', '-');
  const v4 = subnets[4] ? keyPart(subnets[4]) : '0.0.0.0-0';
  const quoted = (text: string | undefined): string => (text === undefined ? 'null' : `"${text}"`);
  const data = (name: string, mac: string | undefined): string =>
    mac === undefined ? '' : `,"${name}":{"VNI":${vni},"VtepMAC":"${mac}"}`;
  return {
    key: `${etcdPrefix}/subnets/${subnets[6] ? `${v4}&${keyPart(subnets[6])}` : v4}`,
    value: `{"PublicIP":"${publicAddresses[4] ?? '0.0.0.0'}","PublicIPv6":${quoted(publicAddresses[6])},"BackendType":"${backendType}"${data('BackendData', macs[4])}${data('BackendV6Data', macs[6])}}`,
  };
}

/** The variables of subnet.env. */
export function readSubnetEnv(path: string): Record<string, string> {
  const lines = readFileSync(path, 'utf8').trimEnd().split('\n');
  return Object.fromEntries(
    lines.map((line) => {
      const match = /^(FLANNEL_[A-Z0-9_]+)=(.*)$/.exec(line);
      if (!match) throw new Error(`flannel cannot read the line "${line}" of ${path}`);
      return [match[1]!, match[2]!];
    }),
  );
}
