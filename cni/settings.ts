/** The settings of `weft`, from its configuration. Keys are canonical here, and types are validated. */

import { ipamOf, usesNodeSubnets } from '../ipam/settings.ts';
import { isUnicastMac, type Mac, parseMac } from '../net/mac.ts';
import { minimumMtuBytes } from '../net/mtu.ts';
import { interfaceNameProblem, parseArguments } from './spec/environment.ts';
import { CniError, errorCodes } from './spec/errors.ts';
import type { CniRequest, JsonObject } from './spec/request.ts';
import { type Dns, isEmptyDns } from './spec/results.ts';
import { quote } from './spec/text.ts';
import { checkConfiguration } from './spec/validation.ts';
import validate from './weft.schema.json?validator';

/** The IPAM plugin that runs in this process. */
export const ownIpamType = 'weft-ipam';

/** The VLANs of a bridge's port. */
export interface PortVlans {
  /** The VLAN of untagged frames; undefined leaves it unchanged. */
  readonly native: number | undefined;
  /** In order, without the native one. */
  readonly tagged: readonly number[];
  /** Whether the port stays in VLAN 1, the VLAN of every new port. */
  readonly keepsDefault: boolean;
}

const masqueradeBackends = ['nftables', 'iptables'] as const;
export type MasqueradeBackend = (typeof masqueradeBackends)[number];

export interface Settings {
  /** The network of the node: weftd's subnets, its MTU, and defaults that suit both. */
  readonly overlay: boolean;
  /** '' without an IPAM: the container is attached on layer 2 only. */
  readonly ipamType: string;
  readonly bridge: string;
  readonly isGateway: boolean;
  readonly isDefaultGateway: boolean;
  readonly forceAddress: boolean;
  /** Undefined: the MTU of the node's network, or the kernel's default. */
  readonly mtuBytes: number | undefined;
  readonly hairpin: boolean;
  readonly promiscuous: boolean;
  readonly isolated: boolean;
  /** Detect duplicate IPv6 addresses. */
  readonly duplicateDetection: boolean;
  readonly interfaceDisabled: boolean;
  /** The back end that masquerades the container's addresses; undefined for none. */
  readonly masquerade: MasqueradeBackend | undefined;
  /** Whether the container may send with its own MAC only. */
  readonly spoofCheck: boolean;
  /** Undefined if the configuration names no VLANs. Then a new bridge does not filter by VLAN. */
  readonly vlans: PortVlans | undefined;
  /** Replaces the IPAM's DNS settings; undefined keeps them. */
  readonly dns: Dns | undefined;
}

/** The keys of the configuration as the schema has validated them. */
interface Configuration {
  readonly bridge?: string;
  readonly isGateway?: boolean;
  readonly isDefaultGateway?: boolean;
  readonly forceAddress?: boolean;
  readonly ipMasq?: boolean;
  readonly ipMasqBackend?: string;
  readonly mtu?: number;
  readonly hairpinMode?: boolean;
  readonly promiscMode?: boolean;
  readonly vlan?: number;
  readonly vlanTrunk?: readonly { readonly id?: number; readonly minID?: number; readonly maxID?: number }[];
  readonly preserveDefaultVlan?: boolean;
  readonly macspoofchk?: boolean;
  readonly enabledad?: boolean;
  readonly disableContainerInterface?: boolean;
  readonly portIsolation?: boolean;
  readonly dns?: Dns;
  readonly args?: { readonly cni?: { readonly mac?: string } };
  readonly runtimeConfig?: { readonly mac?: string };
}

const invalid = (message: string): CniError => new CniError(errorCodes.invalidConfiguration, message);

const defaultBridge = 'cni0';

/** Never throws: '' for a value that is no string. */
export function ipamTypeOf(configuration: JsonObject): string {
  const { type } = ipamOf(configuration);
  return typeof type === 'string' ? type : '';
}

const vlanLimit = 4094;

/**
 * The VLANs of the container's port: its native one, and those of the trunk. A port with a native VLAN leaves the
 * default VLAN, unless the configuration keeps it. A trunk port stays in it.
 * @throws CniError 7
 */
function vlansOf({ vlan = 0, vlanTrunk, preserveDefaultVlan }: Configuration): PortVlans | undefined {
  if (vlan === 0 && vlanTrunk === undefined) return undefined;
  const tagged = new Set<number>();
  // Marks where ranges begin and end, because thousands of ranges may each have thousands of VLANs.
  const opened = new Int32Array(vlanLimit + 2);
  (vlanTrunk ?? []).forEach(({ id, minID, maxID }, i) => {
    if ((minID === undefined) !== (maxID === undefined)) {
      const [given, missing] = maxID === undefined ? ['minID', 'maxID'] : ['maxID', 'minID'];
      throw invalid(`"vlanTrunk[${i}]" has a "${given}", and its "${missing}" is missing: a range needs both`);
    }
    if (id !== undefined) tagged.add(id);
    if (minID === undefined || maxID === undefined) return;
    if (minID > maxID) throw invalid(`"vlanTrunk[${i}]" has the minID ${minID}, which is above its maxID ${maxID}`);
    opened[minID]!++;
    opened[Math.min(maxID, vlanLimit) + 1]!--;
  });
  for (let each = 0, depth = 0; each <= vlanLimit; each++) {
    depth += opened[each]!;
    if (depth > 0) tagged.add(each);
  }
  tagged.delete(vlan);
  return {
    native: vlan === 0 ? undefined : vlan,
    tagged: [...tagged].sort((x, y) => x - y),
    keepsDefault: preserveDefaultVlan ?? vlan === 0,
  };
}

function masqueradeOf({ ipMasq, ipMasqBackend }: Configuration): MasqueradeBackend | undefined {
  const backend = masqueradeBackends.find((name) => name === (ipMasqBackend || masqueradeBackends[0]));
  if (!backend) {
    throw invalid(`"ipMasqBackend" is ${quote(ipMasqBackend)}, which is none of ${masqueradeBackends.join(' and ')}`);
  }
  return ipMasq ? backend : undefined;
}

/** @throws CniError 7 */
export function readSettings(configuration: JsonObject): Settings {
  checkConfiguration(configuration, validate);
  const keys = configuration as Configuration;
  const ipamType = ipamTypeOf(configuration);
  const overlay = ipamType === ownIpamType && usesNodeSubnets(configuration);
  const bridge = keys.bridge || defaultBridge;
  const problem = interfaceNameProblem(bridge);
  if (problem) throw invalid(`"bridge" ${quote(bridge)} ${problem}`);
  const mtuBytes = keys.mtu || undefined;
  if (mtuBytes !== undefined && mtuBytes < minimumMtuBytes[4]) {
    throw invalid(`"mtu" is ${mtuBytes}, and IPv4 needs ${minimumMtuBytes[4]} or more`);
  }
  const promiscuous = keys.promiscMode ?? false;
  if (keys.hairpinMode && promiscuous) throw invalid('"hairpinMode" and "promiscMode" exclude each other, choose one');
  const interfaceDisabled = keys.disableContainerInterface ?? false;
  if (interfaceDisabled && ipamType !== '') {
    throw invalid(
      '"disableContainerInterface" and "ipam" exclude each other: an interface that is down has no address',
    );
  }
  const isDefaultGateway = keys.isDefaultGateway ?? overlay;
  const isGateway = isDefaultGateway || (keys.isGateway ?? overlay);
  const vlans = vlansOf(keys);
  const gatewayLink = `${bridge}.${vlans?.native}`;
  const gatewayProblem = isGateway && vlans?.native ? interfaceNameProblem(gatewayLink) : undefined;
  if (gatewayProblem) throw invalid(`The VLAN's gateway would be "${gatewayLink}", which ${gatewayProblem}`);
  return {
    overlay,
    ipamType,
    bridge,
    isGateway,
    isDefaultGateway,
    forceAddress: keys.forceAddress ?? false,
    mtuBytes,
    hairpin: keys.hairpinMode ?? (overlay && !promiscuous),
    promiscuous,
    isolated: keys.portIsolation ?? false,
    duplicateDetection: keys.enabledad ?? false,
    interfaceDisabled,
    masquerade: masqueradeOf(keys),
    spoofCheck: keys.macspoofchk ?? false,
    vlans,
    dns: keys.dns && !isEmptyDns(keys.dns) ? keys.dns : undefined,
  };
}

/**
 * The MAC asked for: runtimeConfig.mac, else args.cni.mac, else CNI_ARGS MAC.
 * @param configuration validated
 * @throws CniError 4 or 7
 */
export function requestedMac(request: CniRequest): Mac | undefined {
  const { runtimeConfig, args } = request.configuration as Configuration;
  const fromArguments = parseArguments(request.args).MAC;
  const sources = [
    ['"runtimeConfig.mac"', runtimeConfig?.mac, errorCodes.invalidConfiguration],
    ['"args.cni.mac"', args?.cni?.mac, errorCodes.invalidConfiguration],
    ['CNI_ARGS MAC', fromArguments, errorCodes.badEnvironment],
  ] as const;
  for (const [where, text, code] of sources) {
    if (!text) continue;
    const mac = parseMac(text);
    if (!mac) throw new CniError(code, `${where} is ${quote(text)}, which is not a MAC such as 0a:58:0a:05:48:02`);
    if (!isUnicastMac(mac)) throw new CniError(code, `${where} ${text} is not a MAC that an interface can have`);
    return mac;
  }
  return undefined;
}
