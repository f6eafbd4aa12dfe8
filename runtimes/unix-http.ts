/** One question over HTTP on a unix socket, with a deadline and a limit. */

import { request } from 'node:http';
import { socketReason } from '../command/socket-reason.ts';
import { RuntimeError } from './container.ts';

export interface HttpReply {
  readonly status: number;
  readonly body: unknown;
}

const timeoutMs = 10_000;
const limitBytes = 32 * 1024 * 1024;

/** @throws RuntimeError */
export function getJson(title: string, socketPath: string, path: string): Promise<HttpReply> {
  return new Promise((resolve, reject) => {
    const fail = (why: string): void => reject(new RuntimeError(`Cannot ask ${title} on "${socketPath}": ${why}`));
    const asking = request({ socketPath, path, headers: { host: 'localhost' } }, (response) => {
      let text = '';
      response.setEncoding('utf8');
      response.on('data', (part: string) => {
        text += part;
        if (text.length <= limitBytes) return;
        fail('its answer is too long');
        asking.destroy();
      });
      response.on('error', (error) => fail(socketReason(error)));
      response.on('end', () => {
        try {
          resolve({ status: response.statusCode ?? 0, body: JSON.parse(text) });
        } catch {
          fail('its answer is not JSON');
        }
      });
    });
    // Of the whole answer: a timeout of the socket would begin again with every byte.
    const deadline = setTimeout(() => {
      fail(`no answer within ${timeoutMs / 1000} s`);
      asking.destroy();
    }, timeoutMs);
    asking.on('close', () => clearTimeout(deadline));
    asking.on('error', (error) => fail(socketReason(error)));
    asking.end();
  });
}
