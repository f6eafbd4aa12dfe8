/**
 * Which containers this host has, from the plugins' address store (`<dataDir>/<network>/<address>`, host-local's format)
 * and the interfaces of the kernel. Reads only, and without the store's lock: a look, not a transaction.
 */

import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { hostVethName } from '../cni/names.ts';
import { type Address, compareAddresses, parseAddress } from '../net/address.ts';

export interface ContainerAddress {
  readonly network: string;
  readonly address: Address;
  readonly containerId: string;
  /** '' where an old host-local made the reservation. */
  readonly interface: string;
  /** Name of the host's end, by Weft's rule; whether it is there is another question. */
  readonly hostInterface: string;
}

const names = async (folder: string): Promise<string[]> => {
  try {
    return await readdir(folder);
  } catch {
    // None, or not a folder: nothing is attached by it.
    return [];
  }
};

async function readReservation(dataDir: string, network: string, name: string): Promise<ContainerAddress | undefined> {
  const address = parseAddress(name);
  if (!address) return undefined;
  let text: string;
  try {
    text = await readFile(join(dataDir, network, name), 'utf8');
  } catch {
    // Released this very moment.
    return undefined;
  }
  const [containerId = '', ifname = ''] = text.trim().split(/\r?\n/);
  if (containerId === '') return undefined;
  return {
    network,
    address,
    containerId,
    interface: ifname,
    hostInterface: hostVethName({ network, containerId, ifname }),
  };
}

/** Every reservation of every network, by network and address. */
export async function readContainers(dataDir: string): Promise<ContainerAddress[]> {
  const networks = (await names(dataDir)).sort();
  const found = await Promise.all(
    networks.map(async (network) => {
      const files = await names(join(dataDir, network));
      const reservations = await Promise.all(files.map((name) => readReservation(dataDir, network, name)));
      return reservations
        .filter((reservation) => reservation !== undefined)
        .sort((a, b) => compareAddresses(a.address, b.address));
    }),
  );
  return found.flat();
}
