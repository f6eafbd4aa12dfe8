#!/usr/bin/env node
// npm run bench [-- --quick --json FILE start add masquerade dual burst reservations peers]: Weft beside the reference plugins, in one run, reported as ratios;
// weftd beside flanneld where WEFT_TEST_FLANNELD names one.
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { bunBinary, ensureDebian, ensureNodeModules } from '../setup.mjs';

if (process.geteuid?.() !== 0) {
  console.error('bench: needs root, because it makes network namespaces: run it as root');
  process.exit(1);
}
ensureNodeModules();
ensureDebian('test');
const build = spawnSync(process.execPath, [fileURLToPath(new URL('../build.mjs', import.meta.url))], {
  stdio: 'inherit',
});
if (build.status !== 0) process.exit(build.status ?? 1);
const bench = spawnSync(bunBinary(), [fileURLToPath(new URL('./main.ts', import.meta.url)), ...process.argv.slice(2)], {
  stdio: 'inherit',
});
process.exit(bench.status ?? 1);
