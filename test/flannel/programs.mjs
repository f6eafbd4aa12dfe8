/**
 * The real flanneld and flannel's CNI plugin for the tests, built from their Go modules. `node test/flannel/programs.mjs`
 * builds them and prints their paths. flanneld takes some 3 minutes on two cores; it has 52 MB.
 *
 * WEFT_TEST_FLANNELD and WEFT_TEST_FLANNEL_CNI name executables that were built elsewhere.
 *
 * The CNI plugin is that of the reference plugins 0.9.1, the last ones with it; its successor has the same code.
 * flanneld is built without the backend "tencent-vpc": the head of the package that is in its library's place says why.
 */

import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { findGoProgram, printGoPrograms } from '../gate/go.mjs';

const folder = dirname(fileURLToPath(import.meta.url));
const version = 'v0.28.10';

/** @type {Record<'flanneld' | 'cniPlugin', import('../gate/go.mjs').GoProgram>} */
const programs = {
  flanneld: {
    name: 'flanneld',
    variable: 'WEFT_TEST_FLANNELD',
    purpose: 'flanneld for the tests',
    recipe: join(folder, 'recipe', 'flanneld'),
    files: ['go.mod', 'go.sum', 'left-out/go.mod', 'left-out/v20170312/left-out.go'],
    target: 'github.com/flannel-io/flannel',
    ldflags: `-s -w -X github.com/flannel-io/flannel/pkg/version.Version=${version}`,
    oldestGo: [1, 26],
    told: `flanneld ${version} from its Go module: some 3 minutes, once`,
    // Its backend "udp" is written in C.
    cgo: true,
  },
  cniPlugin: {
    name: 'flannel',
    variable: 'WEFT_TEST_FLANNEL_CNI',
    purpose: "flannel's CNI plugin for the tests",
    recipe: join(folder, 'recipe', 'cni-plugin'),
    files: ['go.mod', 'go.sum'],
    target: 'github.com/containernetworking/plugins/plugins/meta/flannel',
    ldflags: '-s -w',
    oldestGo: [1, 24],
    told: "flannel's CNI plugin from its Go module: some seconds, once",
  },
};

/** The variables of the environment that name those programs which are there. */
export function flannelEnvironment() {
  const found = Object.values(programs).map((program) => [program.variable, findGoProgram(program)]);
  return Object.fromEntries(found.filter(([, path]) => path !== undefined));
}

if (process.argv[1] === fileURLToPath(import.meta.url)) process.exitCode = printGoPrograms(Object.values(programs));
