/** HTTP/1.1, as far as weftd needs it (RFC 9112): the head of a request, its body, and an answer. Pure. */

import { type Answer, RequestError } from './route.ts';

export interface Head {
  readonly method: string;
  readonly target: string;
  /** Lines, without the empty one at their end. */
  readonly fields: readonly string[];
}

/** @param head without the empty line at its end @returns undefined for a malformed one */
export function parseHead(head: string): Head | undefined {
  const [requestLine = '', ...fields] = head.split('\r\n');
  const [, method = '', target = ''] = /^([A-Z]+) (\/[\x21-\x7e]*) HTTP\/1\.[01]$/.exec(requestLine) ?? [];
  return method === '' ? undefined : { method, target, fields };
}

/** Whether a body follows the head. */
export const hasBody = ({ fields }: Head): boolean =>
  fields.some((field) => /^(transfer-encoding|content-length:\s*0*[1-9])/i.test(field));

const fieldOf = ({ fields }: Head, name: string): string | undefined =>
  fields
    .find((field) => field.slice(0, name.length + 1).toLowerCase() === `${name}:`)
    ?.slice(name.length + 1)
    .trim();

/** Whether the client waits for "100 Continue" before it sends the body. */
export const expectsContinue = (head: Head): boolean => fieldOf(head, 'expect')?.toLowerCase() === '100-continue';

const tooLong = (limitBytes: number): RequestError =>
  new RequestError(413, `The request is longer than ${limitBytes} bytes`);

/** Lines with a chunk's length, and trailers. */
const chunkLineBytes = 256;

/** @returns undefined while it is incomplete */
function decodeChunks(received: Buffer, limitBytes: number): Buffer | undefined {
  const parts: Buffer[] = [];
  let length = 0;
  for (let at = 0; ; ) {
    const lineEnd = received.indexOf('\r\n', at);
    if (lineEnd < 0 || lineEnd - at > chunkLineBytes) {
      if (received.length - at > chunkLineBytes) throw new RequestError(400, 'Malformed request');
      return undefined;
    }
    const digits = /^([0-9a-f]{1,8})[ \t]*(;.*)?$/i.exec(received.toString('latin1', at, lineEnd))?.[1];
    if (digits === undefined) throw new RequestError(400, 'Malformed request');
    const size = Number.parseInt(digits, 16);
    // Trailers are ignored, and end with the connection.
    if (size === 0) return Buffer.concat(parts);
    length += size;
    if (length > limitBytes) throw tooLong(limitBytes);
    const end = lineEnd + 2 + size;
    if (received.length < end + 2) return undefined;
    parts.push(received.subarray(lineEnd + 2, end));
    at = end + 2;
  }
}

/**
 * The body, from the bytes received after the head.
 * @returns undefined while it is incomplete
 * @throws RequestError
 */
export function decodeBody(head: Head, received: Buffer, limitBytes: number): string | undefined {
  const coding = fieldOf(head, 'transfer-encoding');
  if (coding !== undefined) {
    if (coding.toLowerCase() !== 'chunked') throw new RequestError(400, `Cannot read transfer encoding "${coding}"`);
    return decodeChunks(received, limitBytes)?.toString('utf8');
  }
  const text = fieldOf(head, 'content-length') ?? '0';
  if (!/^\d{1,15}$/.test(text)) throw new RequestError(400, 'Malformed request');
  const length = Number(text);
  if (length > limitBytes) throw tooLong(limitBytes);
  return received.length < length ? undefined : received.toString('utf8', 0, length);
}

const reasons: Readonly<Record<number, string>> = {
  200: 'OK',
  400: 'Bad Request',
  404: 'Not Found',
  405: 'Method Not Allowed',
  409: 'Conflict',
  413: 'Content Too Large',
  431: 'Request Header Fields Too Large',
  500: 'Internal Server Error',
  503: 'Service Unavailable',
};

/** @param methods the allowed ones, for an answer that refuses another */
export function formatResponse(
  { status, type, body }: Answer,
  withBody: boolean,
  methods: readonly string[] = [],
): string {
  const head = [
    `HTTP/1.1 ${status} ${reasons[status] ?? ''}`,
    `Content-Type: ${type}`,
    `Content-Length: ${Buffer.byteLength(body)}`,
    'Connection: close',
    'Cache-Control: no-store',
    'X-Content-Type-Options: nosniff',
    ...(status === 405 ? [`Allow: ${methods.join(', ')}`] : []),
  ];
  return `${head.join('\r\n')}\r\n\r\n${withBody ? body : ''}`;
}
