/** The CNI side: TypeScript → ES modules → bytecode → `dist/bin/weft`, and its other names. */

import { existsSync, mkdirSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { basename, dirname, join, relative } from 'node:path';
import { build } from 'esbuild';
import { cargoEnvironment, rustTarget } from './cargo.mjs';
import { schemaPlugin } from './schema.mjs';
import {
  at,
  BuildError,
  binFolder,
  copy,
  hardLink,
  hashOf,
  hashOfFiles,
  root,
  run,
  unlessDone,
  writeFolder,
} from './tools.mjs';

/** The folder of esbuild's modules: `main-cni.js` and the chunks that it loads on demand. */
export const modulesFolder = at('dist', 'cni');

/** The further names of `weft`: `main-cni.ts` looks at its name. */
export const cniNames = ['weft-ipam', 'flannel', 'loopback'];

const fail = (error) => {
  throw new BuildError(error.message);
};

/** Bundles an entry with its static imports; dynamic imports become modules of their own. */
const bundle = (name, entry, plugins) =>
  build({
    absWorkingDir: root,
    entryPoints: { [name]: entry },
    // Always this folder: its name is part of the maps, and their hash is part of the file names.
    outdir: modulesFolder,
    bundle: true,
    splitting: true,
    format: 'esm',
    platform: 'neutral',
    mainFields: ['module', 'main'],
    target: 'es2023',
    chunkNames: `${name}-[name]-[hash]`,
    charset: 'utf8',
    legalComments: 'none',
    // The bytecode contains variable names, and every start reads them. The maps serve to read stack traces.
    minify: true,
    sourcemap: 'external',
    sourcesContent: false,
    plugins: [schemaPlugin, ...plugins],
    write: false,
    metafile: true,
    logLevel: 'silent',
  }).catch(fail);

/**
 * Bundles the CNI programs. The engine has no Node API: an import of one fails here.
 *
 * Each dynamic import of the entry is bundled by itself. Shared modules would be small and many, and linking them costs
 * every start more than their bytes cost the file.
 * @param {string} [entry] TypeScript file of the programs
 * @param {string} [folder] where the modules go
 */
export async function bundleCni(entry = at('main-cni.ts'), folder = modulesFolder) {
  if (!existsSync(entry)) throw new BuildError(`Cannot find "${basename(entry)}", the entry point of the CNI programs`);
  const programs = new Map();
  const setApart = {
    name: 'programs',
    setup({ onResolve }) {
      onResolve({ filter: /^\./ }, ({ kind, path, resolveDir }) => {
        if (kind !== 'dynamic-import') return undefined;
        const target = join(resolveDir, path);
        const name = relative(root, target).replace(/\.ts$/, '').replaceAll('/', '-');
        programs.set(name, target);
        return { path: `./${name}.js`, external: true };
      });
    },
  };
  const bundles = [await bundle('main-cni', entry, [setApart])];
  // The programs' own dynamic imports join the list.
  for (const [name, path] of programs) bundles.push(await bundle(name, path, [setApart]));
  const outputFiles = bundles.flatMap((result) => result.outputFiles);
  writeFolder(folder, new Map(outputFiles.map((file) => [basename(file.path), file.contents])));
  const modules = outputFiles.filter((file) => file.path.endsWith('.js'));
  const bytes = modules.reduce((sum, file) => sum + file.contents.length, 0);
  const inputs = new Set(bundles.flatMap((result) => Object.keys(result.metafile.inputs))).size;
  return `${inputs} sources → ${modules.length} modules, ${(bytes / 1024).toFixed(0)} kB`;
}

/** The runtime's sources. A change of any of them makes cargo run. */
const runtimeInputs = () => [
  at('runtime', 'src'),
  at('runtime', '.cargo'),
  at('runtime', 'Cargo.toml'),
  at('runtime', 'Cargo.lock'),
];

/** The output of `buildRuntime`: the runtime and, beside it, the compiler, which runs on this machine. */
const runtimePath = (target) => at('dist', 'runtime', target, 'weft-runtime');
const compilerPath = () => at('dist', 'runtime', process.arch, 'weft-compile');

/** Builds the Rust part with `cargo` if it has changed. */
export async function buildRuntime(cargo, target) {
  const rust = rustTarget(cargo, target);
  const env = cargoEnvironment(cargo, target);
  const version = run(cargo, ['--version', '--verbose']);
  const output = runtimePath(target);
  const key = hashOf(version, rust, env.CARGO_ENCODED_RUSTFLAGS, env.CFLAGS, hashOfFiles(...runtimeInputs()));
  return unlessDone(output, key, () => {
    const args = ['build', '--release', '--locked', '--quiet', '--target', rust];
    run(cargo, args, { cwd: at('runtime'), env });
    for (const name of readdirSync(at('runtime', 'target', rust, 'release'))) {
      if (name !== 'weft-runtime' && name !== 'weft-compile') continue;
      copy(at('runtime', 'target', rust, 'release', name), join(dirname(output), name));
    }
    return `${version.split('\n', 1)[0]}, ${rust.endsWith('musl') ? 'musl' : 'glibc'}, ${megabytes(output)}`;
  });
}

/**
 * Joins runtime and bytecode.
 * @param {string} [output] the executable
 * @param {string} [modules] the folder of the modules
 */
export async function assemble(target, output = join(binFolder(target), 'weft'), modules = modulesFolder) {
  const key = hashOf(hashOfFiles(modules), readFileSync(runtimePath(target)), readFileSync(compilerPath()));
  const words = await unlessDone(output, key, () => {
    mkdirSync(dirname(output), { recursive: true });
    run(compilerPath(), [runtimePath(target), modules, output]);
    return megabytes(output);
  });
  for (const name of cniNames) hardLink(output, join(dirname(output), name));
  return words;
}

export const megabytes = (path) => `${(statSync(path).size / 1e6).toFixed(2)} MB`;
