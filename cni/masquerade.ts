/**
 * Source NAT for packets from containers to other networks (`ipMasq`). Tables, chains and comments are those of the
 * reference plugins, so that each can remove the rules of the other.
 *
 * Weft uses nf_tables unless the configuration asks for iptables by name. The reference plugins prefer iptables where
 * it is installed, and wait for its lock.
 *
 * nf_tables: table `inet cni_plugins_masquerade`, chain `masq_checks`, a rule for each address whose comment names the
 * attachment by hashes. For iptables see `iptables.ts`.
 */

import { type NftConnection, withNft } from '../linux/nft/connection.ts';
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
import { addressBits, families } from '../net/address.ts';
import type { NodeNetwork } from '../net/node-file.ts';
import { networkOf, type Prefix, parsePrefix, prefixContains } from '../net/prefix.ts';
import type { AttachmentId } from '../reservations/host-end.ts';
import type { CheckPlace, Workplace } from './attachment-part.ts';
import {
  addByIptables,
  collectIptablesByCommand,
  collectIptablesByNft,
  removeIptablesByCommand,
  removeIptablesByNft,
} from './iptables.ts';
import { hashText, type Masquerade, multicast } from './masquerade-entry.ts';
import type { AttachmentPlan } from './plan.ts';
import { retryRemoval, unlessNftIsMissing } from './removal.ts';
import { CniError, errorCodes } from './spec/errors.ts';
import type { AttachmentName, CniRequest } from './spec/request.ts';

const table: TableName = { family: 'inet', name: 'cni_plugins_masquerade' };
const checksChain = 'masq_checks';
const postroutingChain = 'postrouting';

const shortHash = (sys: Sys, text: string): string => hashText(sys, text).slice(0, 16);

/** The start of a rule's comment: for the rules of a network, and for those of an attachment. */
const networkMark = (sys: Sys, network: string): string => shortHash(sys, network);
const attachmentMark = (sys: Sys, { network, ifname, containerId }: AttachmentId): string =>
  `${networkMark(sys, network)}-${shortHash(sys, `${ifname}:${containerId}`)}`;

/** The end of a comment, if all of it fits. As the reference plugins do, it omits quotation marks. */
const namesOf = ({ ifname, containerId }: AttachmentName): string =>
  `if: ${ifname}, id: ${containerId}`.replaceAll('"', '');

/** The reference plugins' GC removes rules whose comment differs from this. */
function commentOf(sys: Sys, attachment: AttachmentId): string {
  const mark = attachmentMark(sys, attachment);
  return `${mark}, net: ${attachment.network}, ${namesOf(attachment)}`.slice(0, commentLimitBytes);
}

const hostPrefix = ({ address }: Prefix): Prefix => ({ address, length: addressBits(address.family) });

/** Adds the rules, with their table and chains, in one transaction. */
function addByNft(sys: Sys, attachment: AttachmentId, entries: readonly Masquerade[]): void {
  const comment = commentOf(sys, attachment);
  const base = { type: 'nat', hook: 'postrouting', priority: nftPriority.srcnat, policy: 'accept' } as const;
  const requests = [
    newTable(table),
    newChain(table, { name: checksChain, rules: [] }),
    newChain(table, { name: postroutingChain, base, rules: [] }),
    // Recreated each time, as the reference plugins do: then it is right, whatever was there before.
    flushChain(table, postroutingChain),
    ...families.map((family) =>
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

/** The whole network for an overlay's address, so that hosts see each other's containers by their own addresses. */
const reachableNetwork = (address: Prefix, node: NodeNetwork | undefined): Prefix =>
  node?.networks.find((network) => prefixContains(network, address.address)) ?? networkOf(address);

export function afterAttach({ sys, request, settings, undo, node }: Workplace, { container }: AttachmentPlan): void {
  const backend = settings.masquerade;
  if (!backend) return;
  undo.push('remove the masquerading', () => removeAll(sys, request.all, request));
  if (container.addresses.length === 0) return;
  const network = settings.overlay ? node() : undefined;
  const entries = container.addresses.map(({ prefix }) => ({
    address: prefix,
    network: reachableNetwork(prefix, network),
  }));
  if (backend === 'iptables') addByIptables(sys, request.all, request, entries);
  else addByNft(sys, request, entries);
}

/**
 * Removes the attachment's rules, made by either back end. It is no error if there are none.
 * @param environment of this process, for iptables
 */
function removeAll(sys: Sys, environment: readonly string[], attachment: AttachmentId): void {
  const mark = attachmentMark(sys, attachment);
  unlessNftIsMissing(() =>
    withNft(sys, (nft) => {
      removeRules(nft, ({ comment }) => comment?.startsWith(mark) === true);
      removeIptablesByNft(sys, nft, attachment);
    }),
  );
  removeIptablesByCommand(sys, environment, attachment);
}

export function beforeRelease(sys: Sys, request: CniRequest): void {
  if (request.configuration['ipMasq'] === true) removeAll(sys, request.all, request);
}

/** @throws CniError 110 if an address has no rule of nf_tables */
export function check({ sys, request, settings, addresses }: CheckPlace): void {
  if (settings.masquerade !== 'nftables') return;
  const mark = attachmentMark(sys, request);
  const rules = withNft(sys, (nft) => nft.listRules(table, checksChain));
  if (rules.filter(({ comment }) => comment?.startsWith(mark)).length >= addresses) return;
  throw new CniError(
    errorCodes.attachmentDiffers,
    "The rules that masquerade the container's addresses (table inet cni_plugins_masquerade) are missing",
  );
}

/** Removes the network's nf_tables rules of attachments that are no longer valid. */
function collectByNft(sys: Sys, network: string, valid: readonly AttachmentName[]): void {
  const ofNetwork = `${networkMark(sys, network)}-`;
  const names = new Set(valid.map(namesOf));
  let marks: Set<string> | undefined;
  // A comment names the attachment in full unless that is too long. Hashing takes a millisecond for each valid
  // attachment.
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

export function collect(sys: Sys, { network, all, configuration }: CniRequest, valid: readonly AttachmentName[]): void {
  unlessNftIsMissing(() => collectByNft(sys, network, valid));
  // This needs the iptables program, so it runs only for networks that masquerade.
  if (configuration['ipMasq'] === true) collectIptablesByCommand(sys, all, network, valid);
}
