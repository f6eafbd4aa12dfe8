/** Docker's API on its unix socket. Podman's service answers the same questions. */

import { type Container, type Runtime, RuntimeError } from './container.ts';
import { getJson } from './unix-http.ts';

type Json = Record<string, unknown>;

const isObject = (value: unknown): value is Json => typeof value === 'object' && value !== null;

/** @returns undefined for a document that is no container's */
export function parseInspected(kind: Container['runtime'], document: unknown): Container | undefined {
  if (!isObject(document)) return undefined;
  const { Id: id, Name: name, State: state } = document;
  if (typeof id !== 'string' || !/^[0-9a-f]{64}$/.test(id)) return undefined;
  const { Pid: pid } = isObject(state) ? state : {};
  return {
    runtime: kind,
    id,
    name: typeof name === 'string' ? name.replace(/^\//, '') : '',
    pid: typeof pid === 'number' && Number.isSafeInteger(pid) && pid > 0 ? pid : undefined,
  };
}

function parseListed(kind: Container['runtime'], item: unknown): Container | undefined {
  if (!isObject(item)) return undefined;
  const { Id: id, Names: names } = item;
  if (typeof id !== 'string') return undefined;
  const [name] = Array.isArray(names) ? names : [];
  return { runtime: kind, id, name: typeof name === 'string' ? name.replace(/^\//, '') : '', pid: undefined };
}

/** @param kind whose service it is */
export function openDocker(socketPath: string, kind: 'docker' | 'podman' = 'docker'): Runtime {
  const title = kind === 'docker' ? 'Docker' : 'Podman';
  const wrong = (what: string): RuntimeError => new RuntimeError(`Cannot ask ${title} on "${socketPath}": ${what}`);
  return {
    kind,
    title,
    async find(word) {
      const { status, body } = await getJson(title, socketPath, `/containers/${encodeURIComponent(word)}/json`);
      if (status === 404) return undefined;
      const found = status === 200 ? parseInspected(kind, body) : undefined;
      if (found) return found;
      const { message } = isObject(body) ? body : {};
      throw wrong(typeof message === 'string' ? message : `it answers with status ${status}`);
    },
    async list() {
      const { status, body } = await getJson(title, socketPath, '/containers/json?all=true');
      if (status !== 200 || !Array.isArray(body)) throw wrong(`it answers with status ${status}`);
      return body.map((item) => {
        const listed = parseListed(kind, item);
        // One that is left out would count as dead.
        if (!listed) throw wrong('its list of containers is not understood');
        return listed;
      });
    },
  };
}
