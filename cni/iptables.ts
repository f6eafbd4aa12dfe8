/**
 * Masquerading by iptables: for configurations that ask for it by name, and to remove rules of the reference plugins.
 * Each container has a chain `CNI-…` per network in table nat, named by a hash of the two. iptables-restore sets the
 * rules in one step. Rules that iptables made through nf_tables are removed without it.
 */

import { errno } from '../linux/errors.ts';
import { readText } from '../linux/files.ts';
import type { NftConnection } from '../linux/nft/connection.ts';
import { deleteChain, deleteRule, flushChain, type NftRule, type TableName } from '../linux/nft/table.ts';
import type { Sys } from '../linux/sys.ts';
import { type Family, families, formatAddress } from '../net/address.ts';
import { formatPrefix } from '../net/prefix.ts';
import type { AttachmentId } from '../reservations/host-end.ts';
import { hashText, type Masquerade, multicast } from './masquerade-entry.ts';
import { retryRemoval } from './removal.ts';
import { CniError, errorCodes } from './spec/errors.ts';
import type { AttachmentName } from './spec/request.ts';

/** The container and network of a chain. */
type Owner = Pick<AttachmentId, 'network' | 'containerId'>;

const postrouting = 'POSTROUTING';
const natTable: Readonly<Record<Family, TableName>> = {
  4: { family: 'ip', name: 'nat' },
  6: { family: 'ip6', name: 'nat' },
};
const command: Readonly<Record<Family, string>> = { 4: 'iptables', 6: 'ip6tables' };
/** The kernel's list of tables of the older iptables (iptables-legacy). */
const legacyTables: Readonly<Record<Family, string>> = {
  4: '/proc/thread-self/net/ip_tables_names',
  6: '/proc/thread-self/net/ip6_tables_names',
};
const defaultPath = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';

/** `CNI-` and a hash, 28 characters. As in the reference plugins, the hash does not include the interface's name. */
const chainOf = (sys: Sys, { network, containerId }: Owner): string =>
  `CNI-${hashText(sys, `${network}${containerId}`)}`.slice(0, 28);

const searchPath = (environment: readonly string[]): string[] =>
  (environment.find((entry) => entry.startsWith('PATH='))?.slice('PATH='.length) || defaultPath).split(':');

/** Whether the host has iptables. */
export const hasIptables = (sys: Sys, environment: readonly string[]): boolean =>
  searchPath(environment).some((folder) => typeof sys.stat(`${folder}/${command[4]}`) !== 'number');

/** @throws CniError 50 if there is no such program, 109 if it fails */
function runProgram(
  sys: Sys,
  environment: readonly string[],
  name: string,
  args: readonly string[],
  stdin = '',
): string {
  for (const folder of searchPath(environment)) {
    const path = `${folder}/${name}`;
    const ended = sys.spawn(path, [name, ...args], environment, sys.encodeUtf8(stdin));
    if (ended === -errno.ENOENT || ended === -errno.ENOTDIR) continue;
    if (typeof ended === 'number') {
      throw new CniError(errorCodes.delegateFailed, `The program "${path}" cannot be run`, {
        details: `errno ${-ended}`,
      });
    }
    const output = sys.decodeUtf8(ended.stdout, 0, ended.stdout.byteLength);
    if (ended.status === 0) return output;
    throw new CniError(
      errorCodes.delegateFailed,
      `"${[name, ...args].join(' ')}" ended with status ${ended.status}; set "ipMasqBackend" to "nftables" to do without it`,
      { details: sys.decodeUtf8(ended.stderr, 0, ended.stderr.byteLength).trim() },
    );
  }
  throw new CniError(
    errorCodes.notAvailable,
    `There is no program "${name}" in ${searchPath(environment).join(':')}; install it, or set "ipMasqBackend" to "nftables"`,
  );
}

const restore = (sys: Sys, environment: readonly string[], family: Family, lines: readonly string[]): string =>
  runProgram(
    sys,
    environment,
    `${command[family]}-restore`,
    ['--wait', '--noflush'],
    ['*nat', ...lines, 'COMMIT', ''].join('\n'),
  );

const ofFamily = (entries: readonly Masquerade[], family: Family): readonly Masquerade[] =>
  entries.filter(({ address }) => address.address.family === family);

export function addByIptables(
  sys: Sys,
  environment: readonly string[],
  attachment: AttachmentId,
  entries: readonly Masquerade[],
): void {
  const chain = chainOf(sys, attachment);
  // Ids and names of networks are letters, digits, dots, dashes and underscores.
  const comment = `-m comment --comment "name: \\"${attachment.network}\\" id: \\"${attachment.containerId}\\""`;
  for (const family of families) {
    const some = ofFamily(entries, family);
    if (some.length === 0) continue;
    restore(sys, environment, family, [
      // Creates or empties the chain.
      `:${chain} - [0:0]`,
      ...some.map(({ network }) => `-A ${chain} -d ${formatPrefix(network)} ${comment} -j ACCEPT`),
      `-A ${chain} ! -d ${multicast[family]} ${comment} -j MASQUERADE`,
      ...some.map(({ address }) => `-A ${postrouting} -s ${formatAddress(address.address)} ${comment} -j ${chain}`),
    ]);
  }
}

const jumpsTo =
  (chain: string) =>
  ({ expressions }: NftRule): boolean =>
    expressions.some((expression) => expression.type === 'verdict' && expression.chain === chain);

/** Rules that iptables made through nf_tables can be removed through nf_tables, all of them or none. */
function removeChainByNft(nft: NftConnection, family: Family, chain: string): void {
  const nat = natTable[family];
  retryRemoval(() => {
    if (!nft.hasChain(nat, chain)) return;
    const jumps = nft.listRules(nat, postrouting).filter(jumpsTo(chain));
    nft.transact([
      ...jumps.map(({ handle }) => deleteRule(nat, postrouting, handle!)),
      flushChain(nat, chain),
      deleteChain(nat, chain),
    ]);
  });
}

/**
 * The chains and rules of a family's table nat, in the lines of iptables-save, which does not wait for the lock as
 * `iptables -S` does. No program is started if there is no such table.
 */
function listByCommand(sys: Sys, environment: readonly string[], family: Family): string[] {
  if (!readText(sys, legacyTables[family])?.split('\n').includes('nat')) return [];
  return runProgram(sys, environment, `${command[family]}-save`, ['-t', 'nat']).split('\n');
}

function removeChainByCommand(
  sys: Sys,
  environment: readonly string[],
  family: Family,
  lines: readonly string[],
  chain: string,
): void {
  if (!lines.some((line) => line.startsWith(`:${chain} `))) return;
  const jumps = lines.filter((line) => line.startsWith(`-A ${postrouting} `) && line.endsWith(` -j ${chain}`));
  restore(sys, environment, family, [...jumps.map((line) => line.replace(/^-A/, '-D')), `-F ${chain}`, `-X ${chain}`]);
}

/** Removes the rules that iptables made through nf_tables. */
export function removeIptablesByNft(sys: Sys, nft: NftConnection, attachment: AttachmentId): void {
  const chain = chainOf(sys, attachment);
  for (const family of families) removeChainByNft(nft, family, chain);
}

/** Removes the rules of the older iptables, which only its own program can do. */
export function removeIptablesByCommand(sys: Sys, environment: readonly string[], attachment: AttachmentId): void {
  const chain = chainOf(sys, attachment);
  for (const family of families) {
    removeChainByCommand(sys, environment, family, listByCommand(sys, environment, family), chain);
  }
}

/** The container and network of a rule, by its comment as iptables prints it or as the kernel stores it. */
const commentPattern = /name: \\?"([^"\\]+)\\?" id: \\?"([^"\\]+)\\?"/;

/** The comment of an iptables rule, or ''. */
function commentOf({ expressions }: NftRule): string {
  const match = expressions.find(
    (expression) => expression.type === 'other' && commentPattern.test(latin1(expression)),
  );
  return match?.type === 'other' ? latin1(match) : '';
}
const latin1 = ({ data }: { readonly data: Uint8Array }): string => String.fromCharCode(...data);

/**
 * The chain of a container of this network that is no longer valid, if a rule's comment names one. A chain's name is a
 * hash of both names, so a foreign comment does not match it.
 */
function staleChain(
  sys: Sys,
  network: string,
  valid: ReadonlySet<string>,
  comment: string,
  isTarget: (chain: string) => boolean,
): string[] {
  const [, name, containerId] = commentPattern.exec(comment) ?? [];
  if (name !== network || containerId === undefined || valid.has(containerId)) return [];
  const chain = chainOf(sys, { network, containerId });
  return isTarget(chain) ? [chain] : [];
}

const idsOf = (valid: readonly AttachmentName[]): ReadonlySet<string> =>
  new Set(valid.map(({ containerId }) => containerId));

/** Removes the network's chains that iptables made through nf_tables for containers that are no longer valid. */
export function collectIptablesByNft(
  sys: Sys,
  nft: NftConnection,
  network: string,
  valid: readonly AttachmentName[],
): void {
  const ids = idsOf(valid);
  for (const family of families) {
    const chains = nft
      .listRules(natTable[family], postrouting)
      .flatMap((rule) => staleChain(sys, network, ids, commentOf(rule), (chain) => jumpsTo(chain)(rule)));
    for (const chain of new Set(chains)) removeChainByNft(nft, family, chain);
  }
}

/** The same for the older iptables. */
export function collectIptablesByCommand(
  sys: Sys,
  environment: readonly string[],
  network: string,
  valid: readonly AttachmentName[],
): void {
  const ids = idsOf(valid);
  for (const family of families) {
    const lines = listByCommand(sys, environment, family);
    const chains = lines.flatMap((line) =>
      staleChain(sys, network, ids, line, (chain) => line.endsWith(` -j ${chain}`)),
    );
    for (const chain of new Set(chains)) removeChainByCommand(sys, environment, family, lines, chain);
  }
}
