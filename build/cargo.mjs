/** How cargo is called, by the build and by the gate alike. */

import { homedir } from 'node:os';
import { delimiter, dirname, join } from 'node:path';
import { at, targets } from './tools.mjs';

/**
 * The environment `cargo` runs in, whoever calls it: the user's own flags would change what is built, and paths of this
 * machine would get into it.
 */
export function cargoEnvironment(cargo, target = process.arch) {
  const { rust, linker } = targets[target];
  const env = { ...process.env };
  for (const name of ['RUSTFLAGS', 'CARGO_BUILD_TARGET', 'CARGO_BUILD_RUSTFLAGS', 'CFLAGS', 'CARGO_TARGET_DIR']) {
    delete env[name];
  }
  // The rustc that belongs to it, not another one.
  env.PATH = [dirname(cargo), env.PATH].join(delimiter);
  const cargoHome = env.CARGO_HOME ?? join(homedir(), '.cargo');
  const flags = ['-Ctarget-feature=+crt-static', `--remap-path-prefix=${cargoHome}=cargo`];
  env.CARGO_ENCODED_RUSTFLAGS = [...flags, `--remap-path-prefix=${at('runtime')}=runtime`].join('\x1f');
  env.CFLAGS = `-ffile-prefix-map=${cargoHome}=cargo -ffile-prefix-map=${at('runtime')}=runtime`;
  if (target !== process.arch) {
    env[`CARGO_TARGET_${rust.toUpperCase().replaceAll('-', '_')}_LINKER`] = linker;
    env[`CC_${rust.replaceAll('-', '_')}`] = linker;
  }
  return env;
}
