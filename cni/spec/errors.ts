/**
 * Errors at the CNI edge: one class, the list of error codes, and one function that turns any error into a CniError.
 */

import { joinLines } from '../../net/text.ts';
import { oneLine, shorten } from './text.ts';
import { latestVersion } from './versions.ts';

/**
 * Every error code of Weft. 1–11, 50 and 51 are the specification's (CNI 1.1.0, "Error"); 100 and up are Weft's, one
 * per cause; 999 means a fault of Weft itself.
 */
export const errorCodes = {
  incompatibleVersion: 1,
  unsupportedField: 2,
  unknownContainer: 3,
  badEnvironment: 4,
  inputOutput: 5,
  undecodable: 6,
  invalidConfiguration: 7,
  badNamespace: 8,
  tryAgainLater: 11,
  notAvailable: 50,
  limitedConnectivity: 51,
  noFreeAddress: 100,
  addressNotAvailable: 101,
  alreadyAttached: 102,
  storeFailed: 103,
  interfaceExists: 104,
  notABridge: 105,
  bridgeAddressDiffers: 106,
  kernelRefused: 107,
  systemCallFailed: 108,
  delegateFailed: 109,
  attachmentDiffers: 110,
  reservationMissing: 111,
  collectionIncomplete: 112,
  notPermitted: 113,
  linkNotUp: 114,
  duplicateAddress: 115,
  subnetElsewhere: 116,
  fault: 999,
} as const;

export type ErrorCode = (typeof errorCodes)[keyof typeof errorCodes];

export class CniError extends Error {
  override readonly name = 'CniError';
  /** Identifies the error. `instanceof` cannot, because each bundled program has its own copy of the class. */
  readonly layer = 'cni';
  readonly code: number;
  readonly details: string;
  /** Another plugin's error document, passed on unchanged. */
  readonly document: string | undefined;

  /**
   * @param code one of `errorCodes`, or another plugin's
   * @param msg what failed, on what, and what to do
   */
  constructor(
    code: number,
    msg: string,
    options: { readonly cause?: unknown; readonly details?: string; readonly document?: string } = {},
  ) {
    super(msg, 'cause' in options ? { cause: options.cause } : undefined);
    this.code = code;
    this.details = options.details ?? (options.cause === undefined ? '' : causeText(options.cause));
    this.document = options.document;
  }
}

/** CNI_NETNS is the plugin's own namespace. */
export const ownNamespaceError = (netns: string): CniError =>
  new CniError(
    errorCodes.badNamespace,
    `CNI_NETNS "${netns}" is the plugin's own network namespace: a container needs one of its own`,
  );

/** The messages of an error and of its causes, in one line. */
export function causeText(error: unknown): string {
  const texts: string[] = [];
  for (let at: unknown = error; at !== undefined && texts.length < 8; at = (at as { cause?: unknown }).cause) {
    if (!(at instanceof Error)) {
      texts.push(String(at));
      break;
    }
    texts.push(at.message);
  }
  return texts.join(': ');
}

/** The errors of `linux/errors.ts`, which this layer does not import. */
interface LowerError extends Error {
  readonly layer: 'syscall' | 'netlink' | 'decode';
  readonly code?: string;
}

const layerOf = (error: unknown): unknown =>
  error instanceof Error ? (error as { layer?: unknown }).layer : undefined;

const isCniError = (error: unknown): error is CniError => layerOf(error) === 'cni';
const isLower = (error: unknown): error is LowerError =>
  ['syscall', 'netlink', 'decode'].includes(layerOf(error) as LowerError['layer']);

/**
 * Turns any error into a CniError. Code that knows more wraps its errors itself (`CniError` with `cause`); this handles
 * the other errors.
 */
export function toCniError(error: unknown): CniError {
  if (isCniError(error)) return error;
  if (isLower(error)) {
    const { message, layer, code } = error;
    if (code === 'EPERM' || code === 'EACCES') {
      return new CniError(
        errorCodes.notPermitted,
        `${message}; the plugin has to run as root with CAP_NET_ADMIN and CAP_SYS_ADMIN`,
        { cause: error },
      );
    }
    const own = layer === 'syscall' ? errorCodes.systemCallFailed : errorCodes.kernelRefused;
    return new CniError(own, message, { cause: error });
  }
  const message = error instanceof Error ? `${error.name}: ${error.message}` : String(error);
  const stack = error instanceof Error ? (error.stack ?? '') : '';
  return new CniError(errorCodes.fault, `Weft has a fault, please report it: ${message}`, {
    cause: error,
    details: `${causeText(error)}${stack ? ` at ${joinLines(stack.trim(), ', ')}` : ''}`,
  });
}

/** Errors end in a log and repeat their input, and paths and ids have any length. */
const messageLimitCharacters = 600;
const detailsLimitCharacters = 4000;

/** The error document (CNI 1.1.0, "Error"), one line. */
export function formatError(error: CniError, cniVersion: string | undefined): string {
  if (error.document !== undefined) return error.document;
  return JSON.stringify({
    cniVersion: cniVersion ?? latestVersion,
    code: error.code,
    msg: shorten(oneLine(error.message), messageLimitCharacters),
    details: shorten(oneLine(error.details), detailsLimitCharacters),
  });
}
