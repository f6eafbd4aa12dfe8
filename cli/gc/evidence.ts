/** Looks at every attachment of this host's networks: the reservations, the kernel, libcni's results and the runtimes. */

import { NetlinkError, SyscallError } from '../../linux/errors.ts';
import { isNamespace, livingNamespaces } from '../../linux/living-namespaces.ts';
import { dumpAddresses } from '../../linux/netlink/address.ts';
import { openNetlink } from '../../linux/netlink/connection.ts';
import { namespaceIdentity } from '../../linux/process.ts';
import type { Sys } from '../../linux/sys.ts';
import { formatAddress } from '../../net/address.ts';
import { type CachedResult, cachedResultPath, readCachedResults } from '../../networks/cached-results.ts';
import { NetworkError, type NetworkList, parseNetworkList, readNetworkFolder } from '../../networks/list.ts';
import { openAttachmentReader } from '../../reservations/attachments.ts';
import { type Runtime, RuntimeError } from '../../runtimes/container.ts';
import type { NetworkPlace } from '../attach/options.ts';
import { type AttachmentRecord, addressesOf, inNamespaceOf, isAlive } from '../attach/records.ts';
import type { Sighting, Surroundings } from './verdict.ts';

/** An attachment with what is needed to free it. */
export interface Subject extends Sighting {
  readonly list: NetworkList | undefined;
  readonly cached: CachedResult | undefined;
}

export interface Evidence extends Surroundings {
  readonly subjects: readonly Subject[];
}

/** The types of plugins that are Weft's; `flannel` delegates to one of them. */
const ownTypes = ['weft', 'flannel'];

const ipamOf = ({ plugins }: NetworkList): Record<string, unknown> => {
  const ipam = plugins[0]?.['ipam'];
  return typeof ipam === 'object' && ipam !== null ? (ipam as Record<string, unknown>) : {};
};

const isOurs = (list: NetworkList): boolean =>
  list.plugins.some(({ type }) => ownTypes.includes(type)) || ipamOf(list)['type'] === 'weft-ipam';

function parsedOrUndefined(text: string): NetworkList | undefined {
  try {
    return parseNetworkList(text, 'it');
  } catch (error) {
    if (error instanceof NetworkError) return undefined;
    throw error;
  }
}

/** Every address of every living network namespace, and what could not be looked at. */
function livingAddresses(sys: Sys): { addresses: Set<string>; unknown: string[] } {
  const { paths, hidden } = livingNamespaces(sys);
  const addresses = new Set<string>();
  const unknown = hidden === undefined ? [] : [hidden];
  for (const [identity, path] of paths) {
    try {
      const connection = inNamespaceOf(sys, path, () => openNetlink(sys));
      try {
        for (const { prefix, local = prefix.address } of connection.dump(dumpAddresses()))
          addresses.add(formatAddress(local));
      } finally {
        connection.close();
      }
    } catch (error) {
      if (!(error instanceof SyscallError) && !(error instanceof NetlinkError)) throw error;
      // One that has ended meanwhile hides nothing.
      if (namespaceIdentity(sys, path) === identity) unknown.push(error.message);
    }
  }
  return { addresses, unknown };
}

/** Container → the title of a runtime that knows it. */
async function knownContainers(runtimes: readonly Runtime[]) {
  const known = new Map<string, string>();
  const failures: string[] = [];
  for (const runtime of runtimes) {
    try {
      for (const { id } of await runtime.list()) known.set(id, runtime.title);
    } catch (error) {
      if (!(error instanceof RuntimeError)) throw error;
      failures.push(`${error.message} (--without ${runtime.kind} leaves it out)`);
    }
  }
  return { known, failures };
}

function markOf(sys: Sys, paths: readonly string[]): string {
  return paths
    .map((path) => {
      const status = sys.stat(path);
      return typeof status === 'number' ? '-' : `${status.ino}:${status.mtimeMs}`;
    })
    .join(' ');
}

/** The path of the attachment's namespace, if a container's namespace is there. */
function livePathOf(sys: Sys, cached: CachedResult | undefined): string | undefined {
  if (!cached || cached.netns === '' || !isNamespace(sys, cached.netns)) return undefined;
  // The process of a container has ended, and a program of the host has its number.
  if (namespaceIdentity(sys, cached.netns) === namespaceIdentity(sys, '/proc/self/ns/net')) return undefined;
  // Another container's process may have the number, too.
  if (cached.attachedBy && !isAlive(sys, cached as AttachmentRecord)) return undefined;
  return cached.netns;
}

/**
 * @param dataDir where the plugins keep reservations, unless a network's configuration names another folder
 * @throws NetworkError, SyscallError: too little can be seen to judge anything
 */
export async function lookAround(
  place: NetworkPlace,
  dataDir: string,
  runtimes: readonly Runtime[],
): Promise<Evidence> {
  const { sys, cacheDir, confDir } = place;
  // The runtimes first: a container that begins after that is in no list, but its namespace is seen.
  const { known, failures } = await knownContainers(runtimes);
  const { lists } = readNetworkFolder(sys, confDir);
  const cachedResults = readCachedResults(sys, cacheDir).entries;
  const listOf = (network: string, cached: CachedResult | undefined): NetworkList | undefined =>
    (cached && parsedOrUndefined(cached.config)) ?? lists.find(({ name }) => name === network);

  interface Found {
    network: string;
    containerId: string;
    ifname: string;
    addresses: string[];
    files: string[];
    hostEnd: string | undefined;
    isHidden: boolean;
    cached: CachedResult | undefined;
  }
  const found = new Map<string, Found>();
  const entryOf = (network: string, containerId: string, ifname: string): Found => {
    const key = `${network}/${containerId}/${ifname}`;
    const entry = found.get(key) ?? {
      ...{ network, containerId, ifname, addresses: [], files: [] },
      ...{ hostEnd: undefined, isHidden: false, cached: undefined },
    };
    found.set(key, entry);
    return entry;
  };
  const folders = new Set([dataDir]);
  /** Address → who holds it by the reservations. */
  const holders = new Map<string, Found>();
  for (const list of [...lists, ...cachedResults.flatMap(({ config }) => parsedOrUndefined(config) ?? [])]) {
    const { dataDir: own } = ipamOf(list);
    if (typeof own === 'string' && own.startsWith('/')) folders.add(own);
  }
  for (const folder of folders) {
    for (const { network, containerId, ifname, addresses, host } of openAttachmentReader(sys, folder).list()) {
      const entry = entryOf(network, containerId, ifname);
      const texts = addresses.map(formatAddress);
      for (const text of texts) holders.set(text, entry);
      entry.addresses.push(...texts);
      entry.files.push(...texts.map((text) => `${folder}/${network}/${text}`));
      if (typeof host === 'object') entry.hostEnd = host.name;
      if (host === 'unknown') entry.isHidden = true;
    }
  }
  for (const cached of cachedResults) {
    const entry = entryOf(cached.network, cached.containerId, cached.ifname);
    entry.cached = cached;
    entry.files.push(cachedResultPath(cacheDir, cached));
    for (const address of addressesOf(cached.result))
      if (!entry.addresses.includes(address)) entry.addresses.push(address);
  }
  const { addresses: living, unknown } = livingAddresses(sys);
  const hidden = [...found.values()].some(({ isHidden }) => isHidden) ? ["the host's interfaces cannot be listed"] : [];
  const subjects = [...found.values()].flatMap((entry): Subject[] => {
    const { network, containerId, ifname, addresses, files, hostEnd, cached } = entry;
    const list = listOf(network, cached);
    // Other plugins' networks are their runtime's business.
    if (list && !isOurs(list)) return [];
    return [
      {
        ...{ network, containerId, ifname, addresses, hostEnd, list, cached },
        // An address of an old result may be another container's by now.
        liveAddress: addresses.find((text) => living.has(text) && (holders.get(text) ?? entry) === entry),
        livePath: livePathOf(sys, cached),
        processRuns: cached?.attachedBy ? isAlive(sys, cached as AttachmentRecord) : undefined,
        knownTo: known.get(containerId),
        isRemovable: list !== undefined,
        mark: markOf(sys, files),
      },
    ];
  });
  return { subjects, asked: runtimes.map(({ title }) => title), unknown: [...failures, ...hidden, ...unknown] };
}
