/**
 * A route: one request that weftd answers over HTTP. routes.ts lists them; doors.ts defines the entrances.
 *
 * Further answers plug in here: more of the cluster for weftctl, addresses of a shared pool, a map for the browser.
 */

/** The entrance. socket: the unix socket, for root only. tcp: the probe port, which the network may reach. */
export type DoorName = 'socket' | 'tcp';

export interface Request {
  readonly method: string;
  /** Without the query. */
  readonly path: string;
  /** As requested, with the query. */
  readonly target: string;
  /** Empty if the route takes none. */
  readonly body: string;
}

export interface Answer {
  readonly status: number;
  readonly type: string;
  readonly body: string;
}

export interface Route {
  readonly method: 'GET' | 'PUT';
  readonly path: string;
  /** The socket alone by default. */
  readonly on?: readonly DoorName[];
  /** Absent: the route takes no body, and none is read. */
  readonly maxBodyBytes?: number;
  /** How long an answer may take. Then it is 503, though the work may go on. 60 s by default. */
  readonly deadlineMs?: number;
  /** How many requests are processed at once; others wait, within the deadline. No limit by default. */
  readonly maxConcurrent?: number;
  /** @throws RequestError, or another error whose text the door writes */
  handle(request: Request): Answer | Promise<Answer>;
}

/** A request that cannot be answered, with its HTTP status. */
export class RequestError extends Error {
  override readonly name = 'RequestError';
  readonly status: number;

  constructor(status: number, message: string) {
    super(message);
    this.status = status;
  }
}

/** One line of text. */
export const textAnswer = (status: number, body: string): Answer => ({
  status,
  type: 'text/plain; charset=utf-8',
  body: `${body}\n`,
});

export const jsonAnswer = (status: number, value: unknown): Answer => ({
  status,
  type: 'application/json',
  body: `${JSON.stringify(value)}\n`,
});
