/** The names of all keys in etcd, below one prefix. No other file spells one. */

/** flannel's, so that a flannel cluster is taken over as it is. */
export const defaultPrefix = '/coreos.com/network';

export interface Keys {
  /** Without a slash at its end. */
  readonly prefix: string;
  /** The network config. */
  readonly config: string;
  /** Leases are below it; ends with a slash. Nothing else may begin with `<prefix>/subnets`: flannel lists that. */
  readonly subnets: string;
  /** Liveness records of nodes are below it; ends with a slash. */
  readonly nodes: string;
}

/** The prefix as flannel has it, which passes it through Go's path.Join: no slash doubled, none at the end. */
export const cleanPrefix = (prefix: string): string => prefix.replace(/\/+/g, '/').replace(/\/$/, '');

export function keysBelow(prefix: string): Keys {
  const clean = cleanPrefix(prefix);
  return { prefix: clean, config: `${clean}/config`, subnets: `${clean}/subnets/`, nodes: `${clean}/nodes/` };
}

/** A node's name as the last part of a key: a slash in it would open a level of its own. */
export const nodeKey = (keys: Keys, node: string): string => keys.nodes + node.replaceAll('/', '%2F');
