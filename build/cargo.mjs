/** How the build and the gate call cargo. */

import { homedir } from 'node:os';
import { delimiter, dirname, join } from 'node:path';
import { findMusl } from '../setup.mjs';
import { at, run, targets } from './tools.mjs';

/** Rust's name of the kind of machine and the libc that the runtime is built for. */
export const rustTarget = (cargo, target = process.arch) => findMusl(cargo, target)?.rust ?? targets[target].rust;

/** The C compiler's options and names for musl: a compiler for glibc, with musl's headers in place of glibc's. */
function muslCompiler({ rust, headers }, target) {
  const compiler = target === process.arch ? 'gcc' : targets[target].linker;
  const own = run(compiler, ['-print-file-name=include']).trim();
  const name = rust.replaceAll('-', '_');
  return {
    flags: ['-nostdinc', '-isystem', headers, '-isystem', own, ...(target === 'arm64' ? ['-mno-outline-atomics'] : [])],
    env: { [`CC_${name}`]: compiler, [`AR_${name}`]: compiler.replace(/gcc$/, 'ar') },
  };
}

/**
 * The environment for `cargo`. It drops the user's own flags, which would change the output, and keeps this machine's
 * paths out of it.
 */
export function cargoEnvironment(cargo, target = process.arch) {
  const { linker } = targets[target];
  const musl = findMusl(cargo, target);
  const compiler = musl && muslCompiler(musl, target);
  const env = { ...process.env };
  for (const name of ['RUSTFLAGS', 'CARGO_BUILD_TARGET', 'CARGO_BUILD_RUSTFLAGS', 'CFLAGS', 'CARGO_TARGET_DIR']) {
    delete env[name];
  }
  // Use the rustc that belongs to this cargo.
  env.PATH = [dirname(cargo), env.PATH].join(delimiter);
  const cargoHome = env.CARGO_HOME ?? join(homedir(), '.cargo');
  env.CARGO_ENCODED_RUSTFLAGS = [
    '-Ctarget-feature=+crt-static',
    // A program at a fixed place has nothing to relocate when it starts.
    '-Crelocation-model=static',
    `--remap-path-prefix=${cargoHome}=cargo`,
    `--remap-path-prefix=${at('runtime')}=runtime`,
  ].join('\x1f');
  env.CFLAGS = [
    `-ffile-prefix-map=${cargoHome}=cargo`,
    `-ffile-prefix-map=${at('runtime')}=runtime`,
    '-fno-pic',
    // QuickJS would put its small blocks into pages by size, and the heap of `runtime/src/heap.rs` does that better.
    // QuickJS does without them only where the address sanitizer is on, which this pretends; it has no other effect there.
    '-D__SANITIZE_ADDRESS__',
    ...(compiler?.flags ?? []),
  ].join(' ');
  Object.assign(env, compiler?.env);
  if (target !== process.arch) {
    const name = rustTarget(cargo, target);
    env[`CARGO_TARGET_${name.toUpperCase().replaceAll('-', '_')}_LINKER`] = linker;
    env[`CC_${name.replaceAll('-', '_')}`] = linker;
  }
  return env;
}
