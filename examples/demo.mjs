/**
 * `npm run demo`: a cluster of three hosts on this machine, out of network namespaces, and what Weft does in it.
 * `--keep` leaves it up, `--clean` removes one that was kept. This file is plain Node: it brings what the rest needs.
 */

import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const options = process.argv.slice(2);
const known = ['--keep', '--clean', '--help'];
const unknown = options.find((option) => !known.includes(option));

/** @param {string} message */
function stop(message) {
  console.error(`demo: ${message}`);
  process.exit(1);
}

if (options.includes('--help')) {
  console.log('npm run demo [-- --keep | --clean]: --keep leaves the cluster up, --clean removes one that was kept');
  process.exit(0);
}
if (unknown) stop(`there is no option "${unknown}": it is ${known.join(', ')}`);
if (process.platform !== 'linux') stop('it makes hosts out of network namespaces, which only Linux has');
if (process.geteuid() !== 0) stop('it makes hosts out of network namespaces: run it as root (sudo npm run demo)');

const started = performance.now();
const { bunBinary, ensureDebian, ensureNodeModules } = await import('../setup.mjs');
try {
  if (!options.includes('--clean')) {
    const first = existsSync(new URL('../dist/bin/weftd', import.meta.url))
      ? ''
      : ' (the first one takes a minute or two)';
    console.log(`What it needs, and the build${first}`);
    ensureNodeModules();
    ensureDebian('demo');
    const { buildParts } = await import('../build.mjs');
    await buildParts(['cni', 'weftd']);
  }
} catch (error) {
  stop(error.message);
}
const main = fileURLToPath(new URL('demo/main.ts', import.meta.url));
const { status } = spawnSync(bunBinary(), [main, ...options], {
  stdio: 'inherit',
  env: { ...process.env, WEFT_DEMO_SECONDS: String((performance.now() - started) / 1000) },
});
process.exit(status ?? 1);
