/**
 * `flannel`: the verbs of flannel's plugin. It attaches no container itself. It completes its configuration from
 * subnet.env and gives it to another plugin, usually `bridge`.
 *
 * Which program does the work? The one that the administrator has installed, as with flannel: a host that comes from
 * flannel keeps its bridge plugin, wrappers of it included. Weft's own code does it for the types that are Weft: `weft`,
 * and a `bridge` that is this executable by another name. It also stands in for a `bridge` that is not installed,
 * because a host then needs one package less. It reads the same keys, and keeps host-local's store and format.
 */

import { findWithin } from '../../ipam/other-stores.ts';
import { storeFolder } from '../../ipam/settings.ts';
import { readText, sayOnStderr } from '../../linux/files.ts';
import { openNetlink } from '../../linux/netlink/connection.ts';
import { getLink } from '../../linux/netlink/link.ts';
import type { Sys } from '../../linux/sys.ts';
import { formatAddress } from '../../net/address.ts';
import { missingInSubnetEnv, NodeFileError, parseSubnetEnv } from '../../net/node-file.ts';
import { checkOtherCarriers } from '../carriers.ts';
import { callPlugin, lookForPlugin, missingPluginError } from '../delegate.ts';
import { asksForFilters } from '../extras.ts';
import { ipamTypeOf, ownIpamType } from '../settings.ts';
import { validAttachments } from '../spec/attachments.ts';
import { CniError, causeText, errorCodes } from '../spec/errors.ts';
import { lookUp } from '../spec/keys.ts';
import type { CniRequest, Deliver, JsonObject, Verb } from '../spec/request.ts';
import { oneLine, quote } from '../spec/text.ts';
import {
  dataDirOf,
  delegateConfiguration,
  formatGoJson,
  isObject,
  readFlannelKeys,
  type SubnetEnv,
} from './configuration.ts';
import { collectRecords, findRecord, removeRecord, writeRecord } from './record.ts';

/** Weft's own verbs, as far as they stand in for a bridge plugin. Loaded only if they are needed. */
export interface OwnVerbs {
  readonly add: (sys: Sys, request: CniRequest, deliver: Deliver) => void;
  readonly delete: (sys: Sys, request: CniRequest) => void;
  readonly check: (sys: Sys, request: CniRequest) => void;
  readonly status: (sys: Sys, request: CniRequest) => void;
  readonly collect: (sys: Sys, request: CniRequest) => void;
  readonly removeAddresses: (sys: Sys, request: CniRequest) => void;
  readonly removeRules: (sys: Sys, request: CniRequest) => void;
}

/** The configuration for the other plugin, and who does the work. */
interface Delegation {
  readonly type: string;
  readonly isOwn: boolean;
  readonly request: CniRequest;
}

const delegateType = 'delegate.type';
/** Types whose work Weft's own code can do. */
const isBridge = ({ type }: JsonObject): boolean => type === 'bridge' || type === 'weft';
const hostLocal = 'host-local';

/** subnet.env is a few lines. */
const subnetEnvLimitBytes = 64 * 1024;

/** @throws CniError 11 */
function readSubnetEnv(sys: Sys, path: string): SubnetEnv {
  const unusable = (what: string, cause?: unknown): CniError =>
    new CniError(
      errorCodes.tryAgainLater,
      `Cannot use this node's subnet in "${path}": ${what}; weftd or flanneld writes it when it has a subnet`,
      cause === undefined ? {} : { cause },
    );
  try {
    const text = readText(sys, path, subnetEnvLimitBytes);
    if (text === undefined) throw unusable('there is no such file');
    const missing = missingInSubnetEnv(text);
    if (missing.length > 0) throw unusable(`it does not set ${missing.join(', ')}`);
    return parseSubnetEnv(text);
  } catch (error) {
    if (error instanceof CniError) throw error;
    throw unusable(error instanceof NodeFileError ? error.message : 'it cannot be read', error);
  }
}

/** @throws CniError 7 or 50 if there is nobody who could do it */
function isOwnWork(sys: Sys, request: CniRequest, type: string): boolean {
  if (type === 'flannel') {
    throw new CniError(errorCodes.invalidConfiguration, '"delegate.type" is "flannel", which is this plugin itself');
  }
  if (type === 'weft') return true;
  const found = lookForPlugin(sys, request, type, delegateType);
  if (found && !found.isSelf) return false;
  if (isBridge({ type })) return true;
  if (!found) throw missingPluginError(request, type, delegateType);
  throw new CniError(
    errorCodes.invalidConfiguration,
    `"delegate.type" is ${quote(type)}, which is Weft's own executable and attaches no container by that name`,
  );
}

/** The request for Weft's own code, or for the other plugin: this call's environment, another configuration. */
function requestWith(sys: Sys, request: CniRequest, configuration: JsonObject, isOwn: boolean): CniRequest {
  const text = formatGoJson(configuration);
  // A copy: our own code changes it.
  const copy = JSON.parse(text) as JsonObject;
  const { ipam } = copy;
  // Our own code keeps host-local's store itself, in this process.
  if (isOwn && isObject(ipam) && ipam['type'] === hostLocal) ipam['type'] = ownIpamType;
  // By this file it learns which addresses are of the node's subnets.
  if (isOwn) copy['subnetFile'] = lookUp(request.configuration, 'subnetFile') ?? '';
  const stdin = new Uint8Array(sys.encodeUtf8(text));
  return { ...request, network: configuration['name'] as string, configuration: copy, stdin };
}

function delegationOf(sys: Sys, request: CniRequest, configuration: JsonObject): Delegation {
  const type = configuration['type'] as string;
  const isOwn = isOwnWork(sys, request, type);
  return { type, isOwn, request: requestWith(sys, request, configuration, isOwn) };
}

/**
 * host-local knows its own network's store alone, and would give an address that a container of another network has.
 * @throws CniError 7
 */
function checkOtherStores(sys: Sys, { isOwn, request }: Delegation, { subnets }: SubnetEnv): void {
  if (isOwn || ipamTypeOf(request.configuration) !== hostLocal) return;
  const found = findWithin(sys, storeFolder(request), subnets);
  if (!found) return;
  const { network, address } = found;
  throw new CniError(
    errorCodes.invalidConfiguration,
    `The network "${network}" has addresses of this node's subnet, as ${formatAddress(address)}, and host-local does not ` +
      `know of them: give the network "${request.network}" the name "${network}", or set "ipam.type" to "weft-ipam"`,
  );
}

/** As `weft` does, before another plugin is asked that does not. @throws CniError 116 */
function checkCarriers(sys: Sys, { request }: Delegation, { subnets }: SubnetEnv): void {
  const { configuration } = request;
  if (!isBridge(configuration)) return;
  const name =
    typeof configuration['bridge'] === 'string' && configuration['bridge'] ? configuration['bridge'] : 'cni0';
  const host = openNetlink(sys);
  try {
    checkOtherCarriers(host, subnets, name, host.get(getLink({ name }))?.index);
  } finally {
    host.close();
  }
}

const call = (sys: Sys, { request, type }: Delegation, command: CniRequest['command']): string =>
  callPlugin(sys, request, type, command, delegateType);

/** The other plugin's result, with a version: a result without one is of its configuration's. @throws CniError 109 */
function resultOf(answer: string, { request, type }: Delegation): string {
  let value: unknown;
  try {
    value = JSON.parse(answer);
  } catch {
    // See below.
  }
  if (isObject(value))
    return JSON.stringify('cniVersion' in value ? value : { cniVersion: request.cniVersion, ...value });
  throw new CniError(errorCodes.delegateFailed, `The plugin "${type}" succeeded without a result`, {
    details: answer.trim() === '' ? 'it wrote nothing' : 'it wrote no JSON object',
  });
}

/** Whether the other plugin has undone what a failed ADD has left. */
function isUndone(sys: Sys, delegation: Delegation): boolean {
  try {
    call(sys, delegation, 'DEL');
    return true;
  } catch {
    // The first error is the one that counts, and the runtime's DEL tries again.
    return false;
  }
}

function addAndRecord(sys: Sys, dataDir: string, delegation: Delegation, own: OwnVerbs | undefined): Verb {
  return (request, deliver) => {
    const { stdin } = delegation.request;
    const path = writeRecord(
      sys,
      dataDir,
      request,
      sys.decodeUtf8(stdin.buffer as ArrayBuffer, stdin.byteOffset, stdin.byteLength),
    );
    try {
      if (own) own.add(sys, delegation.request, deliver);
      else deliver(resultOf(call(sys, delegation, 'ADD'), delegation));
    } catch (error) {
      if (own || isUndone(sys, delegation)) removeRecord(sys, path);
      throw error;
    }
  };
}

/**
 * The configuration for a DEL whose record is lost. It may say more than ADD's did: deleting rules that are not there is
 * no error.
 */
function assumedConfiguration({ network, configuration }: CniRequest): JsonObject {
  const ipam = lookUp(configuration, 'ipam');
  const delegate = lookUp(configuration, 'delegate');
  const { type } = isObject(delegate) ? delegate : {};
  return {
    ...(isObject(delegate) ? delegate : {}),
    ipMasq: true,
    name: network,
    type: typeof type === 'string' ? type : 'bridge',
    ipam: { type: hostLocal, ...(isObject(ipam) ? ipam : {}) },
  };
}

/** Without a record, only what Weft's own code knows can be removed: a bridge's port, rules, host-local's addresses. */
function deleteWithoutRecord(sys: Sys, request: CniRequest, own: OwnVerbs): void {
  const assumed = requestWith(sys, request, assumedConfiguration(request), true);
  if (isBridge(assumed.configuration)) own.delete(sys, assumed);
  else if (ipamTypeOf(assumed.configuration) === ownIpamType) own.removeAddresses(sys, assumed);
}

/**
 * The bridge plugin's DEL fails for ever where its rules are gone, as after a restart of the firewall. It also knows
 * nothing of rules that Weft made before the plugin was installed. Weft's own DEL removes all that either has made.
 */
function deleteByBridge(
  sys: Sys,
  request: CniRequest,
  configuration: JsonObject,
  delegation: Delegation,
  own: OwnVerbs,
): void {
  try {
    call(sys, delegation, 'DEL');
  } catch (error) {
    own.delete(sys, requestWith(sys, request, configuration, true));
    const said = `The plugin "${delegation.type}" could not delete the container: ${causeText(error)}`;
    sayOnStderr(sys, `${oneLine(said)}. Its links, rules and addresses are removed without it`);
    return;
  }
  if (asksForFilters(delegation.request)) own.removeRules(sys, delegation.request);
}

async function loadDelete(sys: Sys, request: CniRequest, loadOwn: () => Promise<OwnVerbs>): Promise<Verb> {
  const dataDir = dataDirOf(request.configuration);
  const record = findRecord(sys, dataDir, request);
  if (!record?.configuration) {
    const own = await loadOwn();
    return () => {
      deleteWithoutRecord(sys, request, own);
      if (record) removeRecord(sys, record.path);
    };
  }
  const delegation = delegationOf(sys, request, record.configuration);
  const own = isBridge(record.configuration) ? await loadOwn() : undefined;
  return () => {
    if (delegation.isOwn) own?.delete(sys, delegation.request);
    else if (own) deleteByBridge(sys, request, record.configuration!, delegation, own);
    else call(sys, delegation, 'DEL');
    removeRecord(sys, record.path);
  };
}

/** @throws CniError 110 */
async function loadCheck(sys: Sys, request: CniRequest, loadOwn: () => Promise<OwnVerbs>): Promise<Verb> {
  const { dataDir } = readFlannelKeys(request.configuration);
  const configuration = findRecord(sys, dataDir, request)?.configuration;
  if (!configuration) {
    throw new CniError(
      errorCodes.attachmentDiffers,
      `Container "${request.containerId}" has no record in "${dataDir}": this plugin has not attached it`,
    );
  }
  const prevResult = lookUp(request.configuration, 'prevResult');
  const checked = {
    ...configuration,
    cniVersion: request.cniVersion,
    ...(prevResult === undefined ? {} : { prevResult }),
  };
  if (!isBridge(configuration)) {
    const delegation = delegationOf(sys, request, checked);
    return () => void call(sys, delegation, 'CHECK');
  }
  // The bridge plugin's CHECK wants routes without a gateway, and its own ADD gives them one.
  const own = await loadOwn();
  return () => own.check(sys, requestWith(sys, request, checked, true));
}

/** @throws CniError 50, or 7 if the configuration is wrong */
async function loadStatus(sys: Sys, request: CniRequest, loadOwn: () => Promise<OwnVerbs>): Promise<Verb> {
  try {
    const keys = readFlannelKeys(request.configuration);
    const env = readSubnetEnv(sys, keys.subnetFile);
    const delegation = delegationOf(sys, request, delegateConfiguration(request, keys, env));
    checkOtherStores(sys, delegation, env);
    const own = delegation.isOwn ? await loadOwn() : undefined;
    return () => void (own ? own.status(sys, delegation.request) : call(sys, delegation, 'STATUS'));
  } catch (error) {
    if (!(error instanceof CniError) || error.code !== errorCodes.tryAgainLater) throw error;
    throw new CniError(errorCodes.notAvailable, error.message, { cause: error });
  }
}

/**
 * The bridge plugin's own GC is not asked: it came late, and frees no address. Weft's frees what host-local keeps of the
 * network, and all that Weft has made.
 */
async function loadCollect(sys: Sys, request: CniRequest, loadOwn: () => Promise<OwnVerbs>): Promise<Verb> {
  const { configuration } = request;
  const keys = readFlannelKeys(configuration);
  const valid = validAttachments(configuration);
  const lists = Object.entries(configuration).filter(([key]) => key.startsWith('cni.dev/'));
  const delegated = { ...delegateConfiguration(request, keys, undefined), ...Object.fromEntries(lists) };
  const own = isBridge(delegated) ? await loadOwn() : undefined;
  return () => {
    if (own) own.collect(sys, requestWith(sys, request, delegated, true));
    else call(sys, delegationOf(sys, request, delegated), 'GC');
    collectRecords(sys, keys.dataDir, request.network, valid);
  };
}

/** The verb of a request. @param loadOwn loads Weft's own verbs */
export async function flannelVerb(sys: Sys, request: CniRequest, loadOwn: () => Promise<OwnVerbs>): Promise<Verb> {
  switch (request.command) {
    case 'ADD': {
      const keys = readFlannelKeys(request.configuration);
      const env = readSubnetEnv(sys, keys.subnetFile);
      const delegation = delegationOf(sys, request, delegateConfiguration(request, keys, env));
      checkOtherStores(sys, delegation, env);
      checkCarriers(sys, delegation, env);
      return addAndRecord(sys, keys.dataDir, delegation, delegation.isOwn ? await loadOwn() : undefined);
    }
    case 'DEL':
      return loadDelete(sys, request, loadOwn);
    case 'CHECK':
      return loadCheck(sys, request, loadOwn);
    case 'STATUS':
      return loadStatus(sys, request, loadOwn);
    case 'GC':
      return loadCollect(sys, request, loadOwn);
  }
}
