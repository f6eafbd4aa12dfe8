/**
 * flannel's VXLAN backend (RFC 7348): a device per family, over the same family, with flannel's names, so that Weft and
 * flannel find each other's. Three entries lead to a peer: the neighbour (the inner MAC of its subnet address), the FDB
 * entry (the host of that MAC), and the route.
 */

import { excerptOf } from '../../cluster/excerpt.ts';
import { isObject, LeaseFormatError, lookUp } from '../../cluster/lease.ts';
import { nda } from '../../linux/netlink/neighbour.ts';
import { iflaVxlan, type VxlanData } from '../../linux/netlink/vxlan.ts';
import { type Family, sameAddress } from '../../net/address.ts';
import { formatMac, isUnicastMac, localMac, type Mac, macKey, parseMac, sameMac } from '../../net/mac.ts';
import { maximumMtuBytes, minimumMtuBytes, vxlanOverheadBytes } from '../../net/mtu.ts';
import { networkOf } from '../../net/prefix.ts';
import { type Backend, type BackendConfig, directRoute } from './backend.ts';
import { addressDifference, type DeviceRules, fdbOddity } from './entries.ts';

export interface VxlanConfig extends BackendConfig {
  readonly type: 'vxlan';
  /** VXLAN network identifier; flannel's default is 1. */
  readonly vni: number;
  /** Destination UDP port. If the config has 0 or none, this is the kernel's default, 8472. */
  readonly port: number;
  /** Group policy extension. */
  readonly gbp: boolean;
  readonly learning: boolean;
  /** Peers that need no gateway get a plain route instead of the tunnel. */
  readonly directRouting: boolean;
}

export interface VxlanLeaseData {
  /** 0 if the lease lacks it (an old flannel wrote it): the config's applies. */
  readonly vni: number;
  readonly vtepMac: Mac;
}

/** The kernel's own choice, drivers/net/vxlan: not IANA's 4789. */
const kernelVxlanPort = 8472;
const greatestVni = 0xffffff;

/**
 * Attributes that are 0 or absent on a device of ours: weftd and flannel never set them, and they redirect or stop
 * packets.
 */
const oddities: Readonly<Record<number, string>> = {
  [iflaVxlan.IFLA_VXLAN_GROUP]: 'a remote host',
  [iflaVxlan.IFLA_VXLAN_TTL]: 'a TTL',
  [iflaVxlan.IFLA_VXLAN_TOS]: 'a TOS',
  [iflaVxlan.IFLA_VXLAN_LIMIT]: 'a limit of addresses',
  [iflaVxlan.IFLA_VXLAN_PROXY]: 'ARP proxying',
  [iflaVxlan.IFLA_VXLAN_RSC]: 'route short-circuiting',
  [iflaVxlan.IFLA_VXLAN_GROUP6]: 'a remote host',
  [iflaVxlan.IFLA_VXLAN_REMCSUM_TX]: 'remote checksums',
  [iflaVxlan.IFLA_VXLAN_REMCSUM_RX]: 'remote checksums',
  [iflaVxlan.IFLA_VXLAN_COLLECT_METADATA]: 'external control',
  [iflaVxlan.IFLA_VXLAN_GPE]: 'generic protocol extension',
  [iflaVxlan.IFLA_VXLAN_TTL_INHERIT]: 'an inherited TTL',
  [iflaVxlan.IFLA_VXLAN_DF]: 'a DF bit of its own',
};

/** Flags: the attribute has no value, its presence sets it. */
const isFlag = (type: number): boolean => type === iflaVxlan.IFLA_VXLAN_GPE;

function oddityOf({ unknown = [] }: VxlanData): string | undefined {
  const odd = unknown.find(
    ({ type, value }) => oddities[type] !== undefined && (isFlag(type) || value.some((byte) => byte !== 0)),
  );
  return odd && oddities[odd.type];
}

const rules: DeviceRules<VxlanData> = {
  difference({ data: wanted }, { data }) {
    if (!data) return 'it is not a VXLAN device';
    if (data.vni !== wanted.vni) return `its VNI is ${data.vni}, not ${wanted.vni}`;
    if (data.port !== wanted.port) return `its port is ${data.port}, not ${wanted.port}`;
    if (data.lower !== wanted.lower) return 'it is bound to another interface';
    const local = addressDifference(data.local, wanted.local!);
    if (local !== undefined) return local;
    if (data.learning !== wanted.learning) return `learning is ${data.learning ? 'on' : 'off'}`;
    if (data.gbp !== wanted.gbp) return `group-based policy is ${data.gbp ? 'on' : 'off'}`;
    const oddity = oddityOf(data);
    return oddity && `it has ${oddity}`;
  },
  // vxlan_config_validate in vxlan_core.c
  clash({ data: wanted }, { name, data }) {
    const excludes =
      data?.vni === wanted.vni &&
      data.port === wanted.port &&
      data.gbp === wanted.gbp &&
      (data.local?.family ?? 4) === wanted.local!.family;
    if (!excludes) return undefined;
    return `"${name}" has VNI ${wanted.vni} at port ${wanted.port} already; delete it, or give the network another Backend.VNI`;
  },
};

/** Made once: thousands of entries name their device. */
const deviceNames = new WeakMap<VxlanConfig, Readonly<Record<Family, string>>>();

export const vxlan: Backend<VxlanConfig, VxlanLeaseData> = {
  name: 'vxlan',
  families: [4, 6],
  apart: 'give one of the networks another Backend.VNI',

  parseConfig(section, families) {
    const vni = section.integer('VNI', 0, greatestVni) ?? 1;
    const port = section.integer('Port', 0, 65535) || kernelVxlanPort;
    const mtuBytes = section.integer('MTU', 0, maximumMtuBytes) || undefined;
    const least = Math.max(...families.map((family) => minimumMtuBytes[family] + vxlanOverheadBytes(family)));
    if (mtuBytes !== undefined && mtuBytes < least) {
      throw section.error('MTU', `it is the external interface's, and must be 0 (its own) or at least ${least}`);
    }
    return {
      type: 'vxlan',
      vni,
      port,
      ...(mtuBytes === undefined ? {} : { mtuBytes }),
      gbp: section.boolean('GBP', false),
      learning: section.boolean('Learning', false),
      directRouting: section.boolean('DirectRouting', false),
    };
  },
  formatConfig: ({ vni, port, mtuBytes = 0, gbp, learning, directRouting }) => ({
    VNI: vni,
    Port: port,
    // 0: the external interface's.
    MTU: mtuBytes,
    GBP: gbp,
    Learning: learning,
    DirectRouting: directRouting,
  }),

  parseLeaseData(value, path): VxlanLeaseData {
    if (!isObject(value)) throw new LeaseFormatError(`"${path}" is ${excerptOf(value)}, not an object`);
    const macText = lookUp(value, 'VtepMAC');
    const vtepMac = typeof macText === 'string' ? parseMac(macText) : undefined;
    if (!vtepMac) {
      throw new LeaseFormatError(`"${path}.VtepMAC" is ${excerptOf(macText)}, which is no MAC address`);
    }
    const vni = lookUp(value, 'VNI') ?? 0;
    if (typeof vni !== 'number' || !Number.isInteger(vni) || vni < 0) {
      throw new LeaseFormatError(`"${path}.VNI" is ${excerptOf(vni)}, not a number`);
    }
    return { vni, vtepMac };
  },
  formatLeaseData: ({ vni, vtepMac }) => ({ VNI: vni, VtepMAC: formatMac(vtepMac) }),

  isDeviceName: (name) => /^flannel(?:-v6)?\.\d+$/.test(name),
  deviceName(config, family) {
    let names = deviceNames.get(config);
    if (!names) {
      names = { 4: `flannel.${config.vni}`, 6: `flannel-v6.${config.vni}` };
      deviceNames.set(config, names);
    }
    return names[family];
  },

  /** The MAC stays the same as long as anything remembers it, unless another host has it, as with copied images. */
  prepare({ vni }, { said, macs, isTaken, randomMacBytes }) {
    const known = [...said.map((data) => data?.vtepMac), ...macs].find(
      (mac) => mac && isUnicastMac(mac) && !isTaken(({ vtepMac }) => sameMac(vtepMac, mac)),
    );
    const mac = known ?? localMac(randomMacBytes());
    return { leaseData: { vni, vtepMac: mac }, mac };
  },

  device({ config, external, leaseData }, family, mtuBytes) {
    const { vni, port, learning, gbp } = config;
    const local = external.addresses[family]!;
    const data: VxlanData = { vni, port, local, lower: external.index, learning, gbp };
    const name = vxlan.deviceName(config, family)!;
    return { name, kind: 'vxlan', local, mac: leaseData[family]!.vtepMac, mtuBytes, data, rules };
  },
  overheadBytes: (_, family) => vxlanOverheadBytes(family),

  tunnelAddress: (subnet) => networkOf(subnet).address,

  // Two leases of one host share its tunnel device; two hosts cannot.
  claims: { kind: 'fdb', format: ({ fdb }) => `MAC "${formatMac(fdb![0]!.mac)}"` },
  entries(node, peer) {
    const { config, leaseData } = node;
    const { subnet, host } = peer;
    const endpoint = subnet.address;
    const { family } = endpoint;
    if (config.directRouting && peer.isNeighbour) return directRoute(node, peer);
    const mac = peer.leaseData?.vtepMac;
    if (!mac) return `it has no MAC of its IPv${family} tunnel device`;
    // The kernel refuses such entries, or floods them.
    if (!isUnicastMac(mac))
      return `the MAC of its tunnel device, "${formatMac(mac)}", is no device's: it is not unicast`;
    const ownMac = leaseData[family]?.vtepMac;
    if (ownMac && sameMac(ownMac, mac)) return `the MAC of its tunnel device, "${formatMac(mac)}", is this host's own`;
    const device = vxlan.deviceName(config, family)!;
    return {
      path: 'tunnel',
      neighbours: [{ device, address: endpoint, mac }],
      routes: [{ destination: subnet, gateway: endpoint, device, onlink: true }],
      fdb: [{ device, mac, destination: host }],
      claim: macKey(mac),
    };
  },
  routesDirectly: ({ directRouting }) => directRouting,
  outer: ({ port, vni }) => ({ ipProtocol: 17, udpPort: port, vni }),

  expects(entry, isThere, hostOf) {
    const { mac, address } = entry;
    if (!mac || !address) return false;
    const host = hostOf(macKey(mac));
    const isWanted = host !== undefined && sameAddress(host, address) && fdbOddity(entry) === undefined;
    return isThere ? isWanted && (entry.state & nda.NUD_PERMANENT) !== 0 : !isWanted;
  },
};
