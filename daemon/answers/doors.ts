/**
 * The two entrances to weftd's server, and their limits.
 *
 * The probe port accepts only the head of a GET or HEAD, one per connection, within a deadline, on a limited number of
 * connections at a time. So nobody on the network can occupy it.
 */

import { RefusedError } from '../../cluster/administration.ts';
import type { ApiError } from '../../cluster/status.ts';
import { StoreError } from '../../cluster/store-errors.ts';
import { messageOf } from '../../command/fault.ts';
import { type Answer, type DoorName, jsonAnswer, type Request, RequestError, type Route, textAnswer } from './route.ts';

export interface DoorLimits {
  /** From its beginning to its end. */
  readonly connectionMs: number;
  /** Connections at a time: a further one replaces the oldest. */
  readonly connections: number;
  readonly headBytes: number;
}

export interface Door {
  readonly name: DoorName;
  readonly limits: DoorLimits;
  /** Other methods are refused for every path; undefined: all methods are accepted. */
  readonly methods: readonly string[] | undefined;
  /** A HEAD is answered as a GET, without the body. */
  readonly answersHead: boolean;
  readonly takesBodies: boolean;
  /** Whether a client that has closed its side may still wait for the answer. */
  readonly allowsHalfOpen: boolean;
  /** The text of an error. */
  explain(error: Error): Answer;
  noRoute(request: Pick<Request, 'method' | 'target'>, routes: readonly Route[]): Answer;
}

const listOf = (words: readonly string[]): string =>
  words.length < 2 ? words.join('') : `${words.slice(0, -1).join(', ')} and ${words.at(-1)}`;

export const probeLimits: DoorLimits = { connectionMs: 5000, connections: 32, headBytes: 8192 };

export const tcpDoor = (limits: Partial<DoorLimits> = {}): Door => ({
  name: 'tcp',
  limits: { ...probeLimits, ...limits },
  methods: ['GET', 'HEAD'],
  answersHead: true,
  takesBodies: false,
  allowsHalfOpen: false,
  explain: (error) => textAnswer(error instanceof RequestError ? error.status : 500, messageOf(error)),
  noRoute: (_, routes) => textAnswer(404, `There are ${listOf(routes.map(({ path }) => path))}`),
});

const refusalStatus = { missing: 404, invalid: 400, conflict: 409 } as const;

/** Only root has access here, and may wait for the store. */
const socketLimits: DoorLimits = {
  connectionMs: 120_000,
  connections: Number.POSITIVE_INFINITY,
  headBytes: 16_384,
};

/** @param onError receives errors that are weftd's own fault */
export const socketDoor = (onError: (error: Error) => void): Door => ({
  name: 'socket',
  limits: socketLimits,
  methods: undefined,
  answersHead: false,
  takesBodies: true,
  allowsHalfOpen: true,
  explain(error) {
    const say = (status: number, body: ApiError): Answer => jsonAnswer(status, body);
    if (error instanceof RequestError) return say(error.status, { error: error.message });
    if (error instanceof RefusedError) {
      return say(refusalStatus[error.reason], { error: error.message, details: error.details });
    }
    if (error instanceof StoreError) return say(503, { error: error.message });
    onError(error);
    return say(500, { error: messageOf(error) });
  },
  noRoute: ({ method, target }) => jsonAnswer(404, { error: `There is no "${method} ${target}" here` }),
});
