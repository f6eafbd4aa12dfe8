/**
 * The container runtime interface (CRI) of containerd and CRI-O: a few of its questions, over gRPC on a unix socket. Field
 * numbers are those of k8s.io/cri-api, pkg/apis/runtime/v1/api.proto.
 */

import { connect as connectHttp2 } from 'node:http2';
import { connect } from 'node:net';
import { socketReason } from '../command/socket-reason.ts';
import { type Container, type Runtime, RuntimeError } from './container.ts';
import { decodeFields, encodeFields, type Fields, messagesOf, numberOf, textOf } from './protobuf.ts';

const usualTimeoutMs = 10_000;
const limitBytes = 64 * 1024 * 1024;
/** A flag and the length before each message (gRPC over HTTP/2). */
const frameBytes = 5;
const notFound = '5';

type Answer = { readonly fields: Fields } | { readonly grpcStatus: string; readonly message: string };

function frame(message: Uint8Array): Buffer {
  const head = Buffer.alloc(frameBytes);
  head.writeUInt32BE(message.length, 1);
  return Buffer.concat([head, message]);
}

/** @throws RuntimeError */
function ask(
  title: string,
  socketPath: string,
  method: string,
  message: Uint8Array,
  timeoutMs = usualTimeoutMs,
): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const session = connectHttp2('http://localhost', { createConnection: () => connect(socketPath) });
    let isDone = false;
    const finish = (end: () => void): void => {
      if (isDone) return;
      isDone = true;
      clearTimeout(deadline);
      end();
      session.destroy();
    };
    const fail = (why: string): void =>
      finish(() => reject(new RuntimeError(`Cannot ask ${title} on "${socketPath}": ${why}`)));
    const deadline = setTimeout(() => fail(`no answer within ${timeoutMs / 1000} s`), timeoutMs);
    session.on('error', (error) => fail(socketReason(error)));
    session.on('close', () => fail('it closes the connection'));
    const stream = session.request({
      ':method': 'POST',
      ':path': `/runtime.v1.RuntimeService/${method}`,
      'content-type': 'application/grpc',
      te: 'trailers',
    });
    const parts: Buffer[] = [];
    let length = 0;
    let status: Record<string, unknown> = {};
    const note = (headers: Record<string, unknown>): void => {
      if (headers['grpc-status'] !== undefined) status = headers;
    };
    // An error without data has its status in the first headers.
    stream.on('response', note);
    stream.on('trailers', note);
    stream.on('error', (error) => fail(socketReason(error)));
    stream.on('data', (part: Buffer) => {
      length += part.length;
      if (length > limitBytes) fail('its answer is too long');
      else parts.push(part);
    });
    stream.on('end', () => {
      // The trailers may come after the end of the data.
      setImmediate(() => {
        const grpcStatus = String(status['grpc-status'] ?? '0');
        const words = String(status['grpc-message'] ?? '');
        if (grpcStatus !== '0') return finish(() => resolve({ grpcStatus, message: words }));
        const body = Buffer.concat(parts);
        if (body.length < frameBytes || body[0] !== 0 || body.readUInt32BE(1) !== body.length - frameBytes) {
          return fail('its answer is not gRPC');
        }
        try {
          const fields = decodeFields(body.subarray(frameBytes));
          return finish(() => resolve({ fields }));
        } catch (error) {
          return fail(`its answer cannot be read: ${(error as Error).message}`);
        }
      });
    });
    stream.end(frame(message));
  });
}

/**
 * One call that must succeed.
 * @param timeoutMs for calls that end containers
 * @throws RuntimeError
 */
export async function callCri(
  title: string,
  socketPath: string,
  method: string,
  fields: Parameters<typeof encodeFields>[0],
  timeoutMs?: number,
): Promise<Fields> {
  const answer = await ask(title, socketPath, method, encodeFields(fields), timeoutMs);
  if ('fields' in answer) return answer.fields;
  const why = answer.message || `gRPC status ${answer.grpcStatus}`;
  throw new RuntimeError(`Cannot ask ${title} on "${socketPath}": ${why}`);
}

/** The process that a sandbox's verbose status names, in a JSON text of each runtime's own. */
export function pidOfInfo(info: string): number | undefined {
  try {
    const { pid } = JSON.parse(info) as { pid?: unknown };
    return typeof pid === 'number' && Number.isSafeInteger(pid) && pid > 0 ? pid : undefined;
  } catch {
    return undefined;
  }
}

/** A sandbox's name: that of the pod. */
const nameOf = (metadata: Fields | undefined): string =>
  metadata ? `${textOf(metadata, 3)}/${textOf(metadata, 1)}` : '';

export function openCri(socketPath: string, title: string): Runtime {
  const wrong = (what: string): RuntimeError => new RuntimeError(`Cannot ask ${title} on "${socketPath}": ${what}`);

  async function fieldsOf(method: string, message: Uint8Array): Promise<Fields | undefined> {
    const answer = await ask(title, socketPath, method, message);
    if ('fields' in answer) return answer.fields;
    if (answer.grpcStatus === notFound) return undefined;
    throw wrong(answer.message || `gRPC status ${answer.grpcStatus}`);
  }

  /** Sandboxes, and containers with their sandbox. */
  async function readAll(): Promise<{ sandboxes: Fields[]; containers: Fields[] }> {
    const nothing = encodeFields({});
    const [sandboxes, containers] = await Promise.all([
      fieldsOf('ListPodSandbox', nothing),
      fieldsOf('ListContainers', nothing),
    ]);
    return {
      sandboxes: sandboxes ? messagesOf(sandboxes, 1) : [],
      containers: containers ? messagesOf(containers, 1) : [],
    };
  }

  return {
    kind: 'cri',
    title,
    /** A container's word leads to its sandbox, which has the namespace. */
    async find(word) {
      const { sandboxes, containers } = await readAll();
      const isMeant = (id: string, name: string): boolean => id.startsWith(word) || name === word;
      const ids = new Set([
        ...sandboxes
          .filter((each) => isMeant(textOf(each, 1), textOf(messagesOf(each, 2)[0], 1)))
          // Of a pod's sandboxes only the last is ready.
          .filter((each) => numberOf(each, 3) === 0 || textOf(each, 1).startsWith(word))
          .map((each) => textOf(each, 1)),
        ...containers.filter((each) => textOf(each, 1).startsWith(word)).map((each) => textOf(each, 2)),
      ]);
      if (ids.size > 1) throw new RuntimeError(`"${word}" is not unique in ${title}: give more of the id`);
      const [id] = ids;
      if (id === undefined) return undefined;
      const answer = await fieldsOf('PodSandboxStatus', encodeFields({ 1: id, 2: true }));
      if (!answer) return undefined;
      const [status] = messagesOf(answer, 1);
      const info = messagesOf(answer, 2).find((entry) => textOf(entry, 1) === 'info');
      const isReady = status !== undefined && numberOf(status, 3) === 0;
      const pid = isReady ? pidOfInfo(textOf(info, 2)) : undefined;
      return { runtime: 'cri', id, name: nameOf(status && messagesOf(status, 2)[0]), pid };
    },
    async list() {
      const { sandboxes, containers } = await readAll();
      return [
        ...sandboxes.map((each): Container => {
          const id = textOf(each, 1);
          if (id === '') throw wrong('its list of sandboxes is not understood');
          return { runtime: 'cri', id, name: nameOf(messagesOf(each, 2)[0]), pid: undefined };
        }),
        ...containers.map((each): Container => ({ runtime: 'cri', id: textOf(each, 1), name: '', pid: undefined })),
      ];
    },
  };
}
