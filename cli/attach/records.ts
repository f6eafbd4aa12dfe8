/** The interfaces that `weftctl attach` made: their records, which are libcni's cached results, and what is left of them. */

import type { JsonObject } from '../../cni/spec/request.ts';
import { openNetlink } from '../../linux/netlink/connection.ts';
import { getLink } from '../../linux/netlink/link.ts';
import { inNamespace, openCurrentNamespace, openNamespace } from '../../linux/netns.ts';
import { readStartTime } from '../../linux/process.ts';
import type { Sys } from '../../linux/sys.ts';
import {
  type AttachedBy,
  type CachedResult,
  readCachedResults,
  removeCachedResult,
} from '../../networks/cached-results.ts';
import { type ChainTarget, removeByChain } from '../../networks/chain.ts';
import { NetworkError, parseNetworkList } from '../../networks/list.ts';
import type { NetworkPlace } from './options.ts';

export interface AttachmentRecord extends CachedResult {
  readonly attachedBy: AttachedBy;
}

export const readRecords = ({ sys, cacheDir }: NetworkPlace): AttachmentRecord[] =>
  readCachedResults(sys, cacheDir).entries.filter((entry): entry is AttachmentRecord => entry.attachedBy !== undefined);

/** Whether the process still runs: another one may have its number by now. */
export const isAlive = (sys: Sys, { attachedBy: { pid, startTime } }: AttachmentRecord): boolean =>
  readStartTime(sys, pid) === startTime;

/** Runs `body` in the network namespace of a process. @throws SyscallError */
export function inNamespaceOf<T>(sys: Sys, path: string, body: () => T): T {
  const from = openCurrentNamespace(sys);
  try {
    const to = openNamespace(sys, path);
    try {
      return inNamespace(sys, { from, to }, body);
    } finally {
      sys.close(to);
    }
  } finally {
    sys.close(from);
  }
}

export const namespacePathOf = (pid: number): string => `/proc/${pid}/ns/net`;

export function hasInterface(sys: Sys, path: string, name: string): boolean {
  const connection = inNamespaceOf(sys, path, () => openNetlink(sys));
  try {
    return connection.get(getLink({ name })) !== undefined;
  } finally {
    connection.close();
  }
}

/** How the plugins are told of the attachment. The namespace of a process that has ended may be another's by now. */
export const targetOf = (sys: Sys, record: AttachmentRecord): ChainTarget => ({
  ...record,
  netns: isAlive(sys, record) ? record.netns : '',
});

/**
 * DEL by the list of plugins that made it, and then the record. It stays if a plugin fails, so that `detach` can be
 * repeated.
 * @throws NetworkError
 */
export function removeRecord(place: NetworkPlace, record: AttachmentRecord): void {
  const list = parseNetworkList(record.config, `The configuration of "${record.network}" at the time of the attach`);
  const failures = removeByChain(place, list, targetOf(place.sys, record), record.result);
  const [first, ...others] = failures;
  if (first) {
    throw new NetworkError(first.message, [
      ...first.details,
      ...others.flatMap((each) => [each.message, ...each.details]),
    ]);
  }
  removeCachedResult(place.sys, place.cacheDir, record);
}

/** The addresses of a result, without prefix lengths. */
export function addressesOf(result: JsonObject): string[] {
  const { ips } = result;
  const texts = (Array.isArray(ips) ? ips : []).map((ip) => (ip as { address?: unknown } | null)?.address);
  // Before 0.3.0 there is one of each family.
  for (const key of ['ip4', 'ip6']) texts.push((result[key] as { ip?: unknown } | undefined)?.ip);
  return texts.flatMap((text) => (typeof text === 'string' ? text.split('/')[0]! : []));
}

/** Takes turns with other calls of weftctl: two must not choose the same name for an interface. */
export const lockPath = (cacheDir: string): string => `${cacheDir}/weft-attach.lock`;
