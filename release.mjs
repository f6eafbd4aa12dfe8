/**
 * Makes the release: `npm run release [-- --target x64|arm64] [--out FOLDER] [--plain]`.
 *
 * `weft-<version>-linux-<target>.tar.xz` holds the executables under all their names, the unit, the examples, completions,
 * manual pages and the software bill of materials; `SHA256SUMS` stands beside the archives. The same sources and tools give
 * the same bytes: all entries have the time of the last commit (or SOURCE_DATE_EPOCH). `--plain` leaves the archives
 * and the image's layer uncompressed.
 *
 * `weft-<version>-linux-<target>-image.tar` is the container image (build/release/image.mjs).
 *
 * Without `--target` it makes all that this machine can, and tells why one is missing. Exit status 1 if one is.
 */

import { createHash } from 'node:crypto';
import { mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { cniNames, megabytes } from './build/cni.mjs';
import { formatBillOfMaterials } from './build/release/bill-of-materials.mjs';
import { formatBash, formatFish, formatZsh } from './build/release/completions.mjs';
import { readHelp } from './build/release/help-text.mjs';
import { commonImageFiles, makeImage, readRuntime } from './build/release/image.mjs';
import { formatDaemonPage, formatToolPage } from './build/release/man-page.mjs';
import { makeTar } from './build/release/tar.mjs';
import { at, BuildError, binFolder, run, step, targets } from './build/tools.mjs';
import { weftdNames } from './build/weftd.mjs';
import { buildParts } from './build.mjs';
import { ensureRust, SetupError } from './setup.mjs';

const { version, license } = JSON.parse(readFileSync(at('package.json'), 'utf8'));

/** The time of the last commit, as `SOURCE_DATE_EPOCH` means it. */
function releaseSeconds() {
  const given = process.env.SOURCE_DATE_EPOCH;
  if (given !== undefined && /^\d+$/.test(given)) return Number(given);
  try {
    return Number(run('git', ['log', '-1', '--format=%ct']).trim());
  } catch {
    // A folder without its history, such as an unpacked archive.
    return 0;
  }
}

const text = (path, content, mode = 0o644) => ({ path, mode, content: Buffer.from(content) });
const copied = (path, source, mode = 0o644) => ({ path, mode, content: readFileSync(source) });

/** An executable and its other names. */
function program(folder, name, links, source) {
  const path = `${folder}/${name}`;
  const others = links.map((link) => ({
    path: `${folder}/${link}`,
    mode: 0o755,
    content: Buffer.alloc(0),
    link: path,
  }));
  return [copied(path, source, 0o755), ...others];
}

/** All files of a folder, as they are. */
const filesBelow = (path, folder) =>
  readdirSync(folder, { recursive: true })
    .sort()
    .filter((name) => statSync(join(folder, name)).isFile())
    .map((name) => copied(join(path, name), join(folder, name)));

/** The files that are the same for every kind of machine. */
function commonFiles(seconds) {
  const help = readHelp(binFolder(process.arch));
  const page = { version, date: new Date(seconds * 1000).toISOString().slice(0, 10) };
  const programs = /** @type {const} */ (['weftd', 'weftctl']);
  return [
    ...programs.flatMap((name) => [
      text(`completions/bash/${name}`, formatBash(help, name)),
      text(`completions/zsh/_${name}`, formatZsh(help, name)),
      text(`completions/fish/${name}.fish`, formatFish(help, name)),
    ]),
    text('man/man8/weftd.8', formatDaemonPage(help.weftd, page)),
    text('man/man1/weftctl.1', formatToolPage(help.weftctl, help.verbs, page)),
    copied('systemd/weftd.service', at('examples', 'weftd.service')),
    copied('systemd/docker.service.d/weft.conf', at('examples', 'docker-weft.conf')),
    ...['10-weft.conflist', '10-weft-portmap.conflist', 'network-config.json'].map((name) =>
      copied(`examples/${name}`, at('examples', name)),
    ),
    ...filesBelow('kubernetes', at('examples', 'kubernetes')),
    ...readdirSync(at('docs')).map((name) => copied(`docs/${name}`, at('docs', name))),
    ...['README.md', 'SECURITY.md', 'CHANGELOG.md', 'LICENSE'].map((name) => copied(name, at(name))),
  ];
}

/** @returns {import('./build/release/tar.mjs').TarFile[]} */
function filesOf(target, name, seconds) {
  const bin = binFolder(target);
  const files = [
    ...program('bin', 'weftd', weftdNames, join(bin, 'weftd')),
    ...program('cni', 'weft', cniNames, join(bin, 'weft')),
    ...commonFiles(seconds),
  ];
  const contents = files.filter(({ link }) => link === undefined);
  const bill = { name, version, license, seconds, bunPackage: targets[target].bun, files: contents };
  return [...files, text('sbom.spdx.json', formatBillOfMaterials(bill))].map((file) => ({
    ...file,
    path: `${name}/${file.path}`,
    ...(file.link === undefined ? {} : { link: `${name}/${file.link}` }),
  }));
}

/** @returns {import('./build/release/tar.mjs').TarFile[]} */
function imageFilesOf(target, name, seconds) {
  const bin = binFolder(target);
  const runtime = readRuntime(target, join(bin, 'weftd'));
  const files = [
    ...program('weft/bin', 'weftd', weftdNames, join(bin, 'weftd')),
    ...program('weft/cni', 'weft', cniNames, join(bin, 'weft')),
    ...runtime.files,
    ...commonImageFiles(),
  ];
  const contents = files.filter(({ link, path }) => link === undefined && !path.endsWith('/'));
  const bill = { name: `${name}-image`, version, license, seconds, bunPackage: targets[target].bun, files: contents };
  const debian = [runtime.package];
  return [...files, text('usr/share/doc/weft/sbom.spdx.json', formatBillOfMaterials({ ...bill, debian }))];
}

async function releaseImage(target, out, isPlain) {
  const name = `weft-${version}-linux-${target}`;
  const seconds = releaseSeconds();
  const archive = join(out, `${name}-image.tar`);
  await step(`${name}-image`, () => {
    const files = imageFilesOf(target, name, seconds);
    writeFileSync(archive, makeImage({ target, version, license, seconds, files, isPlain }));
    return megabytes(archive);
  });
  return archive;
}

async function release(target, out, isPlain) {
  // Without Rust the build would take Bun for the plugins, which is ten times as large and slow.
  if (!ensureRust(target)) throw new BuildError('there is no Rust that builds for it, see above');
  await buildParts(['cni', 'weftd'], target);
  if (target !== process.arch) await buildParts(['weftd'], process.arch);
  const name = `weft-${version}-linux-${target}`;
  const seconds = releaseSeconds();
  const archive = join(out, `${name}.tar`);
  await step(name, () => {
    mkdirSync(out, { recursive: true });
    writeFileSync(archive, Buffer.concat(makeTar(filesOf(target, name, seconds), seconds)));
    if (isPlain) return megabytes(archive);
    rmSync(`${archive}.xz`, { force: true });
    // One thread: several would cut the file by their number.
    run('xz', ['--threads=1', '-6', '--check=crc64', '--no-adjust', archive]);
    return megabytes(`${archive}.xz`);
  });
  return isPlain ? archive : `${archive}.xz`;
}

async function main() {
  const { values } = parseArgs({
    options: { target: { type: 'string' }, out: { type: 'string' }, plain: { type: 'boolean' } },
  });
  const wanted = values.target === undefined ? Object.keys(targets) : [values.target];
  const out = resolve(values.out ?? at('dist', 'release'));
  const made = [];
  for (const target of wanted) {
    if (!(target in targets)) throw new BuildError(`Cannot build for "${target}": targets are ${Object.keys(targets)}`);
    for (const [make, name] of /** @type {const} */ ([
      [release, `weft-${version}-linux-${target}`],
      [releaseImage, `weft-${version}-linux-${target}-image`],
    ])) {
      try {
        made.push(await make(target, out, values.plain === true));
      } catch (error) {
        if (!(error instanceof BuildError) && !(error instanceof SetupError)) throw error;
        console.error(`${name} was not made: ${error.message}`);
        process.exitCode = 1;
        // The image is made of the archive's executables.
        if (make === release) break;
      }
    }
  }
  const sums = made.map((path) => {
    const sum = createHash('sha256').update(readFileSync(path)).digest('hex');
    return `${sum}  ${path.slice(out.length + 1)}\n`;
  });
  if (made.length > 0) writeFileSync(join(out, 'SHA256SUMS'), sums.join(''));
  process.stdout.write(sums.join(''));
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  try {
    await main();
  } catch (error) {
    const isTold =
      error instanceof BuildError || error instanceof SetupError || error.code?.startsWith('ERR_PARSE_ARGS');
    console.error(isTold ? error.message : error);
    process.exitCode = 1;
  }
}
