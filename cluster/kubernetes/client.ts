/**
 * A client of Kubernetes' API: JSON over the runtime's own `fetch`, which keeps connections alive and unpacks gzip.
 * Requests have a deadline; nothing is tried twice here.
 */

import type { Clock } from '../clock.ts';
import type { StoreHealth } from '../store.ts';
import { StoreError, StoreUnavailableError } from '../store-errors.ts';
import type { StoreObserver, StoreOutcome } from '../store-observer.ts';
import type { Access, Credentials } from './credentials.ts';
import { AnswerError, answerError, BusyError, failedRequest, type Operation } from './errors.ts';

/** For the objects of a list or a watch: the metadata alone, or all of it. */
export type Form = 'metadata' | 'whole';

const partial = (kind: string): string => `application/json;as=${kind};g=meta.k8s.io;v=v1`;
const whole = 'application/json';

export const accept = {
  list: { metadata: partial('PartialObjectMetadataList'), whole },
  object: { metadata: partial('PartialObjectMetadata'), whole },
} as const satisfies Record<string, Record<Form, string>>;

export interface KubeRequest {
  readonly operation: Operation;
  readonly method?: 'GET' | 'PATCH' | 'POST';
  /** With its query. */
  readonly path: string;
  readonly accept: string;
  readonly body?: { readonly type: string; readonly value: unknown };
}

export interface ClientOptions {
  readonly credentials: Pick<Credentials, 'read' | 'knownServer'>;
  readonly clock: Clock;
  /** The deadline of a request, and of a watch's beginning. */
  readonly timeoutMs: number;
  readonly observer?: StoreObserver | undefined;
}

/** A node may write 256 kB of annotations; etcd takes 1.5 MB. */
const longestLine = 16 << 20;
/** A page of five hundred Nodes may be long in coming. */
const bodyDeadlines = 3;

export interface Lines {
  /** Called with each line, in order. What it throws ends the stream. */
  readonly onLine: (line: string) => void;
  /** The server has accepted the request. */
  readonly onStart: () => void;
  /** It ends if nothing is heard for so long. */
  readonly silenceMs: number;
  readonly signal: AbortSignal;
}

export class KubeClient {
  readonly #options: ClientOptions;
  #server: string | undefined;
  #health: Omit<StoreHealth, 'endpoints'> = { connected: false, lastContactMs: undefined, error: undefined };
  /** After a failure the connections kept alive may be dead: one of them would cost a whole deadline. */
  #mayReuse = true;
  #hasConnected = false;
  readonly #closing = new AbortController();

  constructor(options: ClientOptions) {
    this.#options = options;
    this.#server = options.credentials.knownServer;
  }

  health(): StoreHealth {
    return { endpoints: this.#server === undefined ? [] : [this.#server], ...this.#health };
  }

  /** Finds out where the API server is, without a request. What is wrong with the files, the first request tells. */
  async locate(): Promise<void> {
    try {
      this.#server = (await this.#options.credentials.read()).server;
    } catch (error) {
      if (!(error instanceof StoreError)) throw error;
    }
  }

  /** The connections are of no use any more. */
  forgetConnections(): void {
    this.#mayReuse = false;
  }

  close(): void {
    this.#closing.abort();
  }

  /** The answer's JSON. @throws StoreError; AnswerError where the API server said no */
  async ask(request: KubeRequest): Promise<unknown> {
    const { clock, timeoutMs } = this.#options;
    const deadline = new AbortController();
    const timer = clock.setTimer(() => deadline.abort(), timeoutMs * bodyDeadlines);
    try {
      return await this.#observed(request, async () => {
        const response = await this.#send(request, deadline.signal);
        try {
          return (await response.json()) as unknown;
        } catch (error) {
          const isLate = deadline.signal.aborted;
          throw this.#failed(request, isLate ? new Error(`no answer within ${timeoutMs * bodyDeadlines} ms`) : error);
        }
      });
    } finally {
      timer.cancel();
    }
  }

  /**
   * Hands the answer over line by line. It returns when the server ends it.
   * @throws StoreError; AnswerError where the API server said no; what `onLine` throws
   */
  async follow(request: KubeRequest, { onLine, onStart, silenceMs, signal }: Lines): Promise<void> {
    const { clock } = this.#options;
    const over = new AbortController();
    const stop = (): void => over.abort();
    signal.addEventListener('abort', stop, { once: true });
    let isSilent = false;
    let heardMs = clock.nowMs();
    let timer: ReturnType<Clock['setTimer']> | undefined;
    const listen = (delayMs: number): void => {
      timer = clock.setTimer(() => {
        const leftMs = heardMs + silenceMs - clock.nowMs();
        // The clock may have been set back.
        if (leftMs > 0 && leftMs <= silenceMs) return listen(leftMs);
        isSilent = true;
        stop();
      }, delayMs);
    };
    let ownError: unknown;
    try {
      const response = await this.#observed(request, () => this.#send(request, over.signal));
      onStart();
      heardMs = clock.nowMs();
      listen(silenceMs);
      const lines = new LineSplitter((line) => {
        try {
          onLine(line);
        } catch (error) {
          ownError = error;
          throw error;
        }
      });
      for await (const chunk of response.body ?? []) {
        heardMs = clock.nowMs();
        lines.take(chunk as Uint8Array);
      }
    } catch (error) {
      if (ownError !== undefined) throw ownError;
      if (signal.aborted || error instanceof StoreError) throw error;
      const cause = isSilent ? new Error(`nothing was heard for ${Math.round(silenceMs / 1000)} s`) : error;
      throw this.#failed(request, cause);
    } finally {
      timer?.cancel();
      signal.removeEventListener('abort', stop);
      over.abort();
    }
  }

  async #observed<T>({ operation }: KubeRequest, work: () => Promise<T>): Promise<T> {
    const { observer, clock } = this.#options;
    const startedMs = clock.nowMs();
    const note = (outcome: StoreOutcome): void =>
      observer?.storeRequest(operation.word, Math.max(0, clock.nowMs() - startedMs) / 1000, outcome);
    try {
      const result = await work();
      note('ok');
      return result;
    } catch (error) {
      note(error instanceof StoreError ? error.code : 'unavailable');
      throw error;
    }
  }

  /** Up to the answer's head. @throws StoreError, AnswerError */
  async #send(request: KubeRequest, signal: AbortSignal): Promise<Response> {
    const { credentials, clock, timeoutMs, observer } = this.#options;
    const access = await credentials.read();
    this.#server = access.server;
    const isNew = !this.#mayReuse;
    const late = new AbortController();
    const timer = clock.setTimer(() => late.abort(), timeoutMs);
    try {
      const response = await fetch(access.server + request.path, {
        method: request.method ?? 'GET',
        headers: headersOf(request, access),
        signal: AbortSignal.any([signal, late.signal, this.#closing.signal]),
        redirect: 'error',
        // These two are Bun's: a connection of its own, and TLS.
        keepalive: !isNew,
        ...(access.server.startsWith('https:') ? { tls: access.tls } : {}),
        ...(request.body ? { body: JSON.stringify(request.body.value) } : {}),
      } as RequestInit);
      if (isNew || !this.#hasConnected) observer?.storeConnection();
      this.#mayReuse = true;
      this.#hasConnected = true;
      if (!response.ok) throw await this.#refusal(request, access, response);
      this.#health = { connected: true, lastContactMs: clock.nowMs(), error: undefined };
      return response;
    } catch (error) {
      if (error instanceof AnswerError || error instanceof BusyError) throw error;
      throw this.#failed(request, late.signal.aborted ? new Error(`no answer within ${timeoutMs} ms`) : error, access);
    } finally {
      timer.cancel();
    }
  }

  async #refusal(request: KubeRequest, access: Access, response: Response): Promise<AnswerError | BusyError> {
    const { clock } = this.#options;
    const retryAfter = response.headers.get('retry-after');
    const error = answerError(request.operation, response.status, await textOf(response), { access, retryAfter });
    const isNoAnswer = error instanceof StoreUnavailableError;
    this.#health = {
      connected: !isNoAnswer,
      lastContactMs: clock.nowMs(),
      error: isNoAnswer ? error.message : undefined,
    };
    return error;
  }

  #failed(request: KubeRequest, cause: unknown, access?: Access): StoreError {
    this.#mayReuse = false;
    const error = failedRequest(request.operation, cause, this.#server ?? '', access);
    this.#health = { ...this.#health, connected: false, error: error.message };
    return error;
  }
}

const headersOf = ({ accept, body }: KubeRequest, { authorization }: Access): Record<string, string> => ({
  accept,
  'user-agent': 'weftd',
  ...(authorization === undefined ? {} : { authorization }),
  ...(body ? { 'content-type': body.type } : {}),
});

/** A refusal has some hundred bytes. A proxy's may be anything. */
const longestRefusal = 4096;

/** The beginning of the answer's text. */
async function textOf(response: Response): Promise<string> {
  const decoder = new TextDecoder();
  let text = '';
  for await (const chunk of response.body ?? []) {
    text += decoder.decode(chunk as Uint8Array, { stream: true });
    if (text.length > longestRefusal) break;
  }
  return text.slice(0, longestRefusal);
}

/** Bytes in, lines out. */
class LineSplitter {
  readonly #onLine: (line: string) => void;
  readonly #decoder = new TextDecoder();
  #rest: string[] = [];
  #length = 0;

  constructor(onLine: (line: string) => void) {
    this.#onLine = onLine;
  }

  take(bytes: Uint8Array): void {
    let text = this.#decoder.decode(bytes, { stream: true });
    for (let end = text.indexOf('\n'); end >= 0; end = text.indexOf('\n')) {
      const line = [...this.#rest, text.slice(0, end)].join('');
      this.#rest = [];
      this.#length = 0;
      text = text.slice(end + 1);
      if (line.trim() !== '') this.#onLine(line);
    }
    if (text === '') return;
    this.#rest.push(text);
    this.#length += text.length;
    if (this.#length > longestLine) throw new Error(`a line has more than ${longestLine} characters`);
  }
}
