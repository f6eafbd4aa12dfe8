/**
 * Builds everything: `node build.mjs [PART…] [--target x64|arm64]`. Parts: `cni` (dist/bin/weft, weft-ipam), `weftd`
 * (dist/bin/weftd, weftctl), `weft-bun` (dist/bun/weft: the CNI programs under Bun). Without a part: `cni weftd`.
 */

import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { alone, at, BuildError, binFolder, step, targets } from './build/tools.mjs';
import { ensureNodeModules, ensureRust, SetupError } from './setup.mjs';

/** @type {Record<string, (target: string) => Promise<void>>} */
const parts = { cni, weftd, 'weft-bun': weftBun };

async function cni(target) {
  const { assemble, buildRuntime, bundleCni } = await import('./build/cni.mjs');
  await step('cni modules', () => bundleCni());
  const cargo = ensureRust(target);
  if (!cargo) return weftBun(target, binFolder(target));
  await step('runtime', () => buildRuntime(cargo, target));
  if (target !== process.arch) await step('compiler', () => buildRuntime(ensureRust(), process.arch));
  await step('weft, weft-ipam', () => assemble(target));
}

async function weftd(target) {
  const { bundleWeftd, compileWeftd } = await import('./build/weftd.mjs');
  await step('weftd bundle', () => bundleWeftd());
  await step('weftd, weftctl', () => compileWeftd(target));
}

async function weftBun(target, folder = at('dist', 'bun')) {
  const { bundleWeftBun, compileWeftBun } = await import('./build/weftd.mjs');
  await step('weft-bun bundle', () => bundleWeftBun());
  await step('weft under Bun', () => compileWeftBun(target, join(folder, 'weft')));
}

/**
 * Builds these parts for this target.
 * @param {string[]} names @param {string} [target]
 */
export async function buildParts(names, target = process.arch) {
  if (!(target in targets)) throw new BuildError(`Cannot build for "${target}": targets are ${Object.keys(targets)}`);
  const unknown = names.find((name) => !(name in parts));
  if (unknown) throw new BuildError(`There is no part "${unknown}": parts are ${Object.keys(parts).join(', ')}`);
  ensureNodeModules();
  await alone(async () => {
    for (const name of names) await parts[name](target);
  });
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  try {
    const { values, positionals } = parseArgs({ options: { target: { type: 'string' } }, allowPositionals: true });
    await buildParts(positionals.length ? positionals : ['cni', 'weftd'], values.target);
  } catch (error) {
    console.error(
      error instanceof BuildError || error instanceof SetupError || error.code?.startsWith('ERR_PARSE_ARGS')
        ? error.message
        : error,
    );
    process.exitCode = 1;
  }
}
