/**
 * A container image made of Debian's static busybox: a docker-archive, which containerd, Podman and Docker read. Its
 * program answers HTTP at port 8080 with the address that it sees its client by, and its own host name.
 */

import { createHash } from 'node:crypto';
import { chmodSync, copyFileSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { findProgram, run } from '../lab/commands.ts';

/** Its name for all runtimes. */
export const imageName = 'localhost/weft-test:local';
/** The port at which every container answers. */
export const answerPort = 8080;

const applets = ['sh', 'httpd', 'hostname', 'ip', 'nc', 'ping', 'sleep', 'timeout', 'wget', 'cat', 'ls'];
const answer = `#!/bin/sh
printf 'Content-Type: text/plain\\r\\n\\r\\n%s %s' "$REMOTE_ADDR" "$(hostname)"
`;

const sha256 = (bytes: Buffer): string => createHash('sha256').update(bytes).digest('hex');

const tar = (folder: string, archive: string): void =>
  void run(['tar', '--sort=name', '--owner=0', '--group=0', '--numeric-owner', '-cf', archive, '-C', folder, '.']);

/** Makes the root of the image's file system in the folder, and gives its path. */
export function makeRootfs(folder: string): string {
  const rootfs = join(folder, 'rootfs');
  for (const name of ['bin', 'dev', 'etc', 'proc', 'sys', 'tmp', 'www/cgi-bin']) {
    mkdirSync(join(rootfs, name), { recursive: true });
  }
  copyFileSync(findProgram('busybox'), join(rootfs, 'bin/busybox'));
  for (const applet of applets) run(['ln', '-sf', 'busybox', join(rootfs, 'bin', applet)]);
  writeFileSync(join(rootfs, 'www/cgi-bin/who'), answer);
  chmodSync(join(rootfs, 'www/cgi-bin/who'), 0o755);
  writeFileSync(join(rootfs, 'etc/passwd'), 'root:x:0:0:root:/:/bin/sh\n');
  return rootfs;
}

/** Writes the archive into the folder and gives its path. */
export function makeImage(folder: string): string {
  const rootfs = makeRootfs(folder);
  const image = join(folder, 'image');
  mkdirSync(image, { recursive: true });
  tar(rootfs, join(image, 'layer.tar'));
  const layer = sha256(readFileSync(join(image, 'layer.tar')));
  const config = JSON.stringify({
    architecture: process.arch === 'arm64' ? 'arm64' : 'amd64',
    os: 'linux',
    config: {
      Entrypoint: ['/bin/httpd', '-f', '-p', String(answerPort), '-h', '/www'],
      Env: ['PATH=/bin'],
      WorkingDir: '/',
    },
    rootfs: { type: 'layers', diff_ids: [`sha256:${layer}`] },
    history: [{ created_by: 'busybox' }],
  });
  writeFileSync(join(image, 'config.json'), config);
  const manifest = [{ Config: 'config.json', RepoTags: [imageName], Layers: ['layer.tar'] }];
  writeFileSync(join(image, 'manifest.json'), JSON.stringify(manifest));
  const archive = join(folder, 'image.tar');
  tar(image, archive);
  return archive;
}
