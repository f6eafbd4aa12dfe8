/** Builds the executables once more, elsewhere: the same sources and tools give the same bytes. cargo's part is taken as it is. */

import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { assemble, bundleCni } from '../build/cni.mjs';
import { at } from '../build/tools.mjs';
import { bundleWeftd, compile } from '../build/weftd.mjs';

const folder = mkdtempSync(join(tmpdir(), 'weft-rebuild-'));
const target = process.arch;
try {
  if (existsSync(at('dist', 'runtime', target))) {
    await bundleCni(undefined, join(folder, 'cni'));
    await assemble(target, join(folder, 'weft'), join(folder, 'cni'));
  }
  await bundleWeftd(undefined, join(folder, 'weftd.bundle'));
  await compile(join(folder, 'weftd.bundle', 'weftd.cjs'), join(folder, 'weftd'), ['weftctl'], target);
  for (const name of ['weft', 'weftd'].filter((name) => existsSync(join(folder, name)))) {
    if (readFileSync(join(folder, name)).equals(readFileSync(at('dist', 'bin', name)))) continue;
    console.log(`dist/bin/${name} is not what a second build gives`);
    process.exitCode = 1;
  }
} finally {
  rmSync(folder, { recursive: true, force: true });
}
