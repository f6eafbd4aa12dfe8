/** The meaning of the API server's, the network's and TLS's errors, in one place. */

import { excerpt } from '../excerpt.ts';
import { isObject } from '../lease.ts';
import { StoreError, type StoreErrorCode, StoreRefusedError, StoreUnavailableError } from '../store-errors.ts';
import type { Access } from './credentials.ts';

/** A right, as in a rule of a ClusterRole. */
export interface Right {
  readonly resource: 'nodes' | 'nodes/status' | 'events' | 'pods';
  readonly verb: 'get' | 'list' | 'watch' | 'patch' | 'create';
}

export interface Operation {
  /** One of a few words, for the metrics: `list_nodes`. */
  readonly word: string;
  /** What is done: `list the nodes`. */
  readonly op: string;
  /** Its subject: `nodes`, or a Node's name. */
  readonly subject: string;
  readonly right: Right;
}

/** The API server said no, by a status. */
export class AnswerError extends StoreRefusedError {
  /** HTTP's. */
  readonly status: number;

  constructor(status: number, failure: ConstructorParameters<typeof StoreRefusedError>[0]) {
    super(failure);
    this.status = status;
  }
}

/** Busy, or on its way up or down. */
export class BusyError extends StoreUnavailableError {
  /** HTTP's. */
  readonly status: number;
  /** The server's wish; absent if it has none. */
  readonly retryAfterMs: number | undefined;

  constructor(
    status: number,
    retryAfterMs: number | undefined,
    failure: ConstructorParameters<typeof StoreRefusedError>[0],
  ) {
    super(failure);
    this.status = status;
    this.retryAfterMs = retryAfterMs;
  }
}

const statusOf = (error: unknown): number | undefined =>
  error instanceof AnswerError || error instanceof BusyError ? error.status : undefined;

/** The list or the watch cannot go on: the changes since then are forgotten. */
export const isGone = (error: unknown): boolean => statusOf(error) === 410;
/** Our version is ahead of the server's: its store was restored from a backup, or this server lags behind another. */
export const isAhead = (error: unknown): boolean =>
  error instanceof BusyError && error.message.includes('Too large resource version');

/** The watch cannot go on, because its history is not the one that we know. */
export const otherHistory = ({ op, subject }: Operation): AnswerError =>
  new AnswerError(410, {
    code: 'refused',
    op,
    subject,
    message: `Cannot ${op}: its versions have gone back; was the cluster's etcd restored from a backup?`,
  });
export const isMissing = (error: unknown): boolean => statusOf(error) === 404;
/** The object was changed, or is another one than the request is for. */
export const isConflict = (error: unknown): boolean => statusOf(error) === 409 || statusOf(error) === 422;

/** The `Status` object that the API server answers with. */
interface Status {
  readonly message: string;
  readonly retryAfterMs: number | undefined;
}

function parseStatus(value: unknown): Status | undefined {
  if (!isObject(value) || value['kind'] !== 'Status') return undefined;
  const { message, details } = value;
  const seconds = isObject(details) ? details['retryAfterSeconds'] : undefined;
  return {
    message: typeof message === 'string' ? excerpt(message) : '',
    retryAfterMs: typeof seconds === 'number' && seconds > 0 ? seconds * 1000 : undefined,
  };
}

const parseJson = (text: string): unknown => {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
};

/** Longer waits that a server or a proxy wishes are not kept. */
const longestWaitMs = 60_000;

/** 429 and the server's own trouble pass by themselves. 408 and 504: it did not manage within its own deadline. */
const isPassing = (status: number): boolean => status === 408 || status === 429 || status >= 500;

/** A ClusterRole's rule, as people write it. */
export const ruleOf = ({ resource, verb }: Right): string =>
  `{apiGroups: [""], resources: ["${resource}"], verbs: ["${verb}"]}`;

function adviceFor(status: number, { right }: Operation, { origin }: Access, said: string): string {
  if (status === 401)
    return `it does not know the credentials of ${origin}; renew them: they are read for every request`;
  // A policy or a webhook has said no: no right would help.
  if (status !== 403 || /\bdenied (the )?request\b/.test(said)) return said;
  const user = /User "([^"]*)"/.exec(said)?.[1];
  const who = user === undefined ? 'our user' : `user "${user}"`;
  return `${who} lacks a right; add this rule to a ClusterRole that is bound to it: ${ruleOf(right)}`;
}

/** @param text of the answer */
export function answerError(
  operation: Operation,
  status: number,
  text: string,
  { access, retryAfter }: { readonly access: Access; readonly retryAfter: string | null },
): AnswerError | BusyError {
  const { op, subject } = operation;
  const told = parseStatus(parseJson(text));
  const said = told?.message || `HTTP status ${status}`;
  const message = `Cannot ${op}: the API server ${access.server} refuses: ${adviceFor(status, operation, access, said)}`;
  if (isPassing(status)) {
    const seconds = Number(retryAfter ?? '');
    const waitMs = told?.retryAfterMs ?? (seconds > 0 ? seconds * 1000 : undefined);
    return new BusyError(status, waitMs === undefined ? undefined : Math.min(waitMs, longestWaitMs), {
      code: status === 408 || status === 504 ? 'timeout' : 'unavailable',
      op,
      subject,
      message: `Cannot ${op}: the API server ${access.server} does not manage: ${said}`,
    });
  }
  const code: StoreErrorCode = status === 401 || status === 403 ? 'denied' : 'refused';
  return new AnswerError(status, { code, op, subject, message });
}

/** The `ERROR` of a watch: its object is a Status. */
export function watchError({ op, subject }: Operation, object: unknown): AnswerError | BusyError {
  const told = parseStatus(object);
  const status = isObject(object) && typeof object['code'] === 'number' ? object['code'] : 500;
  const message = `Cannot ${op}: the API server has ended the watch: ${told?.message || 'it gives no reason'}`;
  return isPassing(status)
    ? new BusyError(status, told?.retryAfterMs, { code: 'unavailable', op, subject, message })
    : new AnswerError(status, { code: 'refused', op, subject, message });
}

interface Meaning {
  readonly pattern: RegExp;
  readonly cause?: string;
  readonly advice?: string;
  /** A person has to mend it. */
  readonly isRefusal?: true;
}

/** Of fetch()'s errors: their codes, or their texts. */
const meanings: readonly Meaning[] = [
  { pattern: /ECONNREFUSED/, cause: 'connection refused', advice: 'is it running there?' },
  {
    pattern: /ENOTFOUND|EAI_AGAIN/,
    cause: 'its name cannot be resolved',
    advice: 'check DNS',
  },
  { pattern: /ECONNRESET|EPIPE|ConnectionClosed/, cause: 'the connection was closed' },
  { pattern: /EHOSTUNREACH|ENETUNREACH|ETIMEDOUT/, cause: 'no route or no answer on the way there' },
  {
    pattern: /SELF_SIGNED|UNABLE_TO|self[- ]signed|unable to (verify|get)/i,
    cause: 'no authority that we know has signed its certificate',
    advice: 'check the certificate authority',
    isRefusal: true,
  },
  {
    pattern: /CERT_HAS_EXPIRED|CERT_NOT_YET_VALID|certificate has expired|not yet valid/i,
    cause: 'its certificate has expired, or is not valid yet',
    advice: 'renew it, and look at the clocks',
    isRefusal: true,
  },
  {
    pattern: /ALTNAME/i,
    cause: 'its certificate is for another name or address',
    advice: 'name it by one that the certificate has',
    isRefusal: true,
  },
  {
    pattern: /CERT|ERR_TLS|ERR_SSL|PEM/i,
    advice: 'check http or https, the certificate authority and our own certificate',
    isRefusal: true,
  },
];

/** The request had no answer. */
export function failedRequest({ op, subject }: Operation, error: unknown, server: string, access?: Access): StoreError {
  if (error instanceof StoreError) return error;
  const { code, message } = error as { code?: unknown; message?: string };
  const said = message ?? String(error);
  const {
    cause = said,
    advice,
    isRefusal,
  } = meanings.find(({ pattern }) => pattern.test(String(code)) || pattern.test(said)) ?? { pattern: /./ };
  const isLate = /^no answer within|^nothing was heard|aborted|timed out/i.test(said);
  const failure = {
    code: isRefusal ? ('denied' as const) : isLate ? ('timeout' as const) : ('unavailable' as const),
    op,
    subject,
    message: `Cannot ${op}: the API server ${server}: ${excerpt(cause)}${advice ? `; ${advice}` : ''}${isRefusal && access ? ` of ${access.origin}` : ''}`,
    cause: error,
  };
  return isRefusal ? new StoreRefusedError(failure) : new StoreUnavailableError(failure);
}
