/** What a verb gets: the environment and the configuration, checked as far as the protocol goes. */

import type { Command, Environment } from './environment.ts';
import type { CniVersion } from './versions.ts';

/** The decoded JSON object, its keys not yet renamed (`foldKeys`). */
export type JsonObject = Record<string, unknown>;

export interface CniRequest extends Environment {
  readonly command: Command;
  /** The network's name. */
  readonly network: string;
  readonly cniVersion: CniVersion;
  readonly configuration: JsonObject;
  /** The configuration as it came, for another plugin. */
  readonly stdin: Uint8Array;
}

/** A verb returns what it answers on stdout, if anything, and throws what fails. */
export type Verb = (request: CniRequest) => string | undefined;

/** An attachment as the runtime names it: `cni.dev/valid-attachments`. */
export interface AttachmentName {
  readonly containerId: string;
  readonly ifname: string;
}
