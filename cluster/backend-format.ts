/**
 * The parts of the cluster's documents that belong to a backend: a section of the network config, and the backend's data in
 * a lease. This room knows no backend. The caller that opens a store or parses a config passes in the backends that it runs.
 */

import type { Family } from '../net/address.ts';
import type { ConfigSection } from './config-section.ts';

/** A backend's section of the network config, parsed. `type` is the name of the backend. */
export interface BackendConfig {
  readonly type: string;
  /** MTU of the outer interface (not of the tunnel device); absent: the interface's own. */
  readonly mtuBytes?: number;
}

/** Methods take the config and the lease data that the same backend has parsed. */
export interface BackendFormat {
  /** The `Type` in the network config, and `BackendType` in leases. */
  readonly name: string;
  /** The address families of the packets that it carries. */
  readonly families: readonly Family[];
  /** A warning for people who choose the backend. */
  readonly warning?: string;
  /** @throws ConfigError */
  parseConfig(section: ConfigSection, families: readonly Family[]): BackendConfig;
  /** The section with all defaults filled in, without `Type`; keys in flannel's order. */
  formatConfig(config: BackendConfig): Readonly<Record<string, unknown>>;
  /**
   * A family's `BackendData` of a lease; absent if the backend has none.
   * @param value the JSON value, as the store has it
   * @param path the value's name, for errors
   * @throws LeaseFormatError
   */
  parseLeaseData?(value: unknown, path: string): unknown;
  formatLeaseData?(data: unknown): unknown;
}

/** By name. */
export type BackendFormats = ReadonlyMap<string, BackendFormat>;
