/**
 * The cluster's network config, `<prefix>/config`: flannel's document and flannel's rules (v0.28.9, pkg/subnet/config.go).
 * Keys are matched without regard to case, unknown ones are ignored, as Go's encoding/json does.
 */

import type { Address, Family } from '../net/address.ts';
import type { Prefix } from '../net/prefix.ts';

/** A value for each family in use: at least one of the two. */
export interface PerFamily<T> {
  readonly 4?: T;
  readonly 6?: T;
}

/** IPv4 first: the order in which everything here goes through the families. */
export const families = [4, 6] as const satisfies readonly Family[];

/** One family's share of the cluster: the network, and which of its subnets are handed out. */
export interface FamilyNetwork {
  readonly network: Prefix;
  /** Prefix length of every node's subnet. */
  readonly subnetLength: number;
  /** Network address of the first and of the last subnet that may be handed out. */
  readonly subnetMin: Address;
  readonly subnetMax: Address;
}

export interface VxlanBackend {
  readonly type: 'vxlan';
  /** VXLAN network identifier; flannel's default is 1. */
  readonly vni: number;
  /** Destination UDP port, the kernel's default 8472 already filled in where the config says 0 or nothing. */
  readonly port: number;
  /** MTU of the outer interface (not of the VXLAN device); absent: the interface's own. */
  readonly mtuBytes?: number;
  /** Group policy extension. */
  readonly gbp: boolean;
  readonly learning: boolean;
  /** Peers that are reached without a gateway get a plain route and no tunnel. */
  readonly directRouting: boolean;
}

export interface HostGatewayBackend {
  readonly type: 'host-gw';
}

/** A backend that flannel knows and Weft does not (udp, wireguard, ipip, …). */
export interface OtherBackend {
  readonly type: 'other';
  /** The config's Type, in lower case. `udp` where there is no Backend at all. */
  readonly name: string;
}

export type Backend = VxlanBackend | HostGatewayBackend | OtherBackend;

export interface NetworkConfig {
  /** The families in use, at least one. */
  readonly networks: PerFamily<FamilyNetwork>;
  readonly enableNftables: boolean;
  readonly backend: Backend;
}

/** The document breaks a rule: where, what stands there, and the rule as the message. */
export class ConfigError extends Error {
  override readonly name = 'ConfigError';
  /** Such as `Backend.VNI`; empty for the document as a whole. */
  readonly path: string;
  /** What stands there; undefined if nothing does. */
  readonly value: unknown;

  constructor(path: string, value: unknown, rule: string) {
    super(
      path === ''
        ? `Network config: ${rule}`
        : value === undefined
          ? `Network config: "${path}" is missing: ${rule}`
          : `Network config: "${path}" is ${JSON.stringify(value)}: ${rule}`,
    );
    this.path = path;
    this.value = value;
  }
}

/** The name by which leases and people call a backend: `vxlan`, `host-gw`, `wireguard`, … */
export const backendName = (backend: Backend): string => (backend.type === 'other' ? backend.name : backend.type);

/** @throws ConfigError with path, value and rule */
export declare function parseNetworkConfig(text: string): NetworkConfig;
