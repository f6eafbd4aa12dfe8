/**
 * Source NAT for what containers send beyond their network (`ipMasq`), in the reference plugins' own places: whatever
 * either of the two has set up, the other takes down.
 *
 * nf_tables: table `inet cni_plugins_masquerade`, chain `masq_checks`, a rule for each address whose comment names the
 * attachment by hashes. iptables: chain `CNI-…` of table nat, named by a hash of network and container. Its rules are
 * set by iptables-restore, in one step; those that iptables made by nf_tables are removed without it.
 */

import { errno, hasCode } from '../linux/errors.ts';
import { readText } from '../linux/files.ts';
import { isNftMissing, type NftConnection, withNft } from '../linux/nft/connection.ts';
import { destinationIn, goTo, masquerade, not, returnVerdict, rule, sourceIn } from '../linux/nft/match.ts';
import {
  commentLimitBytes,
  deleteChain,
  deleteRule,
  flushChain,
  type NftRule,
  newChain,
  newRule,
  newTable,
  nftPriority,
  type TableName,
} from '../linux/nft/table.ts';
import type { Sys } from '../linux/sys.ts';
import { addressBits, type Family, formatAddress } from '../net/address.ts';
import { formatPrefix, type Prefix, parsePrefix } from '../net/prefix.ts';
import type { Attachment } from './names.ts';
import { sha512 } from './sha512.ts';
import { CniError, errorCodes } from './spec/errors.ts';
import type { AttachmentName } from './spec/request.ts';

export interface Masquerade {
  /** A container's address. */
  readonly address: Prefix;
  /** What it reaches by its own address. */
  readonly network: Prefix;
}

const table: TableName = { family: 'inet', name: 'cni_plugins_masquerade' };
const checksChain = 'masq_checks';
const postroutingChain = 'postrouting';
const multicast: Readonly<Record<Family, string>> = { 4: '224.0.0.0/4', 6: 'ff00::/8' };

const hash = (sys: Sys, text: string): string => sha512(new Uint8Array(sys.encodeUtf8(text)));
const shortHash = (sys: Sys, text: string): string => hash(sys, text).slice(0, 16);

/** What the comment of a rule begins with: of a network's rules, and of an attachment's. */
const networkMark = (sys: Sys, network: string): string => shortHash(sys, network);
const attachmentMark = (sys: Sys, { network, ifname, containerId }: Attachment): string =>
  `${networkMark(sys, network)}-${shortHash(sys, `${ifname}:${containerId}`)}`;

/** How a comment ends, where all of it fits. The reference leaves quotation marks out. */
const namesOf = ({ ifname, containerId }: AttachmentName): string =>
  `if: ${ifname}, id: ${containerId}`.replaceAll('"', '');

/** The reference collects rules whose comment is not wholly this. */
function commentOf(sys: Sys, attachment: Attachment): string {
  const mark = attachmentMark(sys, attachment);
  return `${mark}, net: ${attachment.network}, ${namesOf(attachment)}`.slice(0, commentLimitBytes);
}

const hostPrefix = ({ address }: Prefix): Prefix => ({ address, length: addressBits(address.family) });

/** Adds the rules, in one transaction with all that they hang on. */
function addByNft(sys: Sys, attachment: Attachment, entries: readonly Masquerade[]): void {
  const comment = commentOf(sys, attachment);
  const base = { type: 'nat', hook: 'postrouting', priority: nftPriority.srcnat, policy: 'accept' } as const;
  const requests = [
    newTable(table),
    newChain(table, { name: checksChain, rules: [] }),
    newChain(table, { name: postroutingChain, base, rules: [] }),
    // Made anew each time, as the reference does: then it is right, whoever was there before.
    flushChain(table, postroutingChain),
    ...([4, 6] as const).map((family) =>
      newRule(table, postroutingChain, rule([destinationIn(parsePrefix(multicast[family])!), returnVerdict()])),
    ),
    newRule(table, postroutingChain, rule([goTo(checksChain)])),
    ...entries.map(({ address, network }) =>
      newRule(
        table,
        checksChain,
        rule([sourceIn(hostPrefix(address)), not(destinationIn(network)), masquerade()], { comment }),
      ),
    ),
  ];
  withNft(sys, (nft) => nft.transact(requests));
}

/** Others remove rules at the same time, and what is gone makes a whole transaction fail. */
const removalAttempts = 8;

/** Removes what `find` finds. */
function removeRules(nft: NftConnection, from: TableName, chain: string, find: (rule: NftRule) => boolean): void {
  for (let attempt = 1; ; attempt++) {
    const stale = nft.listRules(from, chain).filter(find);
    try {
      nft.transact(stale.map(({ handle }) => deleteRule(from, chain, handle!)));
      return;
    } catch (error) {
      if (!hasCode(error, 'ENOENT') || attempt === removalAttempts) throw error;
    }
  }
}

// iptables

const natTable: Readonly<Record<Family, TableName>> = {
  4: { family: 'ip', name: 'nat' },
  6: { family: 'ip6', name: 'nat' },
};
const command: Readonly<Record<Family, string>> = { 4: 'iptables', 6: 'ip6tables' };
/** The kernel's list of the tables that the older iptables has made. */
const legacyTables: Readonly<Record<Family, string>> = {
  4: '/proc/thread-self/net/ip_tables_names',
  6: '/proc/thread-self/net/ip6_tables_names',
};
const defaultPath = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';

/** `CNI-` and a hash, 28 characters. An interface's name is not in it, as it is not in the reference's. */
const chainOf = (sys: Sys, { network, containerId }: Attachment): string =>
  `CNI-${hash(sys, `${network}${containerId}`)}`.slice(0, 28);

/** @throws CniError 50 where there is no such program, 109 where it fails */
function runProgram(
  sys: Sys,
  environment: readonly string[],
  name: string,
  args: readonly string[],
  stdin = '',
): string {
  const search = environment.find((entry) => entry.startsWith('PATH='))?.slice('PATH='.length) || defaultPath;
  for (const folder of search.split(':')) {
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
    `There is no program "${name}" in ${search}; install it, or set "ipMasqBackend" to "nftables"`,
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

function addByIptables(
  sys: Sys,
  environment: readonly string[],
  attachment: Attachment,
  entries: readonly Masquerade[],
): void {
  const chain = chainOf(sys, attachment);
  // Ids and names of networks are letters, digits, dots, dashes and underscores.
  const comment = `-m comment --comment "name: \\"${attachment.network}\\" id: \\"${attachment.containerId}\\""`;
  for (const family of [4, 6] as const) {
    const some = ofFamily(entries, family);
    if (some.length === 0) continue;
    restore(sys, environment, family, [
      // Makes the chain, or empties it.
      `:${chain} - [0:0]`,
      ...some.map(({ network }) => `-A ${chain} -d ${formatPrefix(network)} ${comment} -j ACCEPT`),
      `-A ${chain} ! -d ${multicast[family]} ${comment} -j MASQUERADE`,
      ...some.map(({ address }) => `-A POSTROUTING -s ${formatAddress(address.address)} ${comment} -j ${chain}`),
    ]);
  }
}

const jumpsTo =
  (chain: string) =>
  ({ expressions }: NftRule): boolean =>
    expressions.some((expression) => expression.type === 'verdict' && expression.chain === chain);

/** What iptables has made by nf_tables is there to be removed by nf_tables. */
function removeIptablesByNft(nft: NftConnection, family: Family, chain: string): void {
  const nat = natTable[family];
  if (!nft.hasChain(nat, chain)) return;
  removeRules(nft, nat, 'POSTROUTING', jumpsTo(chain));
  try {
    nft.transact([flushChain(nat, chain), deleteChain(nat, chain)]);
  } catch (error) {
    // Another DEL of the container was faster.
    if (!hasCode(error, 'ENOENT')) throw error;
  }
}

function removeIptablesByCommand(sys: Sys, environment: readonly string[], family: Family, chain: string): void {
  // Nothing is started for what is not there.
  if (!readText(sys, legacyTables[family])?.split('\n').includes('nat')) return;
  const lines = runProgram(sys, environment, command[family], ['--wait', '-t', 'nat', '-S']).split('\n');
  if (!lines.includes(`-N ${chain}`)) return;
  const jumps = lines.filter((line) => line.startsWith('-A POSTROUTING ') && line.endsWith(` -j ${chain}`));
  restore(sys, environment, family, [...jumps.map((line) => line.replace(/^-A/, '-D')), `-F ${chain}`, `-X ${chain}`]);
}

/** @param environment of this process, for iptables alone */
export function addMasquerade(
  sys: Sys,
  environment: readonly string[],
  attachment: Attachment,
  entries: readonly Masquerade[],
  backend: 'nftables' | 'iptables',
): void {
  if (entries.length === 0) return;
  if (backend === 'iptables') addByIptables(sys, environment, attachment, entries);
  else addByNft(sys, attachment, entries);
}

/** Removes the attachment's rules, whichever back end made them; it is fine if there are none. */
export function removeMasquerade(sys: Sys, environment: readonly string[], attachment: Attachment): void {
  const mark = attachmentMark(sys, attachment);
  const chain = chainOf(sys, attachment);
  try {
    withNft(sys, (nft) => {
      removeRules(nft, table, checksChain, ({ comment }) => comment?.startsWith(mark) === true);
      for (const family of [4, 6] as const) removeIptablesByNft(nft, family, chain);
    });
  } catch (error) {
    if (!isNftMissing(error)) throw error;
  }
  for (const family of [4, 6] as const) removeIptablesByCommand(sys, environment, family, chain);
}

/** How many addresses of the attachment rules of nf_tables are there for. */
export const countMasquerade = (sys: Sys, attachment: Attachment): number =>
  withNft(sys, (nft) => {
    const mark = attachmentMark(sys, attachment);
    return nft.listRules(table, checksChain).filter(({ comment }) => comment?.startsWith(mark)).length;
  });

/**
 * Removes the network's rules of attachments that are not valid any more. Those that iptables made do not tell which
 * network they are of.
 */
export function collectMasquerade(sys: Sys, network: string, valid: readonly AttachmentName[]): void {
  const ofNetwork = `${networkMark(sys, network)}-`;
  const names = new Set(valid.map(namesOf));
  let marks: Set<string> | undefined;
  // A comment spells the attachment out unless that is too long; to hash all that is valid takes a millisecond each.
  const isValid = (comment: string): boolean => {
    if (comment.length < commentLimitBytes) return names.has(comment.slice(comment.indexOf(', if: ') + 2));
    marks ??= new Set(valid.map((name) => attachmentMark(sys, { ...name, network })));
    return marks.has(comment.slice(0, comment.indexOf(',')));
  };
  withNft(sys, (nft) =>
    removeRules(nft, table, checksChain, ({ comment = '' }) => comment.startsWith(ofNetwork) && !isValid(comment)),
  );
}
