/**
 * Source NAT for what containers send beyond their network (`ipMasq`), in the reference plugins' own places: whatever
 * either of the two has set up, the other takes down.
 *
 * Weft uses nf_tables unless the configuration asks for iptables by name. The reference plugins prefer iptables where it
 * is installed, and wait for its lock.
 *
 * nf_tables: table `inet cni_plugins_masquerade`, chain `masq_checks`, a rule for each address whose comment names the
 * attachment by hashes. For iptables see `iptables.ts`.
 */

import { isNftMissing, type NftConnection, withNft } from '../linux/nft/connection.ts';
import { destinationIn, goTo, masquerade, not, returnVerdict, rule, sourceIn } from '../linux/nft/match.ts';
import {
  commentLimitBytes,
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
import { addressBits } from '../net/address.ts';
import { type Prefix, parsePrefix } from '../net/prefix.ts';
import type { AttachmentId } from '../reservations/host-end.ts';
import { addByIptables, collectIptablesByNft, removeIptablesByCommand, removeIptablesByNft } from './iptables.ts';
import { hashText, type Masquerade, multicast } from './masquerade-entry.ts';
import { retryRemoval } from './removal.ts';
import type { AttachmentName } from './spec/request.ts';

const table: TableName = { family: 'inet', name: 'cni_plugins_masquerade' };
const checksChain = 'masq_checks';
const postroutingChain = 'postrouting';

const shortHash = (sys: Sys, text: string): string => hashText(sys, text).slice(0, 16);

/** What the comment of a rule begins with: of a network's rules, and of an attachment's. */
const networkMark = (sys: Sys, network: string): string => shortHash(sys, network);
const attachmentMark = (sys: Sys, { network, ifname, containerId }: AttachmentId): string =>
  `${networkMark(sys, network)}-${shortHash(sys, `${ifname}:${containerId}`)}`;

/** How a comment ends, where all of it fits. The reference leaves quotation marks out. */
const namesOf = ({ ifname, containerId }: AttachmentName): string =>
  `if: ${ifname}, id: ${containerId}`.replaceAll('"', '');

/** The reference collects rules whose comment is not wholly this. */
function commentOf(sys: Sys, attachment: AttachmentId): string {
  const mark = attachmentMark(sys, attachment);
  return `${mark}, net: ${attachment.network}, ${namesOf(attachment)}`.slice(0, commentLimitBytes);
}

const hostPrefix = ({ address }: Prefix): Prefix => ({ address, length: addressBits(address.family) });

/** Adds the rules, in one transaction with all that they hang on. */
function addByNft(sys: Sys, attachment: AttachmentId, entries: readonly Masquerade[]): void {
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

/** Removes the rules that `isStale` finds. */
function removeRules(nft: NftConnection, isStale: (rule: NftRule) => boolean): void {
  retryRemoval(() => {
    const stale = nft.listRules(table, checksChain).filter(isStale);
    nft.transact(stale.map(({ handle }) => deleteRule(table, checksChain, handle!)));
  });
}

/** @param environment of this process, for iptables alone */
export function addMasquerade(
  sys: Sys,
  environment: readonly string[],
  attachment: AttachmentId,
  entries: readonly Masquerade[],
  backend: 'nftables' | 'iptables',
): void {
  if (entries.length === 0) return;
  if (backend === 'iptables') addByIptables(sys, environment, attachment, entries);
  else addByNft(sys, attachment, entries);
}

/** Removes the attachment's rules, whichever back end made them; it is fine if there are none. */
export function removeMasquerade(sys: Sys, environment: readonly string[], attachment: AttachmentId): void {
  const mark = attachmentMark(sys, attachment);
  try {
    withNft(sys, (nft) => {
      removeRules(nft, ({ comment }) => comment?.startsWith(mark) === true);
      removeIptablesByNft(sys, nft, attachment);
    });
  } catch (error) {
    if (!isNftMissing(error)) throw error;
  }
  removeIptablesByCommand(sys, environment, attachment);
}

/** How many addresses of the attachment rules of nf_tables are there for. */
export const countMasquerade = (sys: Sys, attachment: AttachmentId): number =>
  withNft(sys, (nft) => {
    const mark = attachmentMark(sys, attachment);
    return nft.listRules(table, checksChain).filter(({ comment }) => comment?.startsWith(mark)).length;
  });

/** Removes the network's rules of attachments that are not valid any more, but for those that the older iptables made. */
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
  withNft(sys, (nft) => {
    removeRules(nft, ({ comment = '' }) => comment.startsWith(ofNetwork) && !isValid(comment));
    collectIptablesByNft(sys, nft, network, valid);
  });
}
