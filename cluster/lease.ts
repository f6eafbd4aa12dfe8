/**
 * Subnet leases, `<prefix>/subnets/…`: flannel's keys and values byte for byte, with a `Weft` object in the value that
 * flannel ignores.
 */

import type { Address } from '../net/address.ts';
import type { Mac } from '../net/mac.ts';
import type { Prefix } from '../net/prefix.ts';
import type { PerFamily } from './network-config.ts';

/** What a vxlan node tells its peers, a family. */
export interface VxlanLeaseData {
  readonly vni: number;
  readonly vtepMac: Mac;
}

/** What the owner says about itself in a lease's value. */
export interface LeaseValue {
  /** The addresses by which peers reach the node: outer addresses of the tunnel, or next hops. */
  readonly publicAddresses: PerFamily<Address>;
  /** `vxlan`, `host-gw`, or whatever a flannel peer runs. */
  readonly backendType: string;
  /** Filled in where the backend is vxlan; empty otherwise. */
  readonly backendData: PerFamily<VxlanLeaseData>;
  /** The owner's name; absent where the owner is flannel. */
  readonly node?: string;
  /** The owner's version of Weft; absent where the owner is flannel. */
  readonly version?: string;
}

/** A lease as etcd has it. */
export interface Lease extends LeaseValue {
  /** The whole etcd key, prefix included. */
  readonly key: string;
  /** The subnets leased: networks without host bits. */
  readonly subnets: PerFamily<Prefix>;
  /** No etcd lease is attached: it never expires, and stays so. */
  readonly reservation: boolean;
  /** Id of the etcd lease attached; '0' for a reservation. */
  readonly etcdLease: string;
  /** etcd's mod_revision of the key: changes with every write of it. */
  readonly modRevision: string;
  /** Keys of the value that are neither flannel's nor ours; kept when we write the value again. */
  readonly extra: Readonly<Record<string, unknown>>;
}

/** A lease that is ours, with the time it is good for. */
export interface OwnLease extends Lease {
  /** When etcd removes it unless it is renewed, in milliseconds since the epoch; undefined for a reservation. */
  readonly expiresAtMs: number | undefined;
}
