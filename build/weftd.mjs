/** The executables for Bun: TypeScript → one bundle → an executable that contains Bun, the bundle and its bytecode. */

import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { build } from 'esbuild';
import { bunBinary } from '../setup.mjs';
import { bundleCni, cniNames, megabytes, modulesFolder } from './cni.mjs';
import { etcd3Plugin } from './etcd3.mjs';
import { ownWordsKey, putOwnWords } from './own-words.mjs';
import { schemaPlugin } from './schema.mjs';
import { at, BuildError, binFolder, hardLink, hashOf, root, run, unlessDone, writeFolder } from './tools.mjs';

/** The folders of the bundles: `weftd.cjs`, `weft.mjs`. */
const weftdFolder = at('dist', 'weftd');
const weftBunFolder = at('dist', 'weft-bun');

/**
 * Bundles to one file. A module loaded by `await import()` becomes a function in it that runs on demand.
 * @param {'cjs' | 'esm'} format CommonJS for packages that `require`; ES for a top-level `await`, which CommonJS lacks
 */
async function bundle(entry, folder, name, format, plugins) {
  if (!existsSync(entry)) throw new BuildError(`Cannot find "${basename(entry)}", the entry point of ${name}`);
  const { outputFiles, metafile } = await build({
    absWorkingDir: root,
    entryPoints: { [name]: entry },
    outdir: at('dist', name),
    outExtension: { '.js': format === 'cjs' ? '.cjs' : '.mjs' },
    bundle: true,
    format,
    platform: 'node',
    external: ['bun', 'bun:*'],
    target: 'es2023',
    charset: 'utf8',
    legalComments: 'none',
    minifySyntax: true,
    // Bun would insert this machine's folder. No bundled code reads files beside itself.
    define: { __dirname: '"/"', __filename: '"/weft"' },
    plugins,
    write: false,
    metafile: true,
    logLevel: 'silent',
    logOverride: { 'empty-import-meta': 'error' },
  }).catch((error) => {
    throw new BuildError(error.message);
  });
  writeFolder(folder, new Map(outputFiles.map((file) => [basename(file.path), file.contents])));
  return `${Object.keys(metafile.inputs).length} sources, ${(outputFiles[0].contents.length / 1e6).toFixed(2)} MB`;
}

export const bundleWeftd = (entry = at('main-weftd.ts'), folder = weftdFolder) =>
  bundle(entry, folder, 'weftd', 'cjs', [schemaPlugin, etcd3Plugin]);

/** The CNI programs' own bundle, `dist/cni`, with the Bun adapter before it. */
export async function bundleWeftBun() {
  await bundleCni();
  const sameBundle = {
    name: 'same-bundle',
    setup(build) {
      build.onResolve({ filter: /^\.\/main-cni\.ts$/ }, () => ({ path: join(modulesFolder, 'main-cni.js') }));
    },
  };
  return bundle(at('main-cni-bun.ts'), weftBunFolder, 'weft', 'esm', [sameBundle]);
}

/** The further names of `weftd`: `main-weftd.ts` looks at its name. */
export const weftdNames = ['weftctl', 'mk-docker-opts.sh'];

/** `weftd`, and its other names. */
export const compileWeftd = (target) =>
  compile(join(weftdFolder, 'weftd.cjs'), join(binFolder(target), 'weftd'), weftdNames, target);

/** `weft`, and its other names. */
export const compileWeftBun = (target, output) => compile(join(weftBunFolder, 'weft.mjs'), output, cniNames, target);

/**
 * Makes the executable `output`, with further names in its folder. Bun runs in the bundle's folder, where no file of the
 * project or the user configures it.
 */
export async function compile(source, output, links, target) {
  const bun = bunBinary(process.arch);
  const carrier = bunBinary(target);
  const version = JSON.parse(readFileSync(join(dirname(carrier), '..', 'package.json'), 'utf8')).version;
  const flags = [
    '--compile',
    '--bytecode',
    '--minify',
    `--format=${source.endsWith('.cjs') ? 'cjs' : 'esm'}`,
    // Without these two, an executable runs code named by a file in its current folder.
    '--no-compile-autoload-dotenv',
    '--no-compile-autoload-bunfig',
    // Most runs are short: compiling to machine code sooner does not pay.
    '--compile-jit-policy=100',
  ];
  const key = hashOf(target, version, flags.join(' '), ownWordsKey, readFileSync(source));
  const words = await unlessDone(output, key, () => {
    const made = join(dirname(source), 'bin', basename(output));
    mkdirSync(dirname(made), { recursive: true });
    const ownCarrier = `${made}.carrier`;
    writeFileSync(ownCarrier, putOwnWords(readFileSync(carrier)), { mode: 0o755 });
    mkdirSync(dirname(output), { recursive: true });
    const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith('BUN_')));
    const carried = `--compile-executable-path=${ownCarrier}`;
    run(bun, ['build', ...flags, carried, basename(source), '--outfile', made], { cwd: dirname(source), env });
    rmSync(ownCarrier);
    renameSync(made, output);
    return `Bun ${version}, ${megabytes(output)}`;
  });
  for (const link of links) hardLink(output, join(dirname(output), link));
  return words;
}
