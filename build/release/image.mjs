/**
 * The container image of a release, as an OCI image layout in a tar archive: no registry and no container engine is needed.
 * The image is empty but for our executables and the parts of Debian's C library that weftd links to. The archive also has
 * Docker's own index, so that `docker load` takes it, too.
 */

import { createHash } from 'node:crypto';
import { readFileSync, realpathSync } from 'node:fs';
import { basename } from 'node:path';
import { gzipSync } from 'node:zlib';
import { at, BuildError, run, targets } from '../tools.mjs';
import { makeTar } from './tar.mjs';

/** The image's name without its tag. It names no registry: nodes have it by import, or under another name. */
export const imageName = 'localhost/weft';

/** OCI's names for the kinds of machines, which are Go's. */
const architectures = { x64: 'amd64', arm64: 'arm64' };

const sha256 = (bytes) => createHash('sha256').update(bytes).digest('hex');

/**
 * What an executable links to, by readelf(1): its loader's path, and the names of its libraries.
 * @param {string} path
 */
export function readLinks(path) {
  const loader = /Requesting program interpreter: ([^\]]+)\]/.exec(run('readelf', ['-lW', path]))?.[1];
  const libraries = [...run('readelf', ['-dW', path]).matchAll(/\(NEEDED\).*\[([^\]]+)\]/g)].map(([, name]) => name);
  return { loader, libraries };
}

/** An installed Debian package: its version, and its files by their paths. Undefined if it is not there. */
function readPackage(name, architecture) {
  const named = `${name}:${architecture}`;
  try {
    const [status, version] = run('dpkg-query', ['-W', '-f', `\${db:Status-Status} \${Version}`, named]).split(' ');
    if (status !== 'installed') return undefined;
    return { name, architecture, version, paths: run('dpkg-query', ['-L', named]).trim().split('\n') };
  } catch (error) {
    if (error instanceof BuildError) return undefined;
    throw error;
  }
}

/**
 * Debian's C library for the executable: the files of the image, and the package that they are from.
 * @param {'x64' | 'arm64'} target
 * @param {string} executable
 */
export function readRuntime(target, executable) {
  const { debian } = targets[target];
  const { loader, libraries } = readLinks(executable);
  if (loader === undefined) throw new BuildError(`"${executable}" names no loader`);
  const libc = readPackage('libc6', debian);
  if (!libc) {
    const install = `dpkg --add-architecture ${debian} && apt-get update && apt-get install libc6:${debian}`;
    throw new BuildError(`its C library is from the Debian package libc6:${debian}, which is missing; ${install}`);
  }
  // Libraries are found in the loader's own folder of this machine kind, without a configuration.
  const files = [loader, ...libraries.filter((name) => name !== basename(loader))].map((name) => {
    const path = name.startsWith('/') ? name : libc.paths.find((each) => basename(each) === name);
    const source = path ?? '';
    if (!libc.paths.includes(source)) {
      throw new BuildError(`"${executable}" links to "${name}", which is not in Debian's libc6:${debian}`);
    }
    return { path: source.slice(1), mode: 0o755, content: readFileSync(realpathSync(source)) };
  });
  const licence = '/usr/share/doc/libc6/copyright';
  const doc = { path: licence.slice(1), mode: 0o644, content: readFileSync(licence) };
  return { files: [...files, doc], package: { ...libc, license: 'LGPL-2.1-or-later' } };
}

/**
 * @param {{
 *   target: 'x64' | 'arm64';
 *   version: string;
 *   license: string;
 *   seconds: number;
 *   files: import('./tar.mjs').TarFile[];
 *   isPlain: boolean;
 * }} image isPlain: the layer is not compressed
 * @returns {Buffer} the archive
 */
export function makeImage({ target, version, license, seconds, files, isPlain }) {
  const created = new Date(seconds * 1000).toISOString().replace('.000', '');
  const layer = Buffer.concat(makeTar(files, seconds));
  // zlib's output depends on its version, which is a part of Node.
  const stored = isPlain ? layer : gzipSync(layer, { level: 6 });
  const labels = {
    'org.opencontainers.image.title': 'weft',
    'org.opencontainers.image.version': version,
    'org.opencontainers.image.licenses': license,
    'org.opencontainers.image.created': created,
  };
  const json = (value) => Buffer.from(JSON.stringify(value));
  const config = json({
    created,
    architecture: architectures[target],
    os: 'linux',
    config: { Entrypoint: ['/weft/bin/weftd'], Env: ['PATH=/weft/bin'], WorkingDir: '/', Labels: labels },
    rootfs: { type: 'layers', diff_ids: [`sha256:${sha256(layer)}`] },
    history: [{ created, created_by: 'npm run release' }],
  });
  const blobs = new Map();
  const put = (mediaType, bytes) => {
    blobs.set(sha256(bytes), bytes);
    return { mediaType, digest: `sha256:${sha256(bytes)}`, size: bytes.length };
  };
  const vendor = 'application/vnd.oci.image';
  const manifest = put(
    `${vendor}.manifest.v1+json`,
    json({
      schemaVersion: 2,
      mediaType: `${vendor}.manifest.v1+json`,
      config: put(`${vendor}.config.v1+json`, config),
      layers: [put(`${vendor}.layer.v1.tar${isPlain ? '' : '+gzip'}`, stored)],
      annotations: labels,
    }),
  );
  const name = `${imageName}:${version}`;
  const index = {
    schemaVersion: 2,
    mediaType: `${vendor}.index.v1+json`,
    manifests: [
      {
        ...manifest,
        platform: { architecture: architectures[target], os: 'linux' },
        annotations: { 'io.containerd.image.name': name, 'org.opencontainers.image.ref.name': version },
      },
    ],
  };
  const blobPath = (bytes) => `blobs/sha256/${sha256(bytes)}`;
  const docker = [{ Config: blobPath(config), RepoTags: [name], Layers: [blobPath(stored)] }];
  const entry = (path, content) => ({ path, mode: 0o644, content });
  return Buffer.concat(
    makeTar(
      [
        entry('oci-layout', json({ imageLayoutVersion: '1.0.0' })),
        entry('index.json', json(index)),
        entry('manifest.json', json(docker)),
        ...[...blobs]
          .sort(([a], [b]) => (a < b ? -1 : 1))
          .map(([digest, bytes]) => entry(`blobs/sha256/${digest}`, bytes)),
      ],
      seconds,
    ),
  );
}

/** The files that every image has besides the executables. */
export const commonImageFiles = () => [
  // The host's name service is not there: names are asked of DNS alone, after the pod's own list.
  { path: 'etc/nsswitch.conf', mode: 0o644, content: Buffer.from('hosts: files dns\n') },
  { path: 'tmp/', mode: 0o1777, content: Buffer.alloc(0) },
  { path: 'usr/share/doc/weft/LICENSE', mode: 0o644, content: readFileSync(at('LICENSE')) },
];
