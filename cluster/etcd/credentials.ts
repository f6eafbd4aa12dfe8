/**
 * Certificates and keys. They are read for every connection, so that replaced files need no restart. Also the identity
 * that etcd sees in them.
 */

import { createPrivateKey, X509Certificate } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { type StoreErrorCode, StoreRefusedError } from '../store-errors.ts';
import type { EtcdEndpoints } from './options.ts';

/** Our identity for etcd, for messages. */
export interface Identity {
  readonly caFile?: string;
  readonly certFile?: string;
  /** The certificate's common name: etcd's name of the user. Absent if it has none. */
  readonly commonName?: string;
  /** The common name of the certificate's issuer. */
  readonly issuer?: string;
  /** Set if the certificate has expired: the day, `2026-11-23`. */
  readonly expiredOn?: string;
  readonly username?: string;
}

export interface Credentials {
  readonly identity: Identity;
  readonly ca?: Buffer;
  readonly certificate?: Buffer;
  readonly key?: Buffer;
}

type PemOption = 'cafile' | 'certfile' | 'keyfile';

const fileError = (
  code: StoreErrorCode,
  path: string,
  option: PemOption,
  because: string,
  cause?: unknown,
): StoreRefusedError =>
  new StoreRefusedError({
    code,
    op: 'connect',
    subject: path,
    message: `Cannot read "${path}" (--etcd-${option}): ${because}`,
    cause,
  });

/** Reads a file and checks its content, because TLS's own errors name neither file nor reason. */
async function readPem<T>(
  path: string,
  option: PemOption,
  what: string,
  parse: (pem: Buffer) => T,
): Promise<{ pem: Buffer; parsed: T }> {
  let pem: Buffer;
  try {
    pem = await readFile(path);
  } catch (error) {
    throw fileError(
      'refused',
      path,
      option,
      error instanceof Error && 'code' in error ? String(error.code) : String(error),
      error,
    );
  }
  try {
    return { pem, parsed: parse(pem) };
  } catch (error) {
    throw fileError('denied', path, option, `it holds no ${what} in PEM`, error);
  }
}

const parseCertificate = (pem: Buffer): X509Certificate => new X509Certificate(pem);

const commonNameOf = (name: string): string | undefined => /^CN ?= ?(.+)$/m.exec(name)?.[1];

/** @throws StoreRefusedError that names file and option */
export async function readCredentials(etcd: EtcdEndpoints, nowMs: number): Promise<Credentials> {
  const { caFile, certFile, keyFile, username } = etcd;
  const [ca, certificate, key] = await Promise.all([
    caFile ? readPem(caFile, 'cafile', 'certificate', parseCertificate) : undefined,
    certFile ? readPem(certFile, 'certfile', 'certificate', parseCertificate) : undefined,
    keyFile ? readPem(keyFile, 'keyfile', 'private key', (pem) => createPrivateKey(pem)) : undefined,
  ]);
  if (certificate && key && !certificate.parsed.checkPrivateKey(key.parsed)) {
    // As in the middle of a renewal: the next attempt finds both.
    throw fileError(
      'denied',
      keyFile!,
      'keyfile',
      `it is not the key of the certificate in "${certFile}" (--etcd-certfile)`,
    );
  }
  const commonName = certificate && commonNameOf(certificate.parsed.subject);
  const issuer = certificate && commonNameOf(certificate.parsed.issuer);
  const endMs = certificate ? Date.parse(certificate.parsed.validTo) : Number.POSITIVE_INFINITY;
  return {
    identity: {
      ...(caFile ? { caFile } : {}),
      ...(certFile ? { certFile } : {}),
      ...(commonName === undefined ? {} : { commonName }),
      ...(issuer === undefined ? {} : { issuer }),
      ...(nowMs > endMs ? { expiredOn: new Date(endMs).toISOString().slice(0, 10) } : {}),
      ...(username === undefined ? {} : { username }),
    },
    ...(ca ? { ca: ca.pem } : {}),
    ...(certificate ? { certificate: certificate.pem } : {}),
    ...(key ? { key: key.pem } : {}),
  };
}
