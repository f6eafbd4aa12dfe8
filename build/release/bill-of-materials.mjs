/** The software bill of materials of a release: SPDX 2.3 as JSON, from the two lock files. */

import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { at } from '../tools.mjs';

const idOf = (...parts) => `SPDXRef-${parts.join('-').replace(/[^A-Za-z0-9.-]/g, '-')}`;
const unknown = 'NOASSERTION';

/** @param {{ ecosystem: string; name: string; version: string; license?: string; checksum?: object; qualifiers?: string }} part */
const packageOf = ({ ecosystem, name, version, license = unknown, checksum, qualifiers = '' }) => ({
  SPDXID: idOf(ecosystem, name, version),
  name,
  versionInfo: version,
  downloadLocation: unknown,
  filesAnalyzed: false,
  licenseConcluded: unknown,
  licenseDeclared: license,
  copyrightText: unknown,
  ...(checksum ? { checksums: [checksum] } : {}),
  externalRefs: [
    {
      referenceCategory: 'PACKAGE-MANAGER',
      referenceType: 'purl',
      referenceLocator: `pkg:${ecosystem}/${name.replace('@', '%40')}@${version}${qualifiers}`,
    },
  ],
});

/** npm packages that weftd and weftctl contain, and Bun, which runs them. */
function npmPackages(bunPackage) {
  const { packages } = JSON.parse(readFileSync(at('package-lock.json'), 'utf8'));
  return Object.entries(packages)
    .map(([path, entry]) => ({ name: path.slice(path.lastIndexOf('node_modules/') + 13), path, ...entry }))
    .filter(({ path, name, dev, optional }) => path !== '' && (name === bunPackage || (!dev && !optional)))
    .map(({ name, version, license, integrity = '' }) => {
      const [, sha512] = /^sha512-(.*)$/.exec(integrity) ?? [];
      const checksumValue = sha512 && Buffer.from(sha512, 'base64').toString('hex');
      const checksum = checksumValue ? { algorithm: 'SHA512', checksumValue } : undefined;
      return packageOf({ ecosystem: 'npm', name, version, license, ...(checksum ? { checksum } : {}) });
    });
}

/** Rust crates of the plugins' runtime. */
function crates() {
  const text = readFileSync(at('runtime', 'Cargo.lock'), 'utf8');
  return text
    .split('[[package]]')
    .slice(1)
    .map((entry) => Object.fromEntries([...entry.matchAll(/^(\w+) = "(.*)"$/gm)].map(([, key, value]) => [key, value])))
    .filter(({ source }) => source)
    .map(({ name, version, checksum }) =>
      packageOf({
        ecosystem: 'cargo',
        name,
        version,
        ...(checksum ? { checksum: { algorithm: 'SHA256', checksumValue: checksum } } : {}),
      }),
    );
}

/**
 * @param {{
 *   name: string;
 *   version: string;
 *   license: string;
 *   seconds: number;
 *   bunPackage: string;
 *   files: { path: string; content: Buffer }[];
 *   debian?: { name: string; version: string; architecture: string; license: string }[];
 * }} release debian: packages with files in it
 * @returns {string}
 */
export function formatBillOfMaterials({ name, version, license, seconds, bunPackage, files, debian = [] }) {
  const whole = { ...packageOf({ ecosystem: 'generic', name: 'weft', version, license }), SPDXID: 'SPDXRef-weft' };
  const packages = debian.map(({ architecture, ...each }) =>
    packageOf({ ecosystem: 'deb/debian', ...each, qualifiers: `?arch=${architecture}` }),
  );
  const parts = [...npmPackages(bunPackage), ...crates(), ...packages].sort((a, b) => (a.SPDXID < b.SPDXID ? -1 : 1));
  const listed = files.map(({ path, content }) => ({
    SPDXID: idOf('file', path),
    fileName: `./${path}`,
    checksums: [
      { algorithm: 'SHA1', checksumValue: createHash('sha1').update(content).digest('hex') },
      { algorithm: 'SHA256', checksumValue: createHash('sha256').update(content).digest('hex') },
    ],
    licenseConcluded: unknown,
    copyrightText: unknown,
  }));
  const document = {
    spdxVersion: 'SPDX-2.3',
    dataLicense: 'CC0-1.0',
    SPDXID: 'SPDXRef-DOCUMENT',
    name,
    documentNamespace: `urn:weft:${name}:${createHash('sha256')
      .update(JSON.stringify([parts, listed]))
      .digest('hex')}`,
    creationInfo: {
      created: new Date(seconds * 1000).toISOString().replace('.000', ''),
      creators: ['Tool: weft-release'],
    },
    packages: [whole, ...parts],
    files: listed,
    relationships: [
      { spdxElementId: 'SPDXRef-DOCUMENT', relationshipType: 'DESCRIBES', relatedSpdxElement: 'SPDXRef-weft' },
      ...parts.map(({ SPDXID }) => ({
        spdxElementId: 'SPDXRef-weft',
        relationshipType: 'CONTAINS',
        relatedSpdxElement: SPDXID,
      })),
      ...listed.map(({ SPDXID }) => ({
        spdxElementId: 'SPDXRef-weft',
        relationshipType: 'CONTAINS',
        relatedSpdxElement: SPDXID,
      })),
    ],
  };
  return `${JSON.stringify(document, null, 2)}\n`;
}
