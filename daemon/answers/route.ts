/**
 * A route: one thing that weftd can be asked, over HTTP. Its table is routes.ts; doors.ts has the ways in.
 *
 * Further answers plug in here: more of the cluster for weftctl, addresses of a shared pool, a map for the browser.
 */

/** The way in. socket: the unix socket, which root alone may use. tcp: the probe port, which the network may reach. */
export type DoorName = 'socket' | 'tcp';

export interface Request {
  readonly method: string;
  /** Without the query. */
  readonly path: string;
  /** As it was asked for, with the query. */
  readonly target: string;
  /** Empty where the route takes none. */
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
  /** So many requests are worked on at once; others wait for their turn, within the deadline. No limit by default. */
  readonly maxConcurrent?: number;
  /** @throws RequestError, or another error that the door puts into words */
  handle(request: Request): Answer | Promise<Answer>;
}

/** A request that cannot be answered, with the HTTP status that says so. */
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
