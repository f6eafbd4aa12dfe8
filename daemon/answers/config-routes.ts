/** The network config, read and written through weftd. */

import { type ConfigPorts, readConfigDocument, updateConfig } from '../../cluster/administration.ts';
import type { ConfigUpdate } from '../../cluster/status.ts';
import { backends } from '../backends/map.ts';
import { jsonAnswer, RequestError, type Route } from './route.ts';

const maxBodyBytes = 1024 * 1024;

function parseUpdate(body: string): ConfigUpdate {
  let value: unknown;
  try {
    value = JSON.parse(body);
  } catch {
    throw new RequestError(400, 'The request is not JSON');
  }
  const { text, expected, force } = (value ?? {}) as Record<string, unknown>;
  if (typeof text !== 'string') throw new RequestError(400, 'The request has no "text"');
  if (expected !== undefined && typeof expected !== 'string') {
    throw new RequestError(400, '"expected" must be a string');
  }
  return { text, ...(expected === undefined ? {} : { expected }), force: force === true };
}

export const configRoutes = (stores: ConfigPorts): Route[] => [
  {
    method: 'GET',
    path: '/config',
    handle: async () => jsonAnswer(200, await readConfigDocument(stores.config)),
  },
  {
    method: 'PUT',
    path: '/config',
    maxBodyBytes,
    handle: async ({ body }) => jsonAnswer(200, await updateConfig(stores, parseUpdate(body), backends)),
  },
];
