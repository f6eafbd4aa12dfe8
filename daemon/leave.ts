/** `weftd --leave`: gives the subnet back to the cluster and removes everything that weftd made on the host. */

import { formatSubnets, type Lease } from '../cluster/lease.ts';
import { StoreError } from '../cluster/store-errors.ts';
import type { Sys } from '../linux/sys.ts';
import { sameAddress } from '../net/address.ts';
import { samePrefix } from '../net/prefix.ts';
import type { NodeParts } from './compose.ts';
import { FolderBusyError, type FolderLock, lockFolders } from './host/folder-lock.ts';
import { serviceUnitOf } from './host/supervisor.ts';
import type { DaemonOptions } from './options.ts';
import type { Logger } from './report/log.ts';

/** The parts that leaving needs. */
type LeavingParts = Pick<
  NodeParts,
  | 'node'
  | 'files'
  | 'hostAddresses'
  | 'removeEverything'
  | 'removeForFlanneld'
  | 'store'
  | 'logger'
  | 'attachments'
  | 'close'
>;

/** How long a running weftd may take to end. */
const stopTimeoutMs = 10_000;
const findHolderMs = 1000;
const pollMs = 20;

const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

/** The holder was proven in this same instant, so that its number cannot be another process's yet. */
function terminate(pid: number): void {
  try {
    process.kill(pid, 'SIGTERM');
  } catch (error) {
    // It has already ended.
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
  }
}

/** systemd would start the service again, and it would take another subnet. @throws Error */
function refuseService(sys: Sys, pid: number): void {
  const unit = serviceUnitOf(sys, pid);
  if (unit === undefined) return;
  throw new Error(
    `weftd (process ${pid}) runs as the service "${unit}", which systemd would start again, and it would take another ` +
      `subnet; nothing was removed: run "systemctl disable --now ${unit}" first, and then this command again, or "weftctl uninstall"`,
  );
}

/** Locks the folders. A running weftd that has them is told to end first. */
async function takeFolders(sys: Sys, options: DaemonOptions, logger: Logger): Promise<FolderLock> {
  let asked = false;
  for (let waitedMs = 0; ; waitedMs += pollMs) {
    try {
      return lockFolders(sys, options);
    } catch (error) {
      if (!(error instanceof FolderBusyError) || waitedMs > stopTimeoutMs) throw error;
      // The kernel's list of locks may miss one while others come and go, so it is read again.
      if (error.pid === undefined && !asked && waitedMs > findHolderMs) throw error;
      if (error.pid !== undefined && !asked) {
        refuseService(sys, error.pid);
        logger.info('stopping the weftd that runs', { pid: error.pid });
        terminate(error.pid);
        asked = true;
      }
    }
    await pause(pollMs);
  }
}

/**
 * The leases of this node. They have its name, and either an address of this host or a subnet in its files: another host
 * may have the same name.
 */
function ownLeases(leases: readonly Lease[], { node, files, hostAddresses }: LeavingParts): Lease[] {
  const subnets = files.readNetwork(() => {})?.subnets ?? [];
  const addresses = hostAddresses();
  return leases.filter(
    (lease) =>
      lease.node === node &&
      (Object.values(lease.publicAddresses).some((told) => addresses.some((own) => sameAddress(own, told))) ||
        Object.values(lease.subnets).some((leased) => subnets.some((own) => samePrefix(own, leased)))),
  );
}

/** @returns the exit status */
export async function leave(
  open: () => Promise<LeavingParts>,
  sys: Sys,
  options: DaemonOptions,
  logger: Logger,
): Promise<number> {
  const parts = await open();
  try {
    // Before the running weftd is stopped: if the store does not answer, it keeps running.
    if (!options.leaveLocally && !options.leaveToFlanneld) await parts.store.list();
    const lock = await takeFolders(sys, options, logger);
    try {
      return options.leaveToFlanneld ? leaveToFlanneld(parts) : await leaveWith(parts, options.leaveLocally);
    } finally {
      lock.release();
    }
  } catch (error) {
    if (!(error instanceof StoreError)) throw error;
    // Otherwise peers would keep sending to a host that no longer receives.
    logger.error(
      `${error.message}; nothing was removed, try again when ${parts.store.kind} answers, or add --local if it never will`,
    );
    return 1;
  } finally {
    parts.close();
  }
}

/** The lease and the data path are flanneld's. Its rules stand before weftd's go, so that no packet leaves unmasqueraded. */
function leaveToFlanneld({ logger, removeForFlanneld }: LeavingParts): number {
  const errors = removeForFlanneld();
  for (const error of errors) logger.error(error.message);
  if (errors.length === 0) logger.info("removed weftd's rules and files; the subnet and the tunnel are flanneld's");
  return errors.length === 0 ? 0 : 1;
}

/** @throws StoreError: nothing was removed from the host */
async function leaveWith(parts: LeavingParts, isLocal: boolean): Promise<number> {
  const { logger } = parts;
  const containers = parts.attachments.count();
  if (containers) logger.warn('containers of this host lose their way to other hosts', { containers });
  const peers = isLocal ? undefined : await giveBack(parts);
  const errors = parts.removeEverything();
  for (const error of errors) logger.error(error.message);
  if (peers === undefined) {
    logger.warn(`left on this host only: ${parts.store.kind} was not asked, and a lease there stays until it expires`);
  } else {
    logger.info('left the cluster', { peers });
  }
  return errors.length === 0 ? 0 : 1;
}

/** @returns how many other nodes have leases @throws StoreError */
async function giveBack(parts: LeavingParts): Promise<number> {
  const { store, logger, node } = parts;
  const { all: leases } = (await store.list()).leases;
  for (const lease of ownLeases(leases, parts)) {
    if (await store.release?.(lease)) logger.info('lease given back', { subnet: formatSubnets(lease.subnets) });
  }
  return leases.filter((lease) => lease.node !== node).length;
}
