/**
 * Errors of the cluster's store. There are two types, because callers react in two ways: without an answer they try
 * again; after a refusal a person has to change something.
 */

/** timeout: no answer in time. unavailable: no server. denied: rights, credentials, TLS. refused: another refusal. */
export type StoreErrorCode = 'timeout' | 'unavailable' | 'denied' | 'refused';

export interface StoreFailure {
  readonly code: StoreErrorCode;
  /** The failed action: `list the leases`. */
  readonly op: string;
  /** Its subject, in the store's own words; empty for the connection as a whole. */
  readonly subject: string;
  /** Names the store, says why, and what to do. */
  readonly message: string;
  readonly cause?: unknown;
}

/** Either of the two types below. */
export abstract class StoreError extends Error {
  readonly code: StoreErrorCode;
  readonly op: string;
  readonly subject: string;

  constructor({ code, op, subject, message, cause }: StoreFailure) {
    super(message, { cause });
    this.code = code;
    this.op = op;
    this.subject = subject;
  }
}

/** There was no answer, or a temporary one such as "no leader": the same call may succeed later. */
export class StoreUnavailableError extends StoreError {
  override readonly name = 'StoreUnavailableError';
}

/** The store refused, and will refuse until somebody changes a right, a credential or the request. */
export class StoreRefusedError extends StoreError {
  override readonly name = 'StoreRefusedError';
}

/** Every subnet of the config is leased, or none of them fits. */
export class NoFreeSubnetError extends Error {
  override readonly name = 'NoFreeSubnetError';
}
