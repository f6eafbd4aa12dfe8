/** `weftd --leave`: gives the subnet back to the cluster and takes from the host what weftd made on it. */

import { formatSubnets, type Lease } from '../cluster/lease.ts';
import { families } from '../cluster/network-config.ts';
import { EtcdError } from '../cluster/store.ts';
import type { Sys } from '../linux/sys.ts';
import { samePrefix } from '../net/prefix.ts';
import { lockRunDirectory, RunDirectoryBusyError, type RunLock } from './files.ts';
import type { Logger } from './log.ts';
import type { DaemonParts } from './main.ts';
import { formatAddresses } from './membership.ts';
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

/** The leases of this node: by its name, and by the subnets that its files name. */
function ownLeases(leases: readonly Lease[], node: string, parts: DaemonParts): Lease[] {
  const known = parts.files.readNetwork(() => {})?.subnets ?? [];
  return leases.filter(
    (lease) =>
      lease.node === node &&
      (known.length === 0 ||
        families.some((family) => {
          const subnet = lease.subnets[family];
          return subnet && known.some((own) => samePrefix(own, subnet));
        })),
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

async function leaveWith({ store, dataPath, logger, node, ...parts }: DaemonParts): Promise<number> {
  const containers = parts.countContainers();
  if (containers) {
    logger.warn('containers of this host lose their way to other hosts', { containers });
  }
  let peers: readonly Lease[];
  try {
    const { leases } = await store.listLeases();
    peers = leases;
    for (const lease of ownLeases(leases, node, { store, dataPath, logger, node, ...parts })) {
      const released = await store.releaseLease(lease);
      if (released) logger.info('lease given back', { subnet: formatSubnets(lease.subnets) });
    }
    await store.withdrawNode(node);
  } catch (error) {
    if (!(error instanceof EtcdError)) throw error;
    // Peers would go on sending to a host that no longer takes it.
    logger.error(`${error.message}; nothing was removed, try again when etcd answers`);
    return 1;
  }
  const addresses = peers.flatMap(({ publicAddresses }) => Object.values(publicAddresses));
  const errors = dataPath.remove(addresses);
  for (const error of errors) logger.error('Cannot remove everything', { error });
  logger.info('left the cluster', { peersLeft: peers.filter((lease) => lease.node !== node).length });
  if (errors.length === 0)
    logger.debug('peers', { addresses: peers.map((l) => formatAddresses(l.publicAddresses)).join(' ') });
  return errors.length === 0 ? 0 : 1;
}
