/** How the build and the gate call cargo. */

import { homedir } from 'node:os';
import { delimiter, dirname, join } from 'node:path';
import { at, targets } from './tools.mjs';

/**
 * The environment for `cargo`. It drops the user's own flags, which would change the output, and keeps this machine's
 * paths out of it.
 */
export function cargoEnvironment(cargo, target = process.arch) {
  const { rust, linker } = targets[target];
  const env = { ...process.env };
  for (const name of ['RUSTFLAGS', 'CARGO_BUILD_TARGET', 'CARGO_BUILD_RUSTFLAGS', 'CFLAGS', 'CARGO_TARGET_DIR']) {
    delete env[name];
  }
  // Use the rustc that belongs to this cargo.
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
