/**
 * The API server's URL and our credentials. Every file is read anew for each request, so that a token or a certificate that
 * somebody replaces needs no restart: kubelet writes a pod a new token within the hour.
 */

import { readFile, stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import { StoreRefusedError } from '../store-errors.ts';
import { KubeconfigError, parseKubeconfig, type Source } from './kubeconfig.ts';
import type { KubernetesOptions } from './options.ts';

/** Everything that a request needs to reach the API server. */
export interface Access {
  readonly server: string;
  /** For fetch(). */
  readonly tls: {
    readonly ca?: string;
    readonly cert?: string;
    readonly key?: string;
    readonly rejectUnauthorized?: false;
    readonly serverName?: string;
  };
  /** The value of the header; absent without a token or a password. */
  readonly authorization?: string;
  /** Where the credentials come from, for messages. */
  readonly origin: string;
}

export interface CredentialsOptions {
  readonly kubernetes: Pick<KubernetesOptions, 'apiUrl' | 'kubeconfigFile'>;
  readonly environment: Readonly<Record<string, string | undefined>>;
}

export const serviceAccountFolder = '/var/run/secrets/kubernetes.io/serviceaccount';
/** A kubeconfig with whole certificates has some ten kilobytes. */
const longestFile = 1 << 20;

const refused = (message: string, cause?: unknown): StoreRefusedError =>
  new StoreRefusedError({ code: 'refused', op: 'connect', subject: '', message, cause });

/** @throws StoreRefusedError that names the file */
async function readShort(path: string, what: string): Promise<string> {
  const fail = (because: string, cause?: unknown) => refused(`Cannot read "${path}" (${what}): ${because}`, cause);
  try {
    const status = await stat(path);
    // To open a FIFO would take until somebody writes to it.
    if (!status.isFile()) throw fail('it is no file');
    if (status.size > longestFile) throw fail(`it has ${status.size} bytes; at most ${longestFile} are read`);
    return await readFile(path, 'utf8');
  } catch (error) {
    if (error instanceof StoreRefusedError) throw error;
    throw fail((error as NodeJS.ErrnoException).code ?? String(error), error);
  }
}

const textOf = async (source: Source, what: string): Promise<string> =>
  'text' in source ? source.text : await readShort(source.path, what);

/** `10.96.0.1`, or `[fd00::1]` for a URL. */
const inUrl = (host: string): string => (host.includes(':') ? `[${host}]` : host);

export class Credentials {
  readonly #options: CredentialsOptions;

  constructor(options: CredentialsOptions) {
    this.#options = options;
  }

  /** The API server's URL, as far as it is known without reading a file. */
  get knownServer(): string | undefined {
    const { kubernetes, environment } = this.#options;
    const { KUBERNETES_SERVICE_HOST: host, KUBERNETES_SERVICE_PORT: port = '443' } = environment;
    if (kubernetes.apiUrl !== undefined) return kubernetes.apiUrl;
    return kubernetes.kubeconfigFile === undefined && host ? `https://${inUrl(host)}:${port}` : undefined;
  }

  /** @throws StoreRefusedError that names the file, and what to do */
  async read(): Promise<Access> {
    const { kubeconfigFile } = this.#options.kubernetes;
    return kubeconfigFile === undefined ? await this.#ofPod() : await this.#ofFile(kubeconfigFile);
  }

  async #ofFile(path: string): Promise<Access> {
    const option = '--kubeconfig-file';
    const written = await readShort(path, option);
    let config: ReturnType<typeof parseKubeconfig>;
    try {
      config = parseKubeconfig(written, dirname(path));
    } catch (error) {
      if (!(error instanceof KubeconfigError)) throw error;
      throw refused(`Cannot use "${path}" (${option}): ${error.message}`, error);
    }
    const { ca, certificate, key, token, basic, isInsecure, serverName } = config;
    const [caText, cert, keyText, tokenText] = await Promise.all(
      [ca, certificate, key, token].map((source) => source && textOf(source, `named in "${path}"`)),
    );
    return {
      server: this.#options.kubernetes.apiUrl ?? config.server,
      tls: {
        ...(caText === undefined ? {} : { ca: caText }),
        ...(cert === undefined || keyText === undefined ? {} : { cert, key: keyText }),
        ...(isInsecure ? { rejectUnauthorized: false } : {}),
        ...(serverName === undefined ? {} : { serverName }),
      },
      ...(tokenText === undefined
        ? basic && { authorization: `Basic ${Buffer.from(`${basic.username}:${basic.password}`).toString('base64')}` }
        : { authorization: `Bearer ${tokenText.trim()}` }),
      origin: `"${path}" (${option})`,
    };
  }

  /** By the service account; with a plain http URL without any credentials. */
  async #ofPod(): Promise<Access> {
    const server = this.knownServer;
    if (server === undefined) {
      throw refused(
        'Cannot find the API server: this is no pod (KUBERNETES_SERVICE_HOST is not set); give --kubeconfig-file or --kube-api-url',
      );
    }
    if (server.startsWith('http://')) return { server, tls: {}, origin: '--kube-api-url' };
    const what = "the pod's service account";
    const [token, ca] = await Promise.all(
      ['token', 'ca.crt'].map((name) => readShort(`${serviceAccountFolder}/${name}`, what)),
    );
    return { server, tls: { ca: ca! }, authorization: `Bearer ${token!.trim()}`, origin: what };
  }
}
