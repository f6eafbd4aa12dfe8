/** A certificate authority of a test's own: openssl's work, in a folder that the test removes. */

import { join } from 'node:path';
import { run } from '../lab/commands.ts';

/** A certificate with its key, as PEM files. */
export interface Certificate {
  readonly certFile: string;
  readonly keyFile: string;
}

export interface CertificateOptions {
  /** The common name: etcd's name of the user, in a client's certificate. */
  readonly commonName?: string;
  /** Such as `DNS:localhost,IP:127.0.0.1`. */
  readonly names?: string;
  /** It was good for a day, and no longer is. */
  readonly isExpired?: boolean;
}

const newKey = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'];

export class CertificateAuthority {
  readonly folder: string;
  readonly label: string;
  readonly caFile: string;
  readonly #keyFile: string;

  /** @param label keeps its files apart from those of others in the folder */
  constructor(folder: string, label: string) {
    this.folder = folder;
    this.label = label;
    this.caFile = join(folder, `${label}.pem`);
    this.#keyFile = join(folder, `${label}-key.pem`);
    const certificate = ['-x509', '-days', '2', '-subj', `/CN=${label}`, '-out', this.caFile, '-keyout', this.#keyFile];
    run(['openssl', 'req', ...newKey, ...certificate]);
  }

  /** @param name of its files */
  issue(name: string, { commonName, names, isExpired = false }: CertificateOptions = {}): Certificate {
    const [certFile, keyFile] = [`${name}.pem`, `${name}-key.pem`].map((file) => join(this.folder, file));
    const request = join(this.folder, `${name}.csr`);
    const subject = commonName === undefined ? '/O=Weft' : `/O=Weft/CN=${commonName}`;
    const asked = names === undefined ? [] : ['-addext', `subjectAltName=${names}`];
    run(['openssl', 'req', ...newKey, '-subj', subject, ...asked, '-keyout', keyFile!, '-out', request]);
    const signing = ['-CA', this.caFile, '-CAkey', this.#keyFile, '-CAcreateserial', '-copy_extensions', 'copyall'];
    // A life that ended before it began is how openssl makes one that is over.
    const life = ['-days', isExpired ? '-1' : '2'];
    run(['openssl', 'x509', '-req', '-in', request, ...signing, ...life, '-out', certFile!]);
    return { certFile: certFile!, keyFile: keyFile! };
  }
}
