/** What an attachment has in the packet filter: masquerading, and the check of its MAC. Loaded where that is asked for. */

import { isNftMissing } from '../linux/nft/connection.ts';
import type { Sys } from '../linux/sys.ts';
import type { NodeNetwork } from '../net/node-file.ts';
import { networkOf, type Prefix, prefixContains } from '../net/prefix.ts';
import { collectIptablesByCommand } from './iptables.ts';
import { addMasquerade, collectMasquerade, countMasquerade, removeMasquerade } from './masquerade.ts';
import type { AttachmentPlan } from './plan.ts';
import type { Settings } from './settings.ts';
import { CniError, errorCodes } from './spec/errors.ts';
import type { AttachmentName, CniRequest } from './spec/request.ts';
import { addSpoofCheck, collectSpoofChecks, hasSpoofCheck, removeSpoofCheck } from './spoof-check.ts';
import type { UndoStack } from './undo.ts';

/** Of the overlay all of it, so that hosts see each other's containers by their own addresses; else the subnet. */
function reachableNetwork(address: Prefix, node: NodeNetwork | undefined): Prefix {
  return node?.networks.find((network) => prefixContains(network, address.address)) ?? networkOf(address);
}

/** Each step leaves its undo before it is taken: a transaction whose answer is lost may have been done. */
export function addFilters(
  sys: Sys,
  request: CniRequest,
  settings: Settings,
  plan: AttachmentPlan,
  node: NodeNetwork | undefined,
  undo: UndoStack,
): void {
  const { masquerade, spoofCheck } = settings;
  if (spoofCheck) {
    undo.push('remove the check of the MAC', () => removeSpoofCheck(sys, request));
    addSpoofCheck(sys, request, plan.host.name, plan.container.mac);
  }
  if (masquerade) {
    undo.push('remove the masquerading', () => removeMasquerade(sys, request.all, request));
    const entries = plan.container.addresses.map(({ prefix }) => ({
      address: prefix,
      network: reachableNetwork(prefix, node),
    }));
    addMasquerade(sys, request.all, request, entries, masquerade);
  }
}

/** Where there are no rules there is nothing to remove. */
function unlessNftIsMissing(remove: () => void): void {
  try {
    remove();
  } catch (error) {
    if (!isNftMissing(error)) throw error;
  }
}

/** What was asked for when the container was attached, as far as the configuration, which may be invalid by now, says. */
export function removeFilters(sys: Sys, request: CniRequest): void {
  const { ipMasq, macspoofchk } = request.configuration;
  if (macspoofchk === true) unlessNftIsMissing(() => removeSpoofCheck(sys, request));
  if (ipMasq === true) removeMasquerade(sys, request.all, request);
}

/** @throws CniError 110 */
export function checkFilters(sys: Sys, request: CniRequest, settings: Settings, addresses: number): void {
  const differs = (what: string): CniError => new CniError(errorCodes.attachmentDiffers, what);
  if (settings.spoofCheck && !hasSpoofCheck(sys, request)) {
    throw differs("The rules that check the container's MAC (table bridge nat) are missing");
  }
  if (settings.masquerade === 'nftables' && countMasquerade(sys, request) < addresses) {
    throw differs(
      "The rules that masquerade the container's addresses (table inet cni_plugins_masquerade) are missing",
    );
  }
}

/** Goes on past errors, which it leaves in `errors`. */
export function collectFilters(
  sys: Sys,
  { network, all, configuration }: CniRequest,
  valid: readonly AttachmentName[],
  errors: unknown[],
): void {
  const collectors = [
    () => collectMasquerade(sys, network, valid),
    () => collectSpoofChecks(sys, network, valid),
    // It needs the program, which is no affair of who does not masquerade.
    () => configuration['ipMasq'] === true && collectIptablesByCommand(sys, all, network, valid),
  ];
  for (const collect of collectors) {
    try {
      unlessNftIsMissing(collect);
    } catch (error) {
      errors.push(error);
    }
  }
}
