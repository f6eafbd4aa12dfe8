/**
 * The files of a node: what the plugins read (node.json, subnet.env), what weftd must remember across a restart
 * (`state.json`), and the locks that keep a second weftd out of the same folders.
 */

import { check, errno } from '../../linux/errors.ts';
import { ensureDirectory, readText, writeAll, writeFileAtomic } from '../../linux/files.ts';
import { flock, open, type Sys } from '../../linux/sys.ts';
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

/** What outlives weftd besides the kernel's state and the store's. */
export interface NodeState {
  /** MAC by tunnel device, where it has one. The names are those of the devices that weftd has made and may remove. */
  readonly devices: ReadonlyMap<string, Mac | undefined>;
  /** The cluster's networks that routes were made for. */
  readonly networks: readonly Prefix[];
  /** Peers that plain routes were made through. */
  readonly gateways: readonly Address[];
}

export const emptyState: NodeState = { devices: new Map(), networks: [], gateways: [] };

const folderOf = (path: string): string => path.replace(/\/[^/]*$/, '') || '/';

const statePath = ({ stateDir }: FilePaths): string => `${stateDir}/state.json`;
const memoryPath = ({ stateDir }: FilePaths): string => `${stateDir}/cluster.json`;
const lockPath = (runDir: string): string => `${runDir}/weftd.pid`;

export function formatState(state: NodeState): string {
  const value = {
    version: 1,
    devices: Object.fromEntries([...state.devices].map(([name, mac]) => [name, mac ? formatMac(mac) : null])),
    networks: state.networks.map(formatPrefix),
    gateways: state.gateways.map(formatAddress),
  };
  return `${JSON.stringify(value, null, 2)}\n`;
}

/** The state in `text`. What cannot be read is left out: all of it can be had again, from the kernel or from the store. */
export function parseState(text: string): NodeState {
  let value: { devices?: unknown; networks?: unknown; gateways?: unknown };
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
  return { devices, networks: list(value.networks, parsePrefix), gateways: list(value.gateways, parseAddress) };
}

/** Reads and writes them; each file is written only when it changes. */
export class NodeFiles {
  readonly paths: FilePaths;
  private readonly sys: Sys;

  constructor(sys: Sys, paths: FilePaths) {
    this.sys = sys;
    this.paths = paths;
  }

  private writeIfChanged(path: string, text: string, mode: number): boolean {
    if (readText(this.sys, path) === text) return false;
    ensureDirectory(this.sys, folderOf(path), 0o755);
    writeFileAtomic(this.sys, path, text, mode);
    return true;
  }

  /**
   * What the last weftd (or flanneld) told the plugins: node.json, else subnet.env. A file that cannot be read is
   * reported by `onProblem`, and counts as none.
   */
  readNetwork(onProblem: (error: Error) => void): NodeNetwork | undefined {
    return readNodeFiles(
      this.paths,
      (path) => readText(this.sys, path),
      (path, error) => {
        if (!(error instanceof NodeFileError)) throw error;
        onProblem(new Error(`Cannot read "${path}": ${error.message}`, { cause: error }));
      },
    );
  }

  /** @returns whether a file changed */
  writeNetwork(network: NodeNetwork): boolean {
    const env = this.writeIfChanged(this.paths.subnetFile, formatSubnetEnv(network), 0o644);
    return this.writeIfChanged(nodeFilePath(this.paths.runDir), formatNodeFile(network), 0o644) || env;
  }

  readState(): NodeState {
    const text = readText(this.sys, statePath(this.paths));
    return text === undefined ? emptyState : parseState(text);
  }

  writeState(state: NodeState): boolean {
    return this.writeIfChanged(statePath(this.paths), formatState(state), 0o644);
  }

  /** Whom the last weftd knew, in the text of cluster/lease-memory.ts. */
  readMemory(): string | undefined {
    return readText(this.sys, memoryPath(this.paths));
  }

  writeMemory(text: string): void {
    ensureDirectory(this.sys, this.paths.stateDir, 0o755);
    writeFileAtomic(this.sys, memoryPath(this.paths), text, 0o644);
  }

  /** Removes all of them, the lock excepted. */
  removeAll(): void {
    for (const path of [
      nodeFilePath(this.paths.runDir),
      this.paths.subnetFile,
      statePath(this.paths),
      memoryPath(this.paths),
    ]) {
      const result = this.sys.unlink(path);
      if (result !== -errno.ENOENT && result !== -errno.ENOTDIR) check(result, ['remove', path]);
    }
  }
}

/** Another weftd uses one of our folders. */
export class FolderBusyError extends Error {
  override readonly name = 'FolderBusyError';
  /** The other's process number, where it can be told. */
  readonly pid: number | undefined;

  constructor(folder: string, option: string, pid: number | undefined) {
    super(
      `Another weftd${pid === undefined ? '' : ` (process ${pid})`} uses "${folder}"; stop it first, or give another folder by ${option}`,
    );
    this.pid = pid;
  }
}

export interface FolderLock {
  release(): void;
}

/**
 * Who holds the lock on the file, by /proc/locks (proc(5)): its number as this process sees it. What the file says may
 * be a number of a container's, and quite another process here.
 */
function lockHolder(sys: Sys, path: string): number | undefined {
  const status = sys.stat(path);
  if (typeof status === 'number') return undefined;
  const match = new RegExp(`FLOCK +ADVISORY +WRITE (\\d+) [0-9a-f]+:[0-9a-f]+:${status.ino} `).exec(
    readText(sys, '/proc/locks') ?? '',
  );
  const pid = Number(match?.[1] ?? 0);
  return pid > 0 ? pid : undefined;
}

function lockFolder(sys: Sys, folder: string, path: string, option: string): FolderLock {
  ensureDirectory(sys, folder, 0o755);
  // Whoever may read a file may lock it: nobody else may.
  const fd = check(sys.open(path, open.O_RDWR | open.O_CREAT, 0o600), ['open', path]);
  try {
    const locked = sys.flock(fd, flock.LOCK_EX | flock.LOCK_NB);
    if (locked === -errno.EAGAIN) throw new FolderBusyError(folder, option, lockHolder(sys, path));
    check(locked, ['lock', path]);
    check(sys.ftruncate(fd, 0), ['write', path]);
    writeAll(sys, fd, new Uint8Array(sys.encodeUtf8(`${sys.getpid()}\n`)), ['write', path]);
  } catch (error) {
    sys.close(fd);
    throw error;
  }
  // The file stays: removing it could take it from under another that has just opened it.
  return { release: () => void sys.close(fd) };
}

/**
 * Takes the folders that one weftd alone may use: a lock in each, on a file that holds our process number. The kernel
 * releases them when we end. Two that shared a state folder would take each other's devices for their own of before.
 * @throws FolderBusyError
 */
export function lockFolders(sys: Sys, { runDir, stateDir }: Pick<FilePaths, 'runDir' | 'stateDir'>): FolderLock {
  const run = lockFolder(sys, runDir, lockPath(runDir), '--run-dir');
  try {
    const state = lockFolder(sys, stateDir, `${stateDir}/weftd.lock`, '--state-dir');
    return {
      release() {
        state.release();
        run.release();
      },
    };
  } catch (error) {
    run.release();
    throw error;
  }
}
