/**
 * The root of a small Debian with systemd, for hosts that boot: made by debootstrap from the mirror that apt uses, once, and
 * kept in the user's cache folder under a hash of what it consists of. It takes a minute or two, and 260 MB.
 * `node test/runtimes/debian-root.mjs` makes it and prints its path.
 */

import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, renameSync, rmSync } from 'node:fs';
import { homedir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { ask, ensureDebian, run, SetupError, say } from '../../setup.mjs';

const packages = ['systemd', 'systemd-sysv', 'dbus', 'iproute2', 'iputils-ping', 'nftables'];

/** The suite and the mirror of this machine's own packages. @throws SetupError */
function aptSource() {
  const format = '$(CODENAME) $(COMPONENT) $(REPO_URI)';
  const lines = ask('apt-get', ['indextargets', '--format', format, 'Created-By: Packages'])?.split('\n') ?? [];
  // Updates have names with a hyphen.
  const [suite, , mirror] =
    lines.map((line) => line.split(' ')).find(([name, part]) => /^\w+$/.test(name) && part === 'main') ?? [];
  if (!mirror) throw new SetupError('apt has no mirror of a whole Debian');
  return { suite, mirror };
}

function cachedPath(suite) {
  const hash = createHash('sha256')
    .update(`${process.arch} ${suite} ${packages.join(' ')}`)
    .digest('hex');
  return join(process.env.XDG_CACHE_HOME || join(homedir(), '.cache'), 'weft', `debian-root-${hash.slice(0, 16)}`);
}

/** The root if it was made before. */
export function findDebianRoot() {
  try {
    const path = cachedPath(aptSource().suite);
    return existsSync(path) ? path : undefined;
  } catch (error) {
    if (error instanceof SetupError) return undefined;
    throw error;
  }
}

/** The root, made where it is missing. @throws SetupError */
export function ensureDebianRoot() {
  const { suite, mirror } = aptSource();
  const path = cachedPath(suite);
  ensureDebian('systemd');
  if (existsSync(path)) return path;
  say(`Debian ${suite} with systemd by debootstrap: a minute or two, once; kept as ${path}`);
  mkdirSync(dirname(path), { recursive: true });
  const half = `${path}.${process.pid}`;
  try {
    run('debootstrap', ['--variant=minbase', `--include=${packages.join(',')}`, suite, half, mirror]);
    rmSync(join(half, 'var/cache/apt/archives'), { recursive: true, force: true });
    renameSync(half, path);
  } finally {
    rmSync(half, { recursive: true, force: true });
  }
  return path;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  try {
    console.log(ensureDebianRoot());
  } catch (error) {
    if (!(error instanceof SetupError)) throw error;
    console.log(error.message);
    process.exitCode = 1;
  }
}
