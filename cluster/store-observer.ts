/** Observes a store: it is told of every request, connection and watch. */

import type { StoreErrorCode } from './store-errors.ts';

export type StoreOutcome = 'ok' | StoreErrorCode;

export interface StoreObserver {
  /** @param operation one of a dozen words, such as `list_leases` */
  storeRequest(operation: string, seconds: number, outcome: StoreOutcome): void;
  storeConnection(): void;
  /** The store confirmed a watch. */
  watchStarted(): void;
  /** A watch has ended against our will. */
  watchLost(): void;
  /** Everything had to be listed anew, since the watch could not go on from what was known. */
  watchResync(): void;
  /** The watch told of so many changes. */
  watchEvent(count: number): void;
}
