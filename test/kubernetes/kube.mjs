/**
 * A real Kubernetes for the tests: one executable, built from the published Go modules once and kept in the user's cache
 * folder, under a hash of the recipe. The build takes 7 minutes on two cores and 3.3 GB of memory; the executable has
 * 160 MB. `node test/kubernetes/kube.mjs` builds it and prints its path.
 *
 * WEFT_TEST_KUBE=PATH names an executable that was built elsewhere by the same recipe.
 */

import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync } from 'node:fs';
import { homedir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { ask, findCommand, run, SetupError, say } from '../../setup.mjs';

const recipe = join(dirname(fileURLToPath(import.meta.url)), 'recipe');
const version = 'v1.37.2';
/** The modules' own demand. */
const oldestGo = [1, 26];

const [, major, minor] = /^v(\d+)\.(\d+)/.exec(version);
const versionFlag = (name, value) => `-X k8s.io/component-base/version.${name}=${value}`;
const ldflags = [
  '-s -w',
  versionFlag('gitVersion', version),
  versionFlag('gitMajor', major),
  versionFlag('gitMinor', minor),
].join(' ');

/** The cached executable's path, whether it is there or not. */
function cachedPath() {
  const hash = createHash('sha256').update(`${process.arch} ${ldflags}`);
  for (const name of ['main.go', 'go.mod', 'go.sum']) hash.update(readFileSync(join(recipe, name)));
  const folder = process.env.XDG_CACHE_HOME || join(homedir(), '.cache');
  return join(folder, 'weft', `kube-${hash.digest('hex').slice(0, 16)}`);
}

/** The executable if it was built before. */
export function findKube() {
  const path = process.env.WEFT_TEST_KUBE || cachedPath();
  return existsSync(path) ? path : undefined;
}

/** @throws SetupError there is no Go, or an old one */
function findGo() {
  const needed = `a Kubernetes for the tests needs Go ${oldestGo.join('.')} or newer`;
  const go = findCommand('go') ?? ['/usr/local/go/bin/go', '/usr/lib/go/bin/go'].find(existsSync);
  if (!go) throw new SetupError(`${needed}: install it`);
  const env = { ...process.env, GOTOOLCHAIN: 'local' };
  const found = /go(\d+)\.(\d+)/.exec(ask(go, ['version'], { env }) ?? '');
  const [own, further] = [Number(found?.[1] ?? 0), Number(found?.[2] ?? 0)];
  if (own < oldestGo[0] || (own === oldestGo[0] && further < oldestGo[1])) {
    throw new SetupError(`${needed}; "${go}" is ${found?.[0] ?? 'no Go'}`);
  }
  return go;
}

/** The executable, built where it is missing. @throws SetupError */
export function ensureKube() {
  const found = findKube();
  if (found) return found;
  const path = process.env.WEFT_TEST_KUBE;
  if (path) throw new SetupError(`WEFT_TEST_KUBE is "${path}", which is not there`);
  const go = findGo();
  const cached = cachedPath();
  say(`Kubernetes ${version} from its Go modules: some 7 minutes, once; kept as ${cached}`);
  mkdirSync(dirname(cached), { recursive: true });
  const half = `${cached}.${process.pid}`;
  try {
    const env = { ...process.env, CGO_ENABLED: '0', GOTOOLCHAIN: 'local', GOFLAGS: '-mod=readonly' };
    run(go, ['build', '-trimpath', '-o', half, '-ldflags', ldflags, '.'], { cwd: recipe, env });
    renameSync(half, cached);
  } finally {
    rmSync(half, { force: true });
  }
  return cached;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  try {
    console.log(ensureKube());
  } catch (error) {
    if (!(error instanceof SetupError)) throw error;
    console.log(error.message);
    process.exitCode = 1;
  }
}
