/**
 * What others ask about weftd itself: `/healthz`, `/readyz` and `/metrics`, and a small HTTP/1.1 server that answers them
 * on an address of the host's.
 *
 * The server takes nothing but the head of a GET or HEAD, one a connection, within a deadline, from a limited number of
 * connections at a time: there is no more to it that somebody on the network could keep busy.
 */

import { type AddressInfo, createServer, type Server, type Socket } from 'node:net';
import { type Address, formatAddress } from '../../net/address.ts';
import { expositionContentType } from '../report/exposition.ts';

export interface ProbeSources {
  /** What is stuck; undefined: nothing is. */
  readonly health: () => string | undefined;
  /** Why it is not ready; undefined: it is. */
  readonly readiness: () => string | undefined;
  /** In Prometheus' text format. */
  readonly metrics: () => Promise<string>;
}

/** Who asks on the network, however often, makes nobody work more often than once in so long. */
export const answerAgeMs = 1000;

/**
 * What was made last for `ageMs`, counted from its beginning; who asks meanwhile gets the same.
 * @param now milliseconds on a clock that does not go back
 */
export function keepFor(ageMs: number, now: () => number, make: () => Promise<string>): () => Promise<string> {
  let kept: { readonly made: Promise<string>; readonly atMs: number } | undefined;
  return () => {
    if (!kept || now() - kept.atMs >= ageMs) {
      const fresh = { made: make(), atMs: now() };
      kept = fresh;
      fresh.made.catch(() => {
        if (kept === fresh) kept = undefined;
      });
    }
    return kept.made;
  };
}

/** A request that comes while an answer is being made gets the same answer. */
export function shareRunning(make: () => Promise<string>): () => Promise<string> {
  let running: Promise<string> | undefined;
  return () => {
    running ??= make().finally(() => {
      running = undefined;
    });
    return running;
  };
}

export interface ProbeAnswer {
  readonly status: number;
  readonly type: string;
  readonly body: string;
}

const text = 'text/plain; charset=utf-8';
const say = (status: number, body: string): ProbeAnswer => ({ status, type: text, body: `${body}\n` });

/** @returns the answer to a GET of the path; undefined where there is none by that name */
export async function answerProbe(path: string, sources: ProbeSources): Promise<ProbeAnswer | undefined> {
  const judged = (complaint: string | undefined): ProbeAnswer =>
    complaint === undefined ? say(200, 'ok') : say(503, complaint);
  switch (path) {
    case '/healthz':
      return judged(sources.health());
    case '/readyz':
      return judged(sources.readiness());
    case '/metrics':
      return { status: 200, type: expositionContentType, body: await sources.metrics() };
    default:
      return undefined;
  }
}

const headBytesAtMost = 8192;

export const probeLimits = { connectionMs: 5000, connections: 32 } as const;

const reasons: Readonly<Record<number, string>> = {
  200: 'OK',
  400: 'Bad Request',
  404: 'Not Found',
  405: 'Method Not Allowed',
  431: 'Request Header Fields Too Large',
  500: 'Internal Server Error',
  503: 'Service Unavailable',
};

function formatResponse({ status, type, body }: ProbeAnswer, withBody: boolean): string {
  const head = [
    `HTTP/1.1 ${status} ${reasons[status]}`,
    `Content-Type: ${type}`,
    `Content-Length: ${Buffer.byteLength(body)}`,
    'Connection: close',
    'Cache-Control: no-store',
    'X-Content-Type-Options: nosniff',
    ...(status === 405 ? ['Allow: GET, HEAD'] : []),
  ];
  return `${head.join('\r\n')}\r\n\r\n${withBody ? body : ''}`;
}

/**
 * Answers the head of a request, RFC 9112.
 * @param head without the empty line at its end
 */
export async function answerHead(head: string, sources: ProbeSources): Promise<string> {
  const [requestLine = '', ...fields] = head.split('\r\n');
  const [, method = '', target = ''] = /^([A-Z]+) (\/[\x21-\x7e]*) HTTP\/1\.[01]$/.exec(requestLine) ?? [];
  if (method === '') return formatResponse(say(400, 'This is no request'), true);
  if (method !== 'GET' && method !== 'HEAD') return formatResponse(say(405, 'GET and HEAD only'), true);
  if (fields.some((field) => /^(transfer-encoding|content-length:\s*0*[1-9])/i.test(field))) {
    return formatResponse(say(400, 'A request has no body here'), method === 'GET');
  }
  let answer: ProbeAnswer | undefined;
  try {
    answer = await answerProbe(target.replace(/\?.*$/, ''), sources);
  } catch (error) {
    answer = say(500, (error as Error).message);
  }
  return formatResponse(answer ?? say(404, 'There are /healthz, /readyz and /metrics'), method === 'GET');
}

function serve(socket: Socket, sources: ProbeSources, connectionMs: number): void {
  let head = '';
  let answered = false;
  const answer = async (response: string | Promise<string>): Promise<void> => {
    answered = true;
    socket.end(await response);
  };
  const deadline = setTimeout(() => socket.destroy(), connectionMs);
  socket.on('close', () => clearTimeout(deadline));
  socket.on('error', () => socket.destroy());
  socket.on('data', (part: Buffer) => {
    // What comes after the answer is not for us, and ends with the connection.
    if (answered) return;
    head += part.toString('latin1');
    const end = head.indexOf('\r\n\r\n');
    if (end >= 0 && end <= headBytesAtMost) void answer(answerHead(head.slice(0, end), sources));
    else if (head.length > headBytesAtMost) {
      void answer(formatResponse(say(431, `The request is longer than ${headBytesAtMost} bytes`), true));
    }
  });
}

const formatEndpoint = (address: Address, port: number): string =>
  address.family === 6 ? `[${formatAddress(address)}]:${port}` : `${formatAddress(address)}:${port}`;

/** What a refusal to listen means, and what to do. */
function listenError(endpoint: string, error: NodeJS.ErrnoException): Error {
  const causes: Readonly<Record<string, string>> = {
    EADDRINUSE: 'another program listens there; choose another port by --healthz-port',
    EADDRNOTAVAIL: 'this host has no such address; choose another by --healthz-ip',
    EACCES: 'not permitted; a port below 1024 takes the capability CAP_NET_BIND_SERVICE (--healthz-port)',
  };
  const cause = causes[error.code ?? ''] ?? `${error.message} (--healthz-ip, --healthz-port)`;
  return new Error(`Cannot listen on "${endpoint}": ${cause}`, { cause: error });
}

export interface ProbeServer {
  /** `127.0.0.1:10256` */
  readonly endpoint: string;
  /** The one that was asked for, or that the kernel chose for 0. */
  readonly port: number;
  close(): void;
}

/** @throws Error: one line for whoever chose the address */
export function openProbeServer(
  address: Address,
  port: number,
  sources: ProbeSources,
  limits: { readonly connectionMs: number; readonly connections: number } = probeLimits,
): Promise<ProbeServer> {
  const endpoint = formatEndpoint(address, port);
  const sockets = new Set<Socket>();
  const server: Server = createServer((socket) => {
    // Whoever asks is answered at once, so the oldest is one that does not: it must not keep others from being heard.
    const oldest = sockets.size < limits.connections ? undefined : sockets.values().next().value;
    if (oldest) {
      sockets.delete(oldest);
      oldest.destroy();
    }
    sockets.add(socket);
    socket.on('close', () => sockets.delete(socket));
    serve(socket, sources, limits.connectionMs);
  });
  return new Promise((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) => reject(listenError(endpoint, error)));
    server.listen({ host: formatAddress(address), port }, () => {
      // Such as descriptors running out: the next connection may be taken again.
      server.on('error', () => {});
      resolve({
        endpoint,
        port: (server.address() as AddressInfo).port,
        close() {
          server.close();
          for (const socket of sockets) socket.destroy();
        },
      });
    });
  });
}
