/**
 * `macspoofchk`: a container may send with its own MAC only. Table `nat` of family bridge has the names and comments of
 * the reference plugins. PREROUTING sends frames from the host's end to a chain of the attachment. That chain jumps to
 * a second one, which accepts the MAC and drops all other frames.
 */

import { type NftConnection, withNft } from '../linux/nft/connection.ts';
import { drop, inputInterface, jump, returnVerdict, rule, sourceMac } from '../linux/nft/match.ts';
import {
  commentLimitBytes,
  deleteChain,
  deleteRule,
  flushChain,
  type NftRule,
  newChain,
  newRule,
  newTable,
  type TableName,
} from '../linux/nft/table.ts';
import type { Sys } from '../linux/sys.ts';
import type { Mac } from '../net/mac.ts';
import { type AttachmentId, hostVethName } from '../reservations/host-end.ts';
import type { CheckPlace, Workplace } from './attachment-part.ts';
import type { AttachmentPlan } from './plan.ts';
import { retryRemoval, unlessNftIsMissing } from './removal.ts';
import { CniError, errorCodes } from './spec/errors.ts';
import type { AttachmentName, CniRequest } from './spec/request.ts';

const table: TableName = { family: 'bridge', name: 'nat' };
const baseChain = 'PREROUTING';
const commentMark = 'macspoofchk-';
const ifaceMark = 'cni-br-iface-';

const referenceOf = ({ containerId, ifname }: AttachmentName): string => `${containerId}-${ifname}`;
const commentOf = (name: AttachmentName): string => `${commentMark}${referenceOf(name)}`.slice(0, commentLimitBytes);
const chainsOf = (name: AttachmentName): { iface: string; mac: string } => {
  const iface = `${ifaceMark}${referenceOf(name)}`;
  return { iface, mac: `${iface}-mac` };
};

/** @param hostVeth the host's end, from which the container's frames come in */
function add(sys: Sys, name: AttachmentName, hostVeth: string, mac: Mac): void {
  const { iface, mac: macChain } = chainsOf(name);
  const options = { comment: commentOf(name), family: 'bridge' } as const;
  const base = { type: 'filter', hook: 'prerouting', priority: -300, policy: 'accept' } as const;
  withNft(sys, (nft) =>
    nft.transact([
      newTable(table),
      newChain(table, { name: baseChain, base, rules: [] }),
      newChain(table, { name: iface, rules: [] }),
      newChain(table, { name: macChain, rules: [] }),
      flushChain(table, iface),
      flushChain(table, macChain),
      newRule(table, baseChain, rule([inputInterface(hostVeth), jump(iface)], options)),
      newRule(table, iface, rule([jump(macChain)], options)),
      newRule(table, macChain, rule([sourceMac(mac), returnVerdict()], options)),
      newRule(table, macChain, rule([drop()], options)),
    ]),
  );
}

function remove(nft: NftConnection, name: AttachmentName): void {
  const comment = commentOf(name);
  const { iface, mac } = chainsOf(name);
  retryRemoval(() => {
    const rules = nft.listRules(table, baseChain).filter((each) => each.comment === comment);
    if (rules.length === 0 && !nft.hasChain(table, iface) && !nft.hasChain(table, mac)) return;
    nft.transact([
      ...rules.map(({ handle }) => deleteRule(table, baseChain, handle!)),
      // Deleting a missing chain would fail. Creating a chain that exists is no error.
      newChain(table, { name: iface, rules: [] }),
      newChain(table, { name: mac, rules: [] }),
      flushChain(table, iface),
      flushChain(table, mac),
      deleteChain(table, iface),
      deleteChain(table, mac),
    ]);
  });
}

const removeAll = (sys: Sys, name: AttachmentName): void => withNft(sys, (nft) => remove(nft, name));

export function afterAttach({ sys, request, settings, undo }: Workplace, { host, container }: AttachmentPlan): void {
  if (!settings.spoofCheck) return;
  undo.push('remove the check of the MAC', () => removeAll(sys, request));
  add(sys, request, host.name, container.mac);
}

export function beforeRelease(sys: Sys, request: CniRequest): void {
  if (request.configuration['macspoofchk'] === true) unlessNftIsMissing(() => removeAll(sys, request));
}

/** @throws CniError 110 if frames of the attachment are not checked */
export function check({ sys, request, settings }: CheckPlace): void {
  if (!settings.spoofCheck) return;
  const comment = commentOf(request);
  if (withNft(sys, (nft) => nft.listRules(table, baseChain).some((found) => found.comment === comment))) return;
  throw new CniError(
    errorCodes.attachmentDiffers,
    "The rules that check the container's MAC (table bridge nat) are missing",
  );
}

/** The interface's name that a rule of PREROUTING compares with. */
function inputInterfaceOf({ expressions }: NftRule): string {
  const compared = expressions.find((expression) => expression.type === 'cmp');
  if (compared?.type !== 'cmp') return '';
  const end = compared.value.indexOf(0);
  return String.fromCharCode(...compared.value.slice(0, end < 0 ? undefined : end));
}

/**
 * The attachment of a rule, if it is of this network. A comment does not name the network, and does not show where the
 * id ends. But the name of the host's end follows from both.
 */
function ownerOf(network: string, found: NftRule): AttachmentId | undefined {
  const reference = found.comment?.startsWith(commentMark) ? found.comment.slice(commentMark.length) : '';
  const hostVeth = inputInterfaceOf(found);
  for (let dash = reference.indexOf('-'); dash >= 0; dash = reference.indexOf('-', dash + 1)) {
    const owner = { network, containerId: reference.slice(0, dash), ifname: reference.slice(dash + 1) };
    if (hostVethName(owner) === hostVeth) return owner;
  }
  return undefined;
}

/** Removes the network's chains and rules of attachments that are no longer valid. */
export function collect(sys: Sys, { network }: CniRequest, valid: readonly AttachmentName[]): void {
  const keep = new Set(valid.map(referenceOf));
  unlessNftIsMissing(() =>
    withNft(sys, (nft) => {
      for (const found of nft.listRules(table, baseChain)) {
        const owner = ownerOf(network, found);
        if (owner && !keep.has(referenceOf(owner))) remove(nft, owner);
      }
    }),
  );
}
