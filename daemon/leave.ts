/** `weftd --leave`: gives the subnet back to the cluster and takes from the host what weftd made on it. */

import { formatSubnets, type Lease } from '../cluster/lease.ts';
import { EtcdError } from '../cluster/store.ts';
import type { Sys } from '../linux/sys.ts';
import { sameAddress } from '../net/address.ts';
import { samePrefix } from '../net/prefix.ts';
import { lockRunDirectory, RunDirectoryBusyError, type RunLock } from './files.ts';
import type { Logger } from './log.ts';
import type { DaemonParts } from './main.ts';
import type { DaemonOptions } from './options.ts';

/** How long a weftd that runs is given to end. */
const stopTimeoutMs = 10_000;
const pollMs = 20;

const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

/** Takes the run folder; a weftd that has it is asked to end, and waited for. */
async function takeRunDirectory(sys: Sys, runDir: string, logger: Logger): Promise<RunLock> {
  let asked = false;
  for (let waitedMs = 0; ; waitedMs += pollMs) {
    try {
      return lockRunDirectory(sys, runDir);
    } catch (error) {
      if (!(error instanceof RunDirectoryBusyError) || error.pid === undefined || waitedMs > stopTimeoutMs) throw error;
      if (!asked) {
        logger.info('stopping the weftd that runs', { pid: error.pid });
        process.kill(error.pid, 'SIGTERM');
        asked = true;
      }
    }
    await pause(pollMs);
  }
}

/**
 * The leases of this node: those with its name that are of this host, too, by address or by the subnet that its files
 * name. A name alone could be another host's as well.
 */
function ownLeases(leases: readonly Lease[], { node, files, dataPath }: DaemonParts): Lease[] {
  const subnets = files.readNetwork(() => {})?.subnets ?? [];
  const addresses = dataPath.hostAddresses();
  return leases.filter(
    (lease) =>
      lease.node === node &&
      (Object.values(lease.publicAddresses).some((told) => addresses.some((own) => sameAddress(own, told))) ||
        Object.values(lease.subnets).some((leased) => subnets.some((own) => samePrefix(own, leased)))),
  );
}

/** @returns the exit status */
export async function leave(
  open: () => Promise<DaemonParts>,
  sys: Sys,
  options: DaemonOptions,
  logger: Logger,
): Promise<number> {
  const lock = await takeRunDirectory(sys, options.runDir, logger);
  try {
    const parts = await open();
    try {
      return await leaveWith(parts);
    } finally {
      parts.close();
    }
  } finally {
    lock.release();
  }
}

async function leaveWith(parts: DaemonParts): Promise<number> {
  const { store, dataPath, logger, node } = parts;
  const containers = parts.countContainers();
  if (containers) logger.warn('containers of this host lose their way to other hosts', { containers });
  let leases: readonly Lease[];
  try {
    leases = (await store.listLeases()).leases;
    for (const lease of ownLeases(leases, parts)) {
      const released = await store.releaseLease(lease);
      if (released) logger.info('lease given back', { subnet: formatSubnets(lease.subnets) });
    }
  } catch (error) {
    if (!(error instanceof EtcdError)) throw error;
    // Peers would go on sending to a host that no longer takes it.
    logger.error(`${error.message}; nothing was removed, try again when etcd answers`);
    return 1;
  }
  const peers = leases.filter((lease) => lease.node !== node);
  const errors = dataPath.remove(peers.flatMap(({ publicAddresses }) => Object.values(publicAddresses)));
  for (const error of errors) logger.error(error.message);
  logger.info('left the cluster', { peers: peers.length });
  return errors.length === 0 ? 0 : 1;
}
