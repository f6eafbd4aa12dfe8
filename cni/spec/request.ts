/** The input of a verb: environment and configuration, checked against the protocol. */

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
  /** The unchanged configuration, for another plugin. */
  readonly stdin: Uint8Array;
}

/** A verb returns its answer for stdout, if any, and throws errors. */
export type Verb = (request: CniRequest) => string | undefined;

/** An attachment as the runtime names it: `cni.dev/valid-attachments`. */
export interface AttachmentName {
  readonly containerId: string;
  readonly ifname: string;
}
