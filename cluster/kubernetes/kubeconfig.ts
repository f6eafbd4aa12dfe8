/**
 * kubeconfig files, JSON or YAML: the API server and the credentials of the current context. Only what a daemon can use is
 * read. Plugins that ask a person, or run a program for a token, are refused with a message.
 */

import { withoutTrailingSlashes } from '../../net/text.ts';
import { isObject } from '../lease.ts';

/** A text of the file's own, or the path of another file. */
export type Source = { readonly text: string } | { readonly path: string };

export interface Kubeconfig {
  /** `https://10.0.0.1:6443`, perhaps with a path; no slash at its end. */
  readonly server: string;
  readonly ca?: Source;
  readonly certificate?: Source;
  readonly key?: Source;
  readonly token?: Source;
  readonly basic?: { readonly username: string; readonly password: string };
  /** The server's certificate is not checked. */
  readonly isInsecure: boolean;
  /** The name that the server's certificate is for, if that is not the URL's. */
  readonly serverName?: string;
}

/** The file cannot be used; the message says why, without the file's name. */
export class KubeconfigError extends Error {
  override readonly name = 'KubeconfigError';
}

const parseYaml = (text: string): unknown => {
  const { Bun } = globalThis as unknown as { readonly Bun?: { readonly YAML: { parse(text: string): unknown } } };
  if (!Bun) throw new KubeconfigError('it is YAML, which only Bun can read');
  return Bun.YAML.parse(text);
};

function parseDocument(text: string): Record<string, unknown> {
  let value: unknown;
  try {
    value = /^\s*\{/.test(text) ? JSON.parse(text) : parseYaml(text);
  } catch (error) {
    if (error instanceof KubeconfigError) throw error;
    throw new KubeconfigError('it is neither JSON nor YAML', { cause: error });
  }
  if (!isObject(value) || value['kind'] !== 'Config') throw new KubeconfigError('it is no kubeconfig ("kind: Config")');
  return value;
}

/** The member of a list of `{name, <key>: …}` that has the name. */
function named(document: Record<string, unknown>, list: string, key: string, name: string): Record<string, unknown> {
  const items = document[list];
  const found = (Array.isArray(items) ? items : []).find((item) => isObject(item) && item['name'] === name) as
    | Record<string, unknown>
    | undefined;
  const value = found?.[key];
  if (!isObject(value)) throw new KubeconfigError(`there is no "${name}" in its "${list}"`);
  return value;
}

function text(object: Record<string, unknown>, key: string): string | undefined {
  const value = object[key] ?? undefined;
  if (value === undefined || value === '') return undefined;
  if (typeof value !== 'string') throw new KubeconfigError(`"${key}" must be a string`);
  return value;
}

/** `<key>-data`, in base64, comes before the path in `<key>`. */
function source(object: Record<string, unknown>, key: string, folder: string): Source | undefined {
  const data = text(object, `${key}-data`);
  if (data !== undefined) return { text: Buffer.from(data, 'base64').toString('utf8') };
  const path = text(object, key);
  return path === undefined ? undefined : { path: path.startsWith('/') ? path : `${folder}/${path}` };
}

/** @param folder of the file, for the relative paths in it @throws KubeconfigError */
export function parseKubeconfig(written: string, folder: string): Kubeconfig {
  const document = parseDocument(written);
  const current = text(document, 'current-context');
  if (current === undefined) throw new KubeconfigError('it has no "current-context"');
  const context = named(document, 'contexts', 'context', current);
  const [clusterName, userName] = [text(context, 'cluster'), text(context, 'user')];
  if (clusterName === undefined) throw new KubeconfigError(`its context "${current}" names no cluster`);
  const cluster = named(document, 'clusters', 'cluster', clusterName);
  const user = userName === undefined ? {} : named(document, 'users', 'user', userName);
  for (const key of ['exec', 'auth-provider']) {
    if (user[key]) throw new KubeconfigError(`user "${userName}" has "${key}", which weftd does not run; give a token`);
  }
  if (text(cluster, 'proxy-url'))
    throw new KubeconfigError(`cluster "${clusterName}" has "proxy-url", which weftd does not use`);
  const server = text(cluster, 'server');
  if (!server || !/^https?:\/\/./.test(server))
    throw new KubeconfigError(`cluster "${clusterName}" has no "server" URL`);
  const [token, tokenFile] = [text(user, 'token'), text(user, 'tokenFile')];
  const [username, password = ''] = [text(user, 'username'), text(user, 'password')];
  const serverName = text(cluster, 'tls-server-name');
  const [ca, certificate, key] = [
    source(cluster, 'certificate-authority', folder),
    source(user, 'client-certificate', folder),
    source(user, 'client-key', folder),
  ];
  // As in Kubernetes' own client: the file comes first.
  const tokenSource: Source | undefined =
    tokenFile !== undefined
      ? { path: tokenFile.startsWith('/') ? tokenFile : `${folder}/${tokenFile}` }
      : token === undefined
        ? undefined
        : { text: token };
  return {
    server: withoutTrailingSlashes(server),
    ...(ca ? { ca } : {}),
    ...(certificate ? { certificate } : {}),
    ...(key ? { key } : {}),
    ...(tokenSource ? { token: tokenSource } : {}),
    ...(username === undefined ? {} : { basic: { username, password } }),
    isInsecure: cluster['insecure-skip-tls-verify'] === true,
    ...(serverName === undefined ? {} : { serverName }),
  };
}
