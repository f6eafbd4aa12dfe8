/**
 * One question to etcd's v2 API, which flannel up to 0.11 used. etcd up to 3.5 has it, if it was started with
 * `--enable-v2`.
 */

import type { Clock } from '../clock.ts';
import { excerpt } from '../excerpt.ts';
import { StoreError, type StoreErrorCode, StoreRefusedError } from '../store-errors.ts';
import { type Credentials, readCredentials } from './credentials.ts';
import { callError, explain, type Failure } from './errors.ts';
import { cleanPrefix } from './keys.ts';
import type { EtcdEndpoints } from './options.ts';

/** Tens of thousands of leases. */
export const longestV2Bytes = 64 << 20;

const op = 'read over the v2 API';

interface Answer {
  readonly status: number;
  readonly text: string;
}

const failure = (code: StoreErrorCode, cause: string, advice?: string): Failure => ({
  cause,
  advice,
  retryable: code === 'unavailable' || code === 'timeout',
  code,
});

/** An answer that is none. */
class AnswerFailure extends Error {
  readonly failure: Failure;

  constructor(reason: Failure) {
    super(reason.cause);
    this.failure = reason;
  }
}

const headersOf = ({ username, password = '' }: EtcdEndpoints): Record<string, string> => ({
  accept: 'application/json',
  ...(username === undefined
    ? {}
    : { authorization: `Basic ${Buffer.from(`${username}:${password}`).toString('base64')}` }),
});

async function readBody(response: Response): Promise<string> {
  const parts: Uint8Array[] = [];
  let bytes = 0;
  for await (const chunk of response.body ?? []) {
    const part = chunk as Uint8Array;
    bytes += part.length;
    if (bytes > longestV2Bytes) {
      throw new AnswerFailure(failure('refused', `its answer has more than ${longestV2Bytes >> 20} MiB`));
    }
    parts.push(part);
  }
  return Buffer.concat(parts).toString('utf8');
}

async function ask(
  url: string,
  etcd: EtcdEndpoints,
  { ca, certificate, key }: Credentials,
  signal: AbortSignal,
): Promise<Answer> {
  const response = await fetch(url, {
    headers: headersOf(etcd),
    redirect: 'error',
    signal,
    // These two are Bun's: a connection of its own, and TLS.
    keepalive: false,
    ...(url.startsWith('https:')
      ? { tls: { ...(ca ? { ca } : {}), ...(certificate ? { cert: certificate } : {}), ...(key ? { key } : {}) } }
      : {}),
  } as RequestInit);
  return { status: response.status, text: await readBody(response) };
}

function judge({ status, text }: Answer): string {
  // A key that does not exist has an answer of its own, as JSON.
  if (status === 200 || (status === 404 && text.trimStart().startsWith('{'))) return text;
  if (status === 404) {
    const advice = 'start it with --enable-v2 (up to etcd 3.5), or give a file with its answer from before';
    throw new AnswerFailure(failure('refused', 'it has no v2 API', advice));
  }
  if (status === 401 || status === 403) {
    const advice = 'check --etcd-username and --etcd-password';
    throw new AnswerFailure(failure('denied', `it refuses with HTTP status ${status}`, advice));
  }
  const said = `HTTP status ${status}: ${excerpt(text.trim())}`;
  throw new AnswerFailure(failure(status >= 500 ? 'unavailable' : 'refused', said));
}

/**
 * The text of etcd's answer for everything below the prefix. Each endpoint is asked once, until one answers.
 * @throws StoreError
 */
export async function readV2(etcd: EtcdEndpoints, clock: Clock, timeoutMs: number): Promise<string> {
  const prefix = cleanPrefix(etcd.prefix);
  const credentials = await readCredentials(etcd, clock.nowMs());
  const failures = new Map<string, Failure>();
  let last: unknown;
  for (const endpoint of etcd.endpoints) {
    const late = new AbortController();
    const timer = clock.setTimer(() => late.abort(), timeoutMs);
    try {
      const path = prefix.split('/').map(encodeURIComponent).join('/');
      const url = `${endpoint}/v2/keys${path.startsWith('/') ? '' : '/'}${path}?recursive=true&quorum=true`;
      return judge(await ask(url, etcd, credentials, late.signal));
    } catch (error) {
      if (error instanceof StoreError) throw error;
      last = error;
      const seconds = timeoutMs / 1000;
      if (late.signal.aborted) failures.set(endpoint, failure('timeout', `no answer within ${seconds} s`));
      else failures.set(endpoint, error instanceof AnswerFailure ? error.failure : explained(error, credentials));
    } finally {
      timer.cancel();
    }
  }
  throw callError({ op, key: prefix }, failures, last);
}

/** fetch()'s errors have a code that says more than their text. */
function explained(error: unknown, { identity }: Credentials): Failure {
  const code = error instanceof Error && 'code' in error ? String(error.code) : '';
  const said = error instanceof Error ? error.message : String(error);
  return explain(new Error(said.includes(code) ? said : `${code}: ${said}`), identity);
}

/** For a file in the API's place. */
export const notV2 = (place: string, reason: string): StoreError =>
  new StoreRefusedError({
    code: 'refused',
    op,
    subject: place,
    message: `Cannot read "${place}" as an answer of etcd's v2 API: ${reason}`,
  });
