/** What etcd's, gRPC's and TLS's errors mean, in one place. */

import { EtcdError } from './store.ts';

export interface FailedCall {
  /** The failed action and what it was about: `read the network config`. */
  readonly op: string;
  readonly key: string;
  readonly endpoint: string;
}

interface Meaning {
  readonly pattern: RegExp;
  readonly retryable: boolean;
  /** The cause in plain words; absent: the original's. */
  readonly cause?: string;
  readonly advice?: string;
  /** Of the endpoint alone: another one may well answer, although the same one will not. */
  readonly endpointOnly?: boolean;
}

const meanings: readonly Meaning[] = [
  {
    pattern: /ECONNREFUSED/,
    retryable: true,
    cause: 'connection refused',
    advice: 'is etcd running there? (--etcd-endpoints)',
  },
  {
    pattern: /Name resolution failed|ENOTFOUND|EAI_AGAIN/,
    retryable: true,
    cause: 'its name cannot be resolved',
    advice: 'check --etcd-endpoints and DNS',
  },
  {
    pattern: /EHOSTUNREACH|ENETUNREACH|ETIMEDOUT/,
    retryable: true,
    cause: 'no route or no answer on the way there',
    advice: 'check the network and --etcd-endpoints',
  },
  {
    pattern: /before secure TLS connection was established/,
    retryable: true,
    cause: 'it does not speak TLS',
    advice: 'check http or https in --etcd-endpoints',
  },
  {
    // Seen under Bun where TLS or another protocol is spoken there.
    pattern: /(Failed to connect|Protocol error) \(/,
    retryable: true,
    cause: 'what answers there does not speak gRPC',
    advice: 'check http or https, and the port, in --etcd-endpoints',
  },
  {
    pattern: /self[- ]signed|unable to (verify|get)|certificate|CERT_|ERR_TLS|ERR_SSL|WRONG_VERSION_NUMBER|alert/i,
    retryable: false,
    advice: 'check http or https in --etcd-endpoints, and --etcd-cafile, --etcd-certfile, --etcd-keyfile',
    endpointOnly: true,
  },
  {
    pattern: /authentication failed, invalid user ID or password/,
    retryable: false,
    cause: 'wrong user name or password',
    advice: 'check --etcd-username and --etcd-password',
  },
  {
    pattern: /user name is empty/,
    retryable: false,
    cause: 'etcd wants a user name and password',
    advice: 'give --etcd-username and --etcd-password',
  },
  {
    pattern: /permission denied/,
    retryable: false,
    cause: 'permission denied',
    advice: "grant etcd's role read and write access to all keys with the prefix",
  },
  { pattern: /invalid auth token/, retryable: true, cause: 'the session with etcd has ended' },
  {
    pattern: /no leader|leader changed|leader failed/i,
    retryable: true,
    cause: 'the etcd cluster has no leader',
    advice: 'see "etcdctl endpoint status --cluster"',
  },
  {
    pattern: /database space exceeded/,
    retryable: true,
    cause: "etcd's database is full",
    advice: 'compact and defragment it, then "etcdctl alarm disarm"',
  },
  { pattern: /too many requests/, retryable: true, cause: 'etcd is overloaded' },
  {
    pattern: /DEADLINE_EXCEEDED|Deadline exceeded|request timed out/i,
    retryable: true,
    cause: 'no answer in time',
    advice: 'is etcd running there, and does it have a leader?',
  },
  { pattern: /INVALID_ARGUMENT|FAILED_PRECONDITION|UNIMPLEMENTED|OUT_OF_RANGE/, retryable: false },
];

/** gRPC's own words without its code, and without the empty "Resolution note" that it likes to add. */
const plainMessage = (error: unknown): string =>
  (error instanceof Error ? error.message : String(error))
    .replace(/^\d+ [A-Z_]+: /, '')
    .replace(/\.?\s*Resolution note:\s*$/, '')
    .replace(/^No connection established\. Last error: (\w*Error(?: \[\w+\])?: )?/, '')
    .replace(/^etcdserver: /, '')
    .trim();

const meaningOf = (error: unknown): Meaning | undefined => {
  const text = error instanceof Error ? `${error.name}: ${error.message}` : String(error);
  return meanings.find(({ pattern }) => pattern.test(text));
};

/** @returns the EtcdError for what a call ended with; an EtcdError stays what it is */
export function toEtcdError(call: FailedCall, error: unknown): EtcdError {
  if (error instanceof EtcdError) return error;
  const meaning = meaningOf(error);
  const cause = meaning?.cause ?? plainMessage(error);
  const advice = meaning?.advice === undefined ? '' : `; ${meaning.advice}`;
  const message = `Cannot ${call.op} "${call.key}" in etcd at ${call.endpoint}: ${cause}${advice}`;
  return new EtcdError(call.op, call.key, meaning?.retryable ?? true, message, error);
}

/** Whether the same call is worth making at another endpoint, or over a new connection, at once. */
export const isWorthAnotherEndpoint = (failure: EtcdError): boolean =>
  failure.retryable || meaningOf(failure.cause)?.endpointOnly === true;
