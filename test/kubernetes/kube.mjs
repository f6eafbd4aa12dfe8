/**
 * A real Kubernetes for the tests: one executable, built from the published Go modules once and kept in the user's cache
 * folder, under a hash of the recipe. The build takes 7 minutes on two cores and 3.3 GB of memory; the executable has
 * 160 MB. `node test/kubernetes/kube.mjs` builds it and prints its path.
 *
 * WEFT_TEST_KUBE=PATH names an executable that was built elsewhere by the same recipe.
 */

import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { ensureGoProgram, findGoProgram, printGoPrograms } from '../gate/go.mjs';

const version = 'v1.37.2';

const [, major, minor] = /^v(\d+)\.(\d+)/.exec(version);
const versionFlag = (name, value) => `-X k8s.io/component-base/version.${name}=${value}`;

/** @type {import('../gate/go.mjs').GoProgram} */
const program = {
  name: 'kube',
  variable: 'WEFT_TEST_KUBE',
  purpose: 'a Kubernetes for the tests',
  recipe: join(dirname(fileURLToPath(import.meta.url)), 'recipe'),
  files: ['main.go', 'go.mod', 'go.sum'],
  target: '.',
  ldflags: [
    '-s -w',
    versionFlag('gitVersion', version),
    versionFlag('gitMajor', major),
    versionFlag('gitMinor', minor),
  ].join(' '),
  oldestGo: [1, 26],
  told: `Kubernetes ${version} from its Go modules: some 7 minutes, once`,
};

/** The executable if it was built before. */
export const findKube = () => findGoProgram(program);

/** The executable, built where it is missing. @throws SetupError */
export const ensureKube = () => ensureGoProgram(program);

if (process.argv[1] === fileURLToPath(import.meta.url)) process.exitCode = printGoPrograms([program]);
