/**
 * A case of the corpus: a configuration, and the calls made with it. Words that begin with `@` stand for things that
 * each side has of its own (see ../sides.ts).
 */

import type { CniDocument } from '../../lab/plugin.ts';

export type Keys = Record<string, unknown>;

export interface Step {
  readonly command: string;
  /** Container; c1 where not said. */
  readonly id?: string;
  readonly ifname?: string;
  /** CNI_NETNS; '' leaves it out. */
  readonly netns?: string;
  readonly path?: string;
  readonly args?: string;
  readonly environment?: Record<string, string>;
  /** Instead of the case's. */
  readonly configuration?: Keys | string;
  /** Over the case's. */
  readonly keys?: Keys;
  /** The result of ADD, a variation of it, or none. */
  readonly prevResult?: 'added' | 'none' | ((added: CniDocument) => unknown);
}

export interface Case {
  readonly name: string;
  /** Called directly: the bridge plugin, or the IPAM plugin. */
  readonly program: 'main' | 'ipam';
  /** Text goes as it is. */
  readonly configuration: Keys | string;
  /** Lines for `ip -batch`, in the host's namespace, before the first step. */
  readonly host?: readonly string[];
  /** Files of the store before the first step. */
  readonly store?: Readonly<Record<string, string>>;
  readonly files?: Readonly<Record<string, string>>;
  readonly steps: readonly Step[];
}

/** The versions that the reference in Debian 12 speaks. */
export const referenceVersions = ['0.1.0', '0.2.0', '0.3.0', '0.3.1', '0.4.0', '1.0.0'] as const;
