/** Observes a store: every request, connection and watch. */

import type { StoreErrorCode } from './store-errors.ts';

export type StoreOutcome = 'ok' | StoreErrorCode;

export interface StoreObserver {
  /** @param operation one of a dozen words, such as `list_leases` */
  storeRequest(operation: string, seconds: number, outcome: StoreOutcome): void;
  storeConnection(): void;
  /** The store confirmed a watch. */
  watchStarted(): void;
  /** A watch ended unexpectedly. */
  watchLost(): void;
  /** Everything had to be listed again, because the watch could not continue. */
  watchResync(): void;
  /** The watch reported this many changes. */
  watchEvent(count: number): void;
}
