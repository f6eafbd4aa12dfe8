/**
 * The files of a node: the plugins' files (node.json, subnet.env), and weftd's state across a restart (`state.json`).
 */

import { formatSubnets } from '../../cluster/lease.ts';
import { type PerFamily, perFamily, valuesOf } from '../../cluster/network-config.ts';
import { check, errno, SyscallError } from '../../linux/errors.ts';
import { ensureDirectory, readText, writeFileAtomic } from '../../linux/files.ts';
import { type Sys, stat as statBits } from '../../linux/sys.ts';
import { type Address, formatAddress, parseAddress } from '../../net/address.ts';
import { formatMac, type Mac, parseMac } from '../../net/mac.ts';
import {
  formatNodeFile,
  formatSubnetEnv,
  NodeFileError,
  type NodeNetwork,
  readNodeFiles,
} from '../../net/node-file.ts';
import { nodeFilePath } from '../../net/paths.ts';
import { formatPrefix, type Prefix, parsePrefix } from '../../net/prefix.ts';

export interface FilePaths {
  readonly runDir: string;
  readonly stateDir: string;
  readonly subnetFile: string;
}

/** The external interface that weftd has chosen, so that it stays after a restart. */
export interface ChosenInterface {
  readonly name: string;
  /** The addresses in use, at least one. */
  readonly addresses: readonly Address[];
  /** The options that it was chosen by, as text: under others it has no meaning. */
  readonly choice: string;
}

/** weftd's state on disk, besides the state of the kernel and of the store. */
export interface NodeState {
  /** The MAC of each tunnel device, if it has one. The names are the devices that weftd has made and may remove. */
  readonly devices: ReadonlyMap<string, Mac | undefined>;
  /** The cluster's networks for which routes were made. */
  readonly networks: readonly Prefix[];
  /** The subnets that this node has leases of: the current ones first, then those that the config no longer allows. */
  readonly subnets: readonly PerFamily<Prefix>[];
  /** The peers through which flannel's plain routes lead. */
  readonly gateways: readonly Address[];
  readonly external?: ChosenInterface | undefined;
}

export const emptyState: NodeState = { devices: new Map(), networks: [], subnets: [], gateways: [] };

const folderOf = (path: string): string => path.replace(/\/[^/]*$/, '') || '/';

const statePath = ({ stateDir }: FilePaths): string => `${stateDir}/state.json`;
const memoryPath = ({ stateDir }: FilePaths): string => `${stateDir}/cluster.json`;

export function formatState(state: NodeState): string {
  const value = {
    version: 1,
    devices: Object.fromEntries([...state.devices].map(([name, mac]) => [name, mac ? formatMac(mac) : null])),
    networks: state.networks.map(formatPrefix),
    subnets: state.subnets.map(formatSubnets),
    gateways: state.gateways.map(formatAddress),
    // Field by field: the same state must give the same text, whoever made the object.
    ...(state.external && {
      external: {
        name: state.external.name,
        addresses: state.external.addresses.map(formatAddress),
        choice: state.external.choice,
      },
    }),
  };
  return `${JSON.stringify(value, null, 2)}\n`;
}

/** What `formatSubnets` has written. */
function parseSubnets(text: string): PerFamily<Prefix> | undefined {
  const prefixes = text.split(' ').map(parsePrefix);
  const subnets = perFamily((family) => prefixes.find((prefix) => prefix?.address.family === family));
  return valuesOf(subnets).length > 0 ? subnets : undefined;
}

/** Parses the state. Unreadable parts are left out, because the kernel or the store has all of it. */
export function parseState(text: string): NodeState {
  let value: { devices?: unknown; networks?: unknown; subnets?: unknown; gateways?: unknown; external?: unknown };
  try {
    value = JSON.parse(text) ?? {};
  } catch {
    return emptyState;
  }
  const list = <T>(items: unknown, parse: (text: string) => T | undefined): T[] =>
    (Array.isArray(items) ? items : []).flatMap((item) => (typeof item === 'string' ? (parse(item) ?? []) : []));
  const devices = new Map<string, Mac | undefined>();
  if (typeof value.devices === 'object' && value.devices !== null) {
    for (const [name, text] of Object.entries(value.devices)) {
      const mac = typeof text === 'string' ? parseMac(text) : undefined;
      if (mac || text === null) devices.set(name, mac);
    }
  }
  const { name, choice, addresses } = (value.external ?? {}) as Readonly<Record<string, unknown>>;
  const own = list(addresses, parseAddress);
  const external =
    typeof name === 'string' && typeof choice === 'string' && own.length > 0
      ? { name, choice, addresses: own }
      : undefined;
  return {
    devices,
    networks: list(value.networks, parsePrefix),
    subnets: list(value.subnets, parseSubnets),
    gateways: list(value.gateways, parseAddress),
    ...(external && { external }),
  };
}

/** Reads and writes these files. A file is written only if it changes. */
export class NodeFiles {
  readonly paths: FilePaths;
  readonly #sys: Sys;

  constructor(sys: Sys, paths: FilePaths) {
    this.#sys = sys;
    this.paths = paths;
  }

  /**
   * The file's text; undefined if there is none. A folder, a device or a FIFO is refused unopened: to open a FIFO would
   * take until somebody writes to it.
   * @throws SyscallError
   */
  #read(path: string): string | undefined {
    const status = this.#sys.stat(path);
    if (typeof status !== 'number' && (status.mode & statBits.S_IFMT) !== statBits.S_IFREG) {
      const isFolder = (status.mode & statBits.S_IFMT) === statBits.S_IFDIR;
      const what = isFolder ? 'is a folder' : 'is no regular file';
      throw new SyscallError(`use "${path}", which ${what}: remove it`, isFolder ? errno.EISDIR : errno.EINVAL);
    }
    return readText(this.#sys, path);
  }

  /** A file that cannot be read is replaced, unless it is a folder. @throws SyscallError */
  #writeIfChanged(path: string, text: string, mode: number): boolean {
    try {
      if (this.#read(path) === text) return false;
    } catch (error) {
      if (!(error instanceof SyscallError) || error.errno === errno.EISDIR) throw error;
    }
    ensureDirectory(this.#sys, folderOf(path), 0o755);
    writeFileAtomic(this.#sys, path, text, mode);
    return true;
  }

  /**
   * The network that the last weftd or flanneld wrote for the plugins: node.json, else subnet.env. A file that cannot
   * be read is reported by `onProblem` and skipped.
   */
  readNetwork(onProblem: (error: Error) => void): NodeNetwork | undefined {
    return readNodeFiles(
      this.paths,
      (path) => this.#read(path),
      (path, error) => {
        if (error instanceof SyscallError) onProblem(error);
        else if (!(error instanceof NodeFileError)) throw error;
        else onProblem(new Error(`Cannot read "${path}": ${error.message}`, { cause: error }));
      },
    );
  }

  /**
   * Writes both files. node.json alone is enough for the plugins.
   * @param onProblem called if subnet.env cannot be written
   * @returns whether a file changed
   * @throws SyscallError node.json cannot be written
   */
  writeNetwork(network: NodeNetwork, onProblem: (error: SyscallError) => void): boolean {
    let env = false;
    try {
      env = this.#writeIfChanged(this.paths.subnetFile, formatSubnetEnv(network), 0o644);
    } catch (error) {
      if (!(error instanceof SyscallError)) throw error;
      onProblem(error);
    }
    return this.#writeIfChanged(nodeFilePath(this.paths.runDir), formatNodeFile(network), 0o644) || env;
  }

  /**
   * Takes the network back from the plugins: no container gets an address until it is written again.
   * @param onProblem called for each file that cannot be removed
   * @returns whether a file is gone
   */
  withdrawNetwork(onProblem: (error: SyscallError) => void): boolean {
    // The plugins read subnet.env where there is no node.json.
    const gone = [this.paths.subnetFile, nodeFilePath(this.paths.runDir)].filter((path) => {
      try {
        return this.#remove(path);
      } catch (error) {
        if (!(error instanceof SyscallError)) throw error;
        onProblem(error);
        return false;
      }
    });
    return gone.length > 0;
  }

  /** @returns whether it was there */
  #remove(path: string): boolean {
    const result = this.#sys.unlink(path);
    if (result === -errno.ENOENT || result === -errno.ENOTDIR) return false;
    check(result, ['remove', path]);
    return true;
  }

  /** @throws SyscallError */
  readState(): NodeState {
    const text = this.#read(statePath(this.paths));
    return text === undefined ? emptyState : parseState(text);
  }

  writeState(state: NodeState): boolean {
    return this.#writeIfChanged(statePath(this.paths), formatState(state), 0o644);
  }

  /** The peers that the last weftd knew, in the format of cluster/lease-memory.ts. */
  readMemory(): string | undefined {
    return this.#read(memoryPath(this.paths));
  }

  writeMemory(text: string): void {
    ensureDirectory(this.#sys, this.paths.stateDir, 0o755);
    writeFileAtomic(this.#sys, memoryPath(this.paths), text, 0o644);
  }

  /** Removes all files except the lock. */
  removeAll(): void {
    this.#remove(this.paths.subnetFile);
    this.removeOwn();
  }

  /** All but subnet.env, which flanneld has, too. */
  removeOwn(): void {
    for (const path of [nodeFilePath(this.paths.runDir), statePath(this.paths), memoryPath(this.paths)]) {
      this.#remove(path);
    }
  }
}
