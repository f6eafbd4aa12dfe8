/**
 * Node objects, reduced to what Weft needs. A Node has some nine kilobytes of JSON, its metadata two; there may be thousands,
 * so that each is parsed, reduced and dropped at once.
 */

import type { Family } from '../../net/address.ts';
import { networkOf, type Prefix, parsePrefix } from '../../net/prefix.ts';
import { isObject, longestLeaseBytes } from '../lease.ts';
import type { PerFamily } from '../network-config.ts';

/** The names of a cluster's annotations. */
export interface AnnotationKeys {
  readonly prefix: string;
  /** Without the prefix. */
  readonly all: readonly string[];
}

/** A Node's metadata. */
export interface NodeMeta {
  readonly name: string;
  /** A Node that is made anew under its old name has another one. */
  readonly uid: string;
  readonly resourceVersion: string;
  /** Milliseconds since the epoch; 0 if unreadable. */
  readonly createdMs: number;
  /** The annotations that concern us, by their names without the prefix. Longer ones than we read are cut. */
  readonly annotations: Readonly<Record<string, string>>;
}

/** A Node with the parts of it that only the host itself, or a first list, reads. */
export interface WholeNode extends NodeMeta {
  /** undefined: it has none yet. */
  readonly podCidrs: PodCidrs | undefined;
  /** The condition NetworkUnavailable; undefined if there is none. */
  readonly networkUnavailable: string | undefined;
}

/** The first podCIDR of each family, without host bits. They never change during a Node's life. */
export type PodCidrs = PerFamily<Prefix>;

const text = (value: unknown): string => (typeof value === 'string' ? value : '');

/** A long value is cut, so that it can be told apart from one that is short enough. */
const bounded = (value: string): string =>
  value.length > longestLeaseBytes ? value.slice(0, longestLeaseBytes + 1) : value;

/** undefined if it is no object of Kubernetes with a name. */
export function reduceMeta(object: unknown, keys: AnnotationKeys): NodeMeta | undefined {
  const metadata = isObject(object) ? object['metadata'] : undefined;
  if (!isObject(metadata)) return undefined;
  const [name, uid] = [text(metadata['name']), text(metadata['uid'])];
  if (name === '' || uid === '') return undefined;
  const written = metadata['annotations'];
  const annotations: Record<string, string> = {};
  if (isObject(written)) {
    for (const key of keys.all) {
      const value = written[keys.prefix + key];
      if (typeof value === 'string') annotations[key] = bounded(value);
    }
  }
  const resourceVersion = text(metadata['resourceVersion']);
  return { name, uid, resourceVersion, createdMs: Date.parse(text(metadata['creationTimestamp'])) || 0, annotations };
}

/** From `spec` alone: a node's own annotations prove nothing. */
export function podCidrsOf(object: unknown): PodCidrs | undefined {
  const spec = isObject(object) ? object['spec'] : undefined;
  if (!isObject(spec)) return undefined;
  const { podCIDRs, podCIDR } = spec;
  return parsePodCidrs(Array.isArray(podCIDRs) && podCIDRs.length > 0 ? podCIDRs : [podCIDR]);
}

/** In any order. undefined if there is none. */
export function parsePodCidrs(list: readonly unknown[]): PodCidrs | undefined {
  const found: { [family in Family]?: Prefix } = {};
  for (const item of list) {
    const prefix = typeof item === 'string' ? parsePrefix(item) : undefined;
    if (prefix) found[prefix.address.family] ??= networkOf(prefix);
  }
  return found[4] || found[6] ? found : undefined;
}

export function reduceWhole(object: unknown, keys: AnnotationKeys): WholeNode | undefined {
  const meta = reduceMeta(object, keys);
  if (!meta) return undefined;
  return { ...meta, podCidrs: podCidrsOf(object), networkUnavailable: conditionOf(object, 'NetworkUnavailable') };
}

/** The status of a Node's condition, one of True, False and Unknown; undefined if there is none. */
export function conditionOf(object: unknown, type: string): string | undefined {
  const status = isObject(object) ? object['status'] : undefined;
  const conditions = isObject(status) ? status['conditions'] : undefined;
  const found: unknown = (Array.isArray(conditions) ? conditions : []).find(
    (each) => isObject(each) && each['type'] === type,
  );
  return isObject(found) ? text(found['status']) : undefined;
}

/** Whether the annotations say the same. */
export function sameAnnotations(a: NodeMeta['annotations'], b: NodeMeta['annotations']): boolean {
  const names = Object.keys(a);
  return names.length === Object.keys(b).length && names.every((name) => a[name] === b[name]);
}

/** Which of two states of one object is the older. They are numbers, as text. */
export function isOlder(a: string, b: string): boolean {
  const isNumber = (version: string): boolean => /^\d{1,19}$/.test(version);
  return isNumber(a) && isNumber(b) && (a.length < b.length || (a.length === b.length && a < b));
}
