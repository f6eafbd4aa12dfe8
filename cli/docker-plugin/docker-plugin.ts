/** `weftctl docker-plugin`: serves Docker's network driver on a unix socket that only root may use. */

import { chmodSync, rmSync } from 'node:fs';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { connect } from 'node:net';
import { dirname } from 'node:path';
import type { JsonObject } from '../../cni/spec/request.ts';
import { messageOf } from '../../command/fault.ts';
import { ensureDirectory } from '../../linux/files.ts';
import { toCliError } from '../attach/attach.ts';
import { networkPlace } from '../attach/options.ts';
import { CliError } from '../host.ts';
import type { VerbContext } from '../verb.ts';
import { type DockerDriver, openDriver } from './driver.ts';
import { defaultSocket } from './socket.ts';
import { openStaging } from './staging.ts';

const bodyLimitBytes = 1024 * 1024;
const requestTimeoutMs = 30_000;
const contentType = 'application/vnd.docker.plugins.v1.2+json';

/** The whole body. @throws Error: it is too long */
async function readBody(request: IncomingMessage): Promise<string> {
  let text = '';
  request.setEncoding('utf8');
  for await (const part of request) {
    text += part;
    if (text.length > bodyLimitBytes) throw new Error('The request is too long');
  }
  return text;
}

function parseBody(text: string): JsonObject {
  if (text.trim() === '') return {};
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw new Error('The request is not JSON');
  }
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as JsonObject;
  throw new Error('The request is not a JSON object');
}

async function answer(
  driver: DockerDriver,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<string | undefined> {
  const send = (status: number, document: JsonObject): void => {
    response.writeHead(status, { 'content-type': contentType });
    response.end(JSON.stringify(document));
  };
  try {
    send(200, driver(request.url ?? '', parseBody(await readBody(request))));
    return undefined;
  } catch (error) {
    // Docker shows this text to the user.
    const message = messageOf(error);
    send(500, { Err: message });
    return `${request.url}: ${message}`;
  }
}

/** Whether a server answers on the socket. */
function isServed(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(path);
    const end = (served: boolean): void => {
      socket.destroy();
      resolve(served);
    };
    socket.on('connect', () => end(true));
    socket.on('error', () => end(false));
  });
}

export async function run({ host, options }: VerbContext): Promise<number> {
  const path = options.text('socket') ?? defaultSocket;
  const place = await networkPlace(host, options);
  try {
    ensureDirectory(place.sys, dirname(path), 0o755);
    ensureDirectory(place.sys, place.cacheDir, 0o700);
  } catch (error) {
    throw toCliError(error);
  }
  if (await isServed(path)) throw new CliError(`Another program serves "${path}" already`);
  rmSync(path, { force: true });
  const staging = await openStaging(place.sys);
  const driver = openDriver(place, options.text('network') ?? 'weft', staging);
  const server = createServer({ requestTimeout: requestTimeoutMs }, (request, response) => {
    void answer(driver, request, response).then((failure) => {
      if (failure !== undefined) host.stderr(`weftctl: ${failure}\n`);
    });
  });
  const failed = new Promise<never>((_, reject) => {
    server.on('error', (error) => reject(new CliError(`Cannot listen on "${path}": ${messageOf(error)}`, [], error)));
    const umask = process.umask(0o177);
    server.listen(path, () => {
      process.umask(umask);
      chmodSync(path, 0o600);
      host.stderr(`weftctl: Docker finds the driver on "${path}"\n`);
    });
  });
  return await Promise.race([failed, staging.ended]);
}
