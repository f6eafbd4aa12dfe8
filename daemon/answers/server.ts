/**
 * weftd's server: HTTP/1.1, one request per connection, on the unix socket and on the probe port. doors.ts defines what
 * each accepts, routes.ts what each answers.
 */

import { chmodSync, closeSync, openSync, rmSync } from 'node:fs';
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net';
import { type Address, formatAddress } from '../../net/address.ts';
import type { Door } from './doors.ts';
import { decodeBody, expectsContinue, formatResponse, type Head, hasBody, parseHead } from './http.ts';
import { type Request, RequestError, type Route } from './route.ts';
import { Router } from './router.ts';

export interface OpenServer {
  close(): void;
}

const endOfHead = '\r\n\r\n';

/** Answers the requests of one door. */
export class Answerer {
  readonly #door: Door;
  readonly #router: Router;

  constructor(routes: readonly Route[], door: Door) {
    this.#door = door;
    this.#router = new Router(routes, door.name);
  }

  /** @param head without the empty line at its end @returns the head, or the response that refuses it */
  checkHead(head: string): Head | string {
    const { methods, takesBodies } = this.#door;
    const parsed = parseHead(head);
    if (!parsed) return this.refuse(400, 'Malformed request');
    const { method } = parsed;
    if (methods && !methods.includes(method)) return this.refuse(405, `${methods.join(' and ')} only`);
    if (!takesBodies && hasBody(parsed)) return this.refuse(400, 'A request has no body here', method);
    return parsed;
  }

  /** The maximum length of the request's body; undefined: no body is read. */
  bodyLimit(head: Head): number | undefined {
    return hasBody(head) ? this.#routeOf(head)?.maxBodyBytes : undefined;
  }

  /** The response to a request as a whole. Never rejects. */
  async respond(head: Head, body = ''): Promise<string> {
    const { method, target } = head;
    const request: Request = { method, target, path: pathOf(target), body };
    const route = this.#routeOf(head);
    try {
      const answer = route
        ? await this.#router.answer(route, request)
        : this.#door.noRoute(request, this.#router.routes);
      return this.#format(answer, method);
    } catch (error) {
      return this.#format(this.#door.explain(error as Error), method);
    }
  }

  refuse(status: number, message: string, method = 'GET'): string {
    return this.#format(this.#door.explain(new RequestError(status, message)), method);
  }

  #routeOf({ method, target }: Head): Route | undefined {
    return this.#router.find(method === 'HEAD' && this.#door.answersHead ? 'GET' : method, pathOf(target));
  }

  #format(answer: Parameters<typeof formatResponse>[0], method: string): string {
    return formatResponse(answer, method !== 'HEAD', this.#door.methods);
  }
}

const pathOf = (target: string): string => target.replace(/\?.*$/, '');

/** One connection: collects the request, and answers it once. */
class Connection {
  readonly #socket: Socket;
  readonly #answerer: Answerer;
  readonly #headBytes: number;
  #received: Buffer = Buffer.alloc(0);
  #head: Head | undefined;
  #bodyLimit = 0;
  #isAnswered = false;

  constructor(socket: Socket, answerer: Answerer, { limits, allowsHalfOpen }: Door) {
    this.#socket = socket;
    this.#answerer = answerer;
    this.#headBytes = limits.headBytes;
    const deadline = setTimeout(() => socket.destroy(), limits.connectionMs);
    socket.on('close', () => clearTimeout(deadline));
    socket.on('error', () => socket.destroy());
    socket.on('data', (part: Buffer) => this.#take(part));
    if (allowsHalfOpen) {
      socket.on('end', () => {
        if (!this.#isAnswered) socket.end();
      });
    }
  }

  #take(part: Buffer): void {
    // Bytes after the request are ignored, and end with the connection.
    if (this.#isAnswered) return;
    this.#received = this.#received.length === 0 ? part : Buffer.concat([this.#received, part]);
    if (!this.#head) this.#takeHead();
    if (this.#head && !this.#isAnswered) this.#takeBody(this.#head);
  }

  #takeHead(): void {
    const end = this.#received.indexOf(endOfHead);
    if (end < 0 || end > this.#headBytes) {
      if (this.#received.length <= this.#headBytes) return;
      const message = `The request is longer than ${this.#headBytes} bytes`;
      void this.#answer(this.#answerer.refuse(431, message));
      return;
    }
    const checked = this.#answerer.checkHead(this.#received.toString('latin1', 0, end));
    if (typeof checked === 'string') {
      void this.#answer(checked);
      return;
    }
    this.#received = this.#received.subarray(end + endOfHead.length);
    const bodyLimit = this.#answerer.bodyLimit(checked);
    if (bodyLimit === undefined) {
      void this.#answer(this.#answerer.respond(checked));
      return;
    }
    this.#head = checked;
    this.#bodyLimit = bodyLimit;
    if (expectsContinue(checked)) this.#socket.write(`HTTP/1.1 100 Continue${endOfHead}`);
  }

  #takeBody(head: Head): void {
    try {
      const body = decodeBody(head, this.#received, this.#bodyLimit);
      if (body !== undefined) void this.#answer(this.#answerer.respond(head, body));
    } catch (error) {
      const { status, message } = error as RequestError;
      void this.#answer(this.#answerer.refuse(status, message, head.method));
    }
  }

  async #answer(response: string | Promise<string>): Promise<void> {
    this.#isAnswered = true;
    this.#received = Buffer.alloc(0);
    this.#socket.end(await response);
  }
}

/** Takes connections; the caller has it listen. */
function openDoor(door: Door, routes: readonly Route[]): { server: Server; closeAll: () => void } {
  const answerer = new Answerer(routes, door);
  const sockets = new Set<Socket>();
  const server = createServer({ allowHalfOpen: door.allowsHalfOpen }, (socket) => {
    // Requests are answered at once, so the oldest connection is a silent one: it must not block others.
    const oldest = sockets.size < door.limits.connections ? undefined : sockets.values().next().value;
    if (oldest) {
      sockets.delete(oldest);
      oldest.destroy();
    }
    sockets.add(socket);
    socket.on('close', () => sockets.delete(socket));
    new Connection(socket, answerer, door);
  });
  return {
    server,
    closeAll() {
      server.close();
      for (const socket of sockets) socket.destroy();
    },
  };
}

const formatEndpoint = (address: Address, port: number): string =>
  address.family === 6 ? `[${formatAddress(address)}]:${port}` : `${formatAddress(address)}:${port}`;

/** The meaning of a refusal to listen, and what to do. */
function listenError(endpoint: string, error: NodeJS.ErrnoException): Error {
  const causes: Readonly<Record<string, string>> = {
    EADDRINUSE: 'another program listens there; choose another port by --healthz-port',
    EADDRNOTAVAIL: 'this host has no such address; choose another by --healthz-ip',
    EACCES: 'not permitted; a port below 1024 needs the capability CAP_NET_BIND_SERVICE (--healthz-port)',
  };
  const cause = causes[error.code ?? ''] ?? `${error.message} (--healthz-ip, --healthz-port)`;
  return new Error(`Cannot listen on "${endpoint}": ${cause}`, { cause: error });
}

export interface TcpServer extends OpenServer {
  /** `127.0.0.1:10256` */
  readonly endpoint: string;
  /** The requested port, or the one that the kernel chose for 0. */
  readonly port: number;
}

/** @throws Error: one line for the person who chose the address */
export function listenTcp(address: Address, port: number, routes: readonly Route[], door: Door): Promise<TcpServer> {
  const endpoint = formatEndpoint(address, port);
  const { server, closeAll } = openDoor(door, routes);
  return new Promise((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) => reject(listenError(endpoint, error)));
    server.listen({ host: formatAddress(address), port }, () => {
      // Such as a lack of descriptors: the next connection may succeed.
      server.on('error', () => {});
      const { port: ownPort } = server.address() as AddressInfo;
      resolve({ endpoint: formatEndpoint(address, ownPort), port: ownPort, close: closeAll });
    });
  });
}

/** struct sockaddr_un, include/uapi/linux/un.h */
const unixPathBytes = 107;

/** Bun tells no cause. */
function unixListenError(path: string, cause: Error): Error {
  const isLong = Buffer.byteLength(path) > unixPathBytes;
  const why = isLong ? `a socket's path has at most ${unixPathBytes} bytes` : freeDescriptorProblem();
  return new Error(`Cannot listen on "${path}": ${why ?? 'the kernel refuses it'} (--run-dir)`, { cause });
}

function freeDescriptorProblem(): string | undefined {
  try {
    closeSync(openSync('/', 'r'));
    return undefined;
  } catch (error) {
    return `${(error as NodeJS.ErrnoException).code}: this process may open no more files; raise its limit (ulimit -n)`;
  }
}

/**
 * Serves a unix socket for root only. `close` removes it. A socket of an earlier process is removed, too: the lock on the
 * run folder shows that nobody uses it.
 */
export function listenUnix(path: string, routes: readonly Route[], door: Door): Promise<OpenServer> {
  rmSync(path, { force: true });
  const { server, closeAll } = openDoor(door, routes);
  return new Promise((resolve, reject) => {
    server.once('error', (error) => reject(unixListenError(path, error)));
    // The socket must never be open to others: it gets its mode at creation.
    const umask = process.umask(0o177);
    server.listen(path, () => {
      process.umask(umask);
      chmodSync(path, 0o600);
      server.on('error', () => {});
      resolve({
        close() {
          closeAll();
          rmSync(path, { force: true });
        },
      });
    });
  });
}
