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

/** Writes the answer to stdout. @throws CniError 5 if it cannot be written; then the runtime knows nothing of the work */
export type Deliver = (answer: string) => void;

/**
 * A verb delivers its answer, if it has one, and throws errors. It delivers while it can still undo its work, and undoes it
 * if that fails.
 */
export type Verb = (request: CniRequest, deliver: Deliver) => void;

/** An attachment as the runtime names it: `cni.dev/valid-attachments`. */
export interface AttachmentName {
  readonly containerId: string;
  readonly ifname: string;
}
