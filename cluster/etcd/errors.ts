/** The meaning of etcd's, gRPC's and TLS's errors, in one place. */

import { StoreError, type StoreErrorCode, StoreRefusedError, StoreUnavailableError } from '../store-errors.ts';
import type { Identity } from './credentials.ts';
import { grantCommand, type Right } from './keys.ts';

export interface FailedCall {
  /** The failed action with its subject: `read the network config`. */
  readonly op: string;
  readonly key: string;
  readonly endpoint: string;
}

/** The cause of a failed call. */
export interface Failure {
  readonly cause: string;
  /** The remedy. */
  readonly advice: string | undefined;
  /** Whether the same call may succeed later. */
  readonly retryable: boolean;
  readonly code: StoreErrorCode;
}

interface Meaning {
  readonly pattern: RegExp;
  readonly retryable: boolean;
  /** The cause in plain words; absent: the original text. */
  readonly cause?: string | ((identity: Identity) => string);
  readonly advice?: string | ((identity: Identity) => string);
  /** A fault of the endpoint alone: another one may answer. */
  readonly endpointOnly?: boolean;
}

/** gRPC's words for an answer beyond the limit of a message. */
const tooLargePattern = /message larger than max/i;

const staleTokenPattern = /auth token|revision of auth store is old/;

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
    // Also a server without TLS says no more than this, if it closes before it has read the whole greeting.
    pattern: /ECONNRESET|EPIPE|socket hang up/,
    retryable: true,
    cause: 'it closed the connection',
    advice: 'is etcd running there? check http or https in --etcd-endpoints',
  },
  {
    // Seen under Bun if the server speaks TLS or another protocol.
    pattern: /(Failed to connect|Protocol error) \(/,
    retryable: true,
    cause: 'the server there does not speak gRPC',
    advice: 'check http or https, and the port, in --etcd-endpoints',
  },
  {
    // etcd's answer to our certificate, by TLS alerts. Go has few of them: most reasons share one.
    pattern: /ALERT_(\w{0,40}CERTIFICATE|UNKNOWN_CA)/i,
    retryable: false,
    cause: ({ certFile, issuer, expiredOn }) =>
      certFile === undefined
        ? 'it wants a client certificate'
        : expiredOn === undefined
          ? `it refuses the client certificate "${certFile}", issued by "${issuer ?? ''}"`
          : `the client certificate "${certFile}" has expired on ${expiredOn}`,
    advice: ({ certFile, expiredOn }) =>
      certFile === undefined
        ? 'give one by --etcd-certfile and --etcd-keyfile'
        : expiredOn === undefined
          ? "its issuer must be one of those in etcd's --trusted-ca-file"
          : 'replace it and its key; they are read at every attempt',
    endpointOnly: true,
  },
  {
    pattern: /self[- ]signed|unable to (verify|get)/i,
    retryable: false,
    cause: ({ caFile }) =>
      caFile === undefined
        ? "no authority that this host knows has signed etcd's certificate"
        : `no authority in "${caFile}" (--etcd-cafile) has signed etcd's certificate`,
    advice: "give the certificate of etcd's authority by --etcd-cafile",
    endpointOnly: true,
  },
  {
    pattern: /certificate has expired|CERT_HAS_EXPIRED|certificate is not yet valid|CERT_NOT_YET_VALID/i,
    retryable: false,
    cause: "etcd's certificate has expired, or is not valid yet",
    advice: "renew it where etcd runs, and look at both hosts' clocks",
    endpointOnly: true,
  },
  {
    pattern: /altname/i,
    retryable: false,
    advice: 'name etcd in --etcd-endpoints by a name or address that is in its certificate',
    endpointOnly: true,
  },
  {
    pattern: /certificate|CERT_|ERR_TLS|ERR_SSL|WRONG_VERSION_NUMBER|alert/i,
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
    advice: "grant the right to a role of etcd's user",
  },
  { pattern: staleTokenPattern, retryable: true, cause: 'the session with etcd has ended' },
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
  {
    pattern: tooLargePattern,
    retryable: false,
    cause: 'the answer is too large',
    advice: 'see which keys there are so large',
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

const emptyNote = 'Resolution note:';

function withoutNote(text: string): string {
  const ended = text.trimEnd();
  if (!ended.endsWith(emptyNote)) return text;
  const rest = ended.slice(0, -emptyNote.length).trimEnd();
  return rest.endsWith('.') ? rest.slice(0, -1) : rest;
}

/** gRPC's own text without its code, and without the empty "Resolution note" that it often adds. */
const plainMessage = (error: unknown): string =>
  withoutNote(error instanceof Error ? error.message : String(error))
    .replace(/^\d+ [A-Z_]+: /, '')
    .replace(/^No connection established\. Last error: (\w*Error(?: \[\w+\])?: )?/, '')
    .replace(/^etcdserver: /, '')
    .trim();

const meaningOf = (error: unknown): Meaning | undefined => {
  const text = error instanceof Error ? `${error.name}: ${error.message}` : String(error);
  return meanings.find(({ pattern }) => pattern.test(text));
};

const isRefusal = (error: unknown): boolean => error instanceof Error && /permission denied/.test(error.message);

/** Whether the request is about a compacted revision. */
export const isCompacted = (error: unknown): boolean =>
  error instanceof StoreError && /required revision has been compacted/.test(error.message);

/** Whether the answer was too large for one message. */
export const isTooLarge = (error: unknown): boolean =>
  error instanceof StoreError && error.cause instanceof Error && tooLargePattern.test(error.cause.message);

/** Whether etcd refused a right. */
export const isDenied = (error: unknown): boolean => error instanceof StoreError && isRefusal(error.cause);

const timeoutPattern = /DEADLINE_EXCEEDED|Deadline exceeded|request timed out/i;
const deniedPattern = /permission denied|user name|authentication|auth token|certificate|CERT_|ERR_TLS|ERR_SSL/i;

function codeOf(words: string, retryable: boolean): StoreErrorCode {
  if (timeoutPattern.test(words)) return 'timeout';
  if (deniedPattern.test(words)) return 'denied';
  return retryable ? 'unavailable' : 'refused';
}

/** The error of a call, in plain words. */
export function explain(error: unknown, identity: Identity = {}): Failure {
  const meaning = meaningOf(error);
  const text = (part: string | ((identity: Identity) => string) | undefined): string | undefined =>
    typeof part === 'function' ? part(identity) : part;
  const cause = text(meaning?.cause) ?? plainMessage(error);
  const retryable = meaning?.retryable ?? true;
  const words = `${cause} ${error instanceof Error ? error.message : ''}`;
  return { cause, advice: text(meaning?.advice), retryable, code: codeOf(words, retryable) };
}

/** A user to whom etcd has refused a right. */
export interface RefusedUser {
  readonly identity: Identity;
  /** undefined: unknown. null: etcd does not know the user. */
  readonly roles: readonly string[] | null | undefined;
}

/** Why etcd refuses a right, and the command that helps. */
export function explainDenial({ identity, roles }: RefusedUser, right: Right): Failure {
  const { username, commonName, certFile } = identity;
  const user = username ?? commonName;
  const failure = (cause: string, advice: string): Failure => ({
    cause,
    advice,
    retryable: false,
    code: 'denied',
  });
  if (user === undefined) {
    return certFile === undefined
      ? failure('permission denied', 'give --etcd-username and --etcd-password, or a client certificate')
      : failure(
          `permission denied: the client certificate "${certFile}" has no common name, which is etcd's name of the user`,
          'give one that has',
        );
  }
  if (roles === null) {
    const add = `etcdctl user add ${user}${username === undefined ? ' --no-password' : ''}`;
    return failure(
      `permission denied: etcd has no user "${user}"`,
      `add it: ${add} && etcdctl user grant-role ${user} weft`,
    );
  }
  if (roles?.length === 0) {
    return failure(
      `permission denied: user "${user}" has no role`,
      `give it one: etcdctl user grant-role ${user} weft`,
    );
  }
  const role = roles?.[0];
  const whose = role === undefined ? `user "${user}"` : `user "${user}", in role "${role}",`;
  const { access, key, isPrefix } = right;
  return failure(
    `permission denied: ${whose} may not ${access} ${isPrefix ? 'what is below ' : ''}"${key}"`,
    `grant it: ${grantCommand(right, role ?? 'ROLE')}`,
  );
}

/** The code for the answers of several endpoints: a timeout outweighs a denial, which outweighs all others. */
function commonCode(failures: readonly Failure[]): StoreErrorCode {
  const codes = new Set(failures.map(({ code }) => code));
  if (codes.has('timeout')) return 'timeout';
  if (codes.has('denied')) return 'denied';
  return codes.has('unavailable') ? 'unavailable' : 'refused';
}

/**
 * The StoreError for a failed call.
 * @param failures by endpoint, in the order of the attempts; the last one determines the error
 */
export function callError(
  { op, key }: Pick<FailedCall, 'op' | 'key'>,
  failures: ReadonlyMap<string, Failure>,
  cause: unknown,
): StoreError {
  const all = [...failures];
  const [, last] = all.at(-1)!;
  const what = `Cannot ${op} "${key}" in etcd`;
  const told = all.every(([, failure]) => failure.cause === last.cause)
    ? ` at ${all.map(([endpoint]) => endpoint).join(', ')}: ${last.cause}`
    : all.map(([endpoint, failure], i) => `${i === 0 ? '' : ','} at ${endpoint}: ${failure.cause}`).join('');
  const advice = [...new Set(all.flatMap(([, failure]) => failure.advice ?? []))].map((part) => `; ${part}`).join('');
  const Type = all.some(([, failure]) => failure.retryable) ? StoreUnavailableError : StoreRefusedError;
  const code = commonCode(all.map(([, failure]) => failure));
  return new Type({ code, op, subject: key, message: `${what}${told}${advice}`, cause });
}

/** @returns the StoreError for a failed call; a StoreError stays the same */
export function toStoreError({ endpoint, ...call }: FailedCall, error: unknown, identity?: Identity): StoreError {
  if (error instanceof StoreError) return error;
  return callError(call, new Map([[endpoint, explain(error, identity)]]), error);
}

/** Whether to repeat the call at once at another endpoint or over a new connection. */
export function isWorthAnotherEndpoint(error: unknown): boolean {
  if (error instanceof StoreError)
    return error instanceof StoreUnavailableError || meaningOf(error.cause)?.endpointOnly === true;
  const meaning = meaningOf(error);
  return meaning === undefined || meaning.retryable || meaning.endpointOnly === true;
}

/** Whether the call's token has become invalid, so that a new one may help. */
export const isStaleToken = (error: unknown): boolean =>
  error instanceof Error && staleTokenPattern.test(error.message);
