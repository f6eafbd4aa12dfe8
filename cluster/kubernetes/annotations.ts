/**
 * A Node's annotations: flannel's names and values, byte for byte, so that its peers may run flannel or Weft. One more,
 * `weft`, is our own. Other nodes write them, so that they may hold anything.
 */

import { type Address, type Family, formatAddress, isUnspecified, parseAddress } from '../../net/address.ts';
import type { BackendFormats } from '../backend-format.ts';
import { excerptOf } from '../excerpt.ts';
import { isObject, LeaseFormatError, type LeaseValue, longestLeaseBytes } from '../lease.ts';
import { families, type PerFamily, perFamily } from '../network-config.ts';
import type { NodeAddresses } from '../store.ts';
import type { AnnotationKeys, NodeMeta } from './node-object.ts';

/** Of each family: its address and its backend's data, and the two that people set on their own node. */
const names = {
  4: { address: 'public-ip', data: 'backend-data', overwrite: 'public-ip-overwrite', interface: 'node-public-ip' },
  6: {
    address: 'public-ipv6',
    data: 'backend-v6-data',
    overwrite: 'public-ipv6-overwrite',
    interface: 'node-public-ipv6',
  },
} as const satisfies Record<Family, object>;
const managed = 'kube-subnet-manager';
const backendType = 'backend-type';
const ours = 'weft';

const all = [managed, backendType, ours, ...families.flatMap((family) => Object.values(names[family]))];

export const annotationKeys = (prefix: string): AnnotationKeys => ({ prefix, all });

/** Annotations to be written; null removes one. */
export type AnnotationChanges = Readonly<Record<string, string | null>>;

/** A version has some ten characters. */
const longestVersion = 253;

/** Whether flannel or Weft looks after the node. */
export const isManaged = ({ annotations }: Pick<NodeMeta, 'annotations'>): boolean => annotations[managed] === 'true';

/** What a node says of itself, as its annotations. flannel leaves out a family's that is not in use, in two ways. */
export function formatAnnotations(
  value: LeaseValue,
  backends: BackendFormats,
  health?: string,
): Record<string, string | null> {
  const format = backends.get(value.backendType);
  const written: Record<string, string | null> = { [managed]: 'true', [backendType]: value.backendType };
  for (const family of families) {
    const address = value.publicAddresses[family];
    const data = value.backendData[family];
    const dataText = data === undefined ? 'null' : JSON.stringify(format?.formatLeaseData?.(data) ?? null);
    const { address: addressName, data: dataName } = names[family];
    const isZero = family === 4 && !address && value.backendType !== 'vxlan';
    written[dataName] = address || isZero ? dataText : null;
    written[addressName] = address ? formatAddress(address) : isZero ? '0.0.0.0' : null;
  }
  written[ours] = formatOwn(value.version ?? '', health);
  return written;
}

const formatOwn = (version: string, health: string | undefined): string =>
  JSON.stringify({ version, ...(health === undefined ? {} : { health }) });

/** The annotation in which a node says how its network is. @param health undefined: nothing is wrong */
export const healthAnnotation = (version: string, health: string | undefined): AnnotationChanges => ({
  [ours]: formatOwn(version, health),
});

/** A code of a problem. */
const isHealth = (value: unknown): value is string => typeof value === 'string' && /^[a-z][a-z0-9-]{0,63}$/.test(value);

/** What a node says of itself besides its version; undefined if nothing is wrong, or if that cannot be read. */
export function healthOf({ annotations }: Pick<NodeMeta, 'annotations'>): string | undefined {
  try {
    const value: unknown = JSON.parse(annotations[ours] ?? '');
    return isObject(value) && isHealth(value['health']) ? value['health'] : undefined;
  } catch {
    return undefined;
  }
}

/** Those that a node that leaves the cluster takes away. What people have set stays. */
export const leavingAnnotations = (): Record<string, null> =>
  Object.fromEntries(
    [managed, backendType, ours, ...families.flatMap((family) => [names[family].address, names[family].data])].map(
      (name) => [name, null],
    ),
  );

/** The wanted ones that are not there yet. */
export const missingAnnotations = (
  wanted: Readonly<Record<string, string | null>>,
  { annotations }: Pick<NodeMeta, 'annotations'>,
): Record<string, string | null> =>
  Object.fromEntries(Object.entries(wanted).filter(([name, value]) => (annotations[name] ?? null) !== value));

/** @throws LeaseFormatError */
function read(annotations: NodeMeta['annotations'], name: string): string | undefined {
  const text = annotations[name];
  if (text !== undefined && text.length > longestLeaseBytes) {
    throw new LeaseFormatError(`"${name}" has more than ${longestLeaseBytes} characters; longer ones are not read`);
  }
  return text;
}

/** @throws LeaseFormatError */
function parsePublicAddress(text: string | undefined, name: string, family: Family): Address | undefined {
  if (text === undefined) return undefined;
  const address = parseAddress(text);
  if (address?.family !== family) {
    throw new LeaseFormatError(`"${name}" is ${excerptOf(text)}, which is no IPv${family} address`);
  }
  return isUnspecified(address) ? undefined : address;
}

/** @throws LeaseFormatError */
function parseJson(text: string, name: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw new LeaseFormatError(`"${name}" is ${excerptOf(text)}, which is not JSON`);
  }
}

/** The version of Weft there; undefined where another program looks after the node. */
function parseVersion(text: string | undefined): string | undefined {
  if (text === undefined) return undefined;
  const value = parseJson(text, ours);
  const version = isObject(value) ? value['version'] : undefined;
  if (typeof version !== 'string' || version.length > longestVersion) {
    throw new LeaseFormatError(`"${ours}" is ${excerptOf(text)}, which has no version`);
  }
  return version;
}

/**
 * Reads what a node says of itself. Addresses may be missing.
 * @throws LeaseFormatError
 */
export function parseAnnotations(
  { name, annotations }: NodeMeta,
  backends: BackendFormats,
): LeaseValue & { node: string } {
  const type = read(annotations, backendType) ?? '';
  const format = backends.get(type);
  const version = parseVersion(read(annotations, ours));
  return {
    publicAddresses: perFamily((family) => {
      const key = names[family].address;
      return parsePublicAddress(read(annotations, key), key, family);
    }),
    backendType: type,
    backendData: perFamily((family) => {
      const key = names[family].data;
      const text = read(annotations, key);
      if (text === undefined || !format?.parseLeaseData) return undefined;
      const value = parseJson(text, key);
      return value === null ? undefined : format.parseLeaseData(value, key);
    }),
    node: name,
    ...(version === undefined ? {} : { version }),
  };
}

/**
 * The addresses that people have set on their own Node: `public-ip-overwrite` and `public-ipv6-overwrite`, which peers get,
 * `node-public-ip` and `node-public-ipv6`, which choose the interface. Never throws: a value that is no address is reported,
 * and counts as absent.
 */
export function parseNodeAddresses({ annotations }: Pick<NodeMeta, 'annotations'>, prefix: string): NodeAddresses {
  const problems: string[] = [];
  const of = (kind: 'overwrite' | 'interface'): PerFamily<Address> =>
    perFamily((family) => {
      const name = names[family][kind];
      const text = annotations[name];
      if (text === undefined || text === '') return undefined;
      const address = parseAddress(text);
      if (address?.family === family && !isUnspecified(address)) return address;
      problems.push(`"${prefix}${name}" is ${excerptOf(text)}, which is no IPv${family} address; it is not used`);
      return undefined;
    });
  return { overwrites: of('overwrite'), interfaces: of('interface'), problems };
}
