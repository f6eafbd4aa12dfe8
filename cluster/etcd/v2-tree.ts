/**
 * The network of a flannel up to 0.11, as etcd's v2 API shows it: the answer to `GET /v2/keys<prefix>?recursive=true`, or
 * a file with such an answer. Pure.
 *
 * In v2 a key has a time to live of its own. A subnet without one is a reservation.
 */

import { excerpt } from '../excerpt.ts';
import { isObject } from '../lease.ts';
import { cleanPrefix } from './keys.ts';

/** A subnet's key and value. */
export interface V2Subnet {
  /** The key's last part: `10.5.52.0-24`. */
  readonly name: string;
  readonly value: string;
  /** Whether it expires: then it is a lease of a node that renews it. */
  readonly expires: boolean;
}

export interface V2Network {
  readonly config: string | undefined;
  readonly subnets: readonly V2Subnet[];
  /** Folders below the prefix with a config of their own: networks of flannel up to 0.6. */
  readonly networks: readonly string[];
  /** Whether the prefix is there at all. */
  readonly found: boolean;
}

/** The text is no answer of etcd's v2 API. */
export class V2FormatError extends Error {
  override readonly name = 'V2FormatError';
}

/** etcd's code of a key that does not exist. */
const keyNotFound = 100;

/** A prefix has a handful of parts. */
const deepest = 64;

const missing: V2Network = { config: undefined, subnets: [], networks: [], found: false };

type V2Node = Readonly<Record<string, unknown>>;

const keyOf = (node: V2Node): string => (typeof node['key'] === 'string' ? cleanPrefix(node['key']) : '');

const childrenOf = (node: V2Node): V2Node[] => {
  const nodes = node['nodes'];
  return Array.isArray(nodes) ? nodes.filter(isObject) : [];
};

const nameOf = (node: V2Node): string => keyOf(node).split('/').at(-1)!;

const textOf = (node: V2Node | undefined): string | undefined =>
  node && typeof node['value'] === 'string' ? node['value'] : undefined;

/** The node with the key, which may be far below: a file can hold the whole tree of an etcd. */
function findNode(top: V2Node, key: string): V2Node | undefined {
  let node: V2Node | undefined = top;
  for (let depth = 0; node && depth < deepest; depth++) {
    if (keyOf(node) === key) return node;
    node = childrenOf(node).find((child) => key === keyOf(child) || key.startsWith(`${keyOf(child)}/`));
  }
  return undefined;
}

const child = (node: V2Node, name: string): V2Node | undefined =>
  childrenOf(node).find((each) => keyOf(each) === `${keyOf(node)}/${name}`);

/** @throws V2FormatError */
export function parseV2Tree(text: string, prefix: string): V2Network {
  let document: unknown;
  try {
    document = JSON.parse(text);
  } catch {
    throw new V2FormatError('it is not JSON');
  }
  if (!isObject(document)) throw new V2FormatError('it is not a JSON object');
  if (document['errorCode'] === keyNotFound) return missing;
  if (document['errorCode'] !== undefined) {
    throw new V2FormatError(`it is an error of etcd: ${excerpt(String(document['message']))}`);
  }
  const { node: top } = document;
  if (!isObject(top)) throw new V2FormatError('it has no "node", as an answer of etcd\'s v2 API has');
  const node = findNode(top, cleanPrefix(prefix));
  if (!node) return missing;
  const subnets = child(node, 'subnets');
  return {
    config: textOf(child(node, 'config')),
    subnets: (subnets ? childrenOf(subnets) : []).flatMap((each): V2Subnet[] => {
      const value = textOf(each);
      const expires = each['ttl'] !== undefined || each['expiration'] !== undefined;
      return value === undefined ? [] : [{ name: nameOf(each), value, expires }];
    }),
    networks: childrenOf(node)
      .filter((each) => textOf(child(each, 'config')) !== undefined)
      .map(nameOf),
    found: true,
  };
}
