/** The names of all keys in etcd, below one prefix. No other file spells one. */

/** flannel's, so that Weft can take over a flannel cluster unchanged. */
export const defaultPrefix = '/coreos.com/network';

export interface Keys {
  /** Without a slash at its end. */
  readonly prefix: string;
  /** The network config. */
  readonly config: string;
  /** The prefix of leases; ends with a slash. No other key may begin with `<prefix>/subnets`: flannel lists that. */
  readonly subnets: string;
  /** The prefix of the nodes' liveness records; ends with a slash. */
  readonly nodes: string;
}

/** The prefix in flannel's form, which comes from Go's path.Join: no double slash, none at the end. */
export const cleanPrefix = (prefix: string): string => prefix.replace(/\/+/g, '/').replace(/\/$/, '');

/** A right in etcd that a role may grant: to one key, or to all keys with a prefix. */
export interface Right {
  readonly access: 'read' | 'write';
  readonly key: string;
  readonly isPrefix: boolean;
}

/** Every right that weftd and weftctl need in etcd. etcd's own leases need none. */
export const rightsBelow = (keys: Keys) =>
  ({
    readConfig: { access: 'read', key: keys.config, isPrefix: false },
    /** weftctl's, for `config set`. weftd never writes the config by itself. */
    writeConfig: { access: 'write', key: keys.config, isPrefix: false },
    readLeases: { access: 'read', key: keys.subnets, isPrefix: true },
    writeLeases: { access: 'write', key: keys.subnets, isPrefix: true },
    readNodes: { access: 'read', key: keys.nodes, isPrefix: true },
    writeNodes: { access: 'write', key: keys.nodes, isPrefix: true },
  }) as const satisfies Record<string, Right>;

/**
 * The command that gives a role the right. Write access includes read access, because Weft reads what it writes, and a
 * grant replaces an earlier one for the same keys.
 */
export const grantCommand = ({ access, key, isPrefix }: Right, role: string): string =>
  `etcdctl role grant-permission ${isPrefix ? '--prefix ' : ''}${role} ${access === 'write' ? 'readwrite' : 'read'} ${key}`;

export function keysBelow(prefix: string): Keys {
  const clean = cleanPrefix(prefix);
  return { prefix: clean, config: `${clean}/config`, subnets: `${clean}/subnets/`, nodes: `${clean}/nodes/` };
}

/** A node's name as the last part of a key: a slash in it would add a level. */
export const nodeKey = (keys: Keys, node: string): string => keys.nodes + node.replaceAll('/', '%2F');
