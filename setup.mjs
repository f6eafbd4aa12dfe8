/**
 * Installs what a machine lacks to build, test and show Weft, and says what and why, a line each. `node setup.mjs` installs
 * all of it; build, gate and demo call for what they need.
 */

import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { accessSync, constants, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { homedir } from 'node:os';
import { delimiter, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = dirname(fileURLToPath(import.meta.url));
/** Tools for this folder alone. */
const cacheFolder = join(root, '.cache');

/** Something is missing that could not be installed. The message says what to do. */
export class SetupError extends Error {}

/** Debian's packages by purpose: package → a command (or file) that shows it is there, and what it is for. */
const debianSets = {
  build: {
    gcc: ['gcc', 'compiles QuickJS'],
    'libc6-dev': ['/usr/include/stdlib.h', "libc's headers and its static library"],
  },
  demo: {
    'etcd-server': ['etcd', 'what the hosts find each other by'],
    'etcd-client': ['etcdctl', 'looks into etcd'],
    nftables: ['nft', 'shows the rules that weftd makes'],
    iproute2: ['ip', 'makes hosts out of network namespaces'],
    'iputils-ping': ['ping', 'tries every path'],
    iperf3: ['iperf3', 'measures a stream'],
  },
  test: {
    'containernetworking-plugins': ['/usr/lib/cni/bridge', 'the plugins to compare with'],
    'busybox-static': ['busybox', 'small programs for containers'],
    strace: ['strace', 'counts system calls'],
    jq: ['jq', 'reads results in the examples'],
    iptables: ['iptables', 'rules of others that Weft must live with'],
  },
  guest: {
    'qemu-system-x86': ['qemu-system-x86_64', 'emulates a machine with a kernel that has what this one lacks'],
    'busybox-static': ['busybox', "the emulated machine's first programs"],
    kmod: ['depmod', "orders that kernel's modules"],
    'xz-utils': ['xz', 'unpacks that kernel'],
  },
};

/** The services that Debian's packages start: nobody asked for them here. */
const services = { etcd: 2379, iperf3: 5201 };

export const say = (line) => console.log(`setup: ${line}`);

const isRoot = () => process.geteuid?.() === 0;

/**
 * Runs a program and gives its stdout; its output is shown only where it fails.
 * @param {import('node:child_process').SpawnSyncOptions & { mayFail?: boolean }} [options] mayFail: any exit status will do
 */
export function run(program, args, { mayFail = false, ...options } = {}) {
  const child = spawnSync(program, args, { cwd: root, encoding: 'utf8', maxBuffer: 1 << 28, ...options });
  if (child.error || (child.status !== 0 && !mayFail)) {
    const output = child.error?.message ?? `${child.stdout}${child.stderr}`.trim();
    throw new SetupError(`"${program} ${args.join(' ')}" failed: ${output}`);
  }
  return child.stdout;
}

/** stdout of a program, undefined where it is missing or fails. */
export function ask(program, args, options = {}) {
  const child = spawnSync(program, args, { encoding: 'utf8', ...options });
  return child.status === 0 ? child.stdout : undefined;
}

/** Where a command is: in PATH, in the folders of root's programs, which a user's PATH leaves out, or in `.cache/bin`. */
export function findCommand(name) {
  if (name.startsWith('/')) return existsSync(name) ? name : undefined;
  const folders = [...(process.env.PATH ?? '').split(delimiter), '/usr/sbin', '/sbin', join(cacheFolder, 'bin')];
  return folders.map((folder) => join(folder, name)).find(isExecutable);
}

function isExecutable(path) {
  try {
    accessSync(path, constants.X_OK);
    return statSync(path).isFile();
  } catch {
    return false;
  }
}

// npm packages

/** The npm packages of package-lock.json, in `node_modules`. */
export function ensureNodeModules() {
  const wrong = wrongNodeModule();
  if (!wrong) return;
  say(`npm packages (${wrong}): what is bundled, and the tools`);
  run('npm', ['ci', '--no-audit', '--no-fund', '--loglevel=error']);
}

/** Says of one package why `node_modules` is not what package-lock.json wants. */
function wrongNodeModule() {
  const read = (path) => JSON.parse(readFileSync(join(root, path), 'utf8')).packages;
  if (!existsSync(join(root, 'node_modules', '.package-lock.json'))) return 'none there';
  const wanted = read('package-lock.json');
  const present = read('node_modules/.package-lock.json');
  for (const [path, { version, optional }] of Object.entries(wanted)) {
    if (path === '' || (optional && !present[path])) continue;
    if (present[path]?.version !== version) return `${path} is not ${version}`;
  }
  return undefined;
}

const bunPackages = { x64: '@oven/bun-linux-x64-baseline', arm64: '@oven/bun-linux-aarch64' };

/** The Bun executable for a kind of machine. npm installs this machine's; another's is fetched into `.cache`. */
export function bunBinary(target = process.arch) {
  const name = bunPackages[target];
  const installed = join(root, 'node_modules', name, 'bin', 'bun');
  if (existsSync(installed)) return installed;
  if (target === process.arch) throw new SetupError(`npm package ${name} is missing: run "npm ci"`);
  const { version, integrity } = JSON.parse(readFileSync(join(root, 'package-lock.json'), 'utf8')).packages[
    `node_modules/${name}`
  ];
  const folder = join(cacheFolder, `bun-${target}-${version}`);
  const cached = join(folder, 'package', 'bin', 'bun');
  if (existsSync(cached)) return cached;
  say(`npm package ${name} ${version}: Bun for ${target}, to build for it here`);
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder, { recursive: true });
  const [{ filename }] = JSON.parse(run('npm', ['pack', `${name}@${version}`, '--json', '--pack-destination', folder]));
  const archive = join(folder, filename);
  const hash = `sha512-${createHash('sha512').update(readFileSync(archive)).digest('base64')}`;
  if (hash !== integrity) throw new SetupError(`${name} ${version} is not what package-lock.json names: ${hash}`);
  run('tar', ['-xzf', archive, '-C', folder]);
  rmSync(archive);
  return cached;
}

// Debian packages

/** The packages of these sets that are missing: [package, purpose]. */
function missingPackages(sets) {
  const packages = sets.flatMap((set) => Object.entries(debianSets[set]));
  return packages.filter(([, [command]]) => !findCommand(command)).map(([name, [, purpose]]) => [name, purpose]);
}

/** Installs what is missing of sets of Debian packages: `build`, `demo`, `test` (which includes `demo`), `guest`. */
export function ensureDebian(...sets) {
  const wanted = sets.flatMap((set) => (set === 'test' ? ['demo', 'test'] : [set]));
  const missing = missingPackages([...new Set(wanted)]);
  if (missing.length === 0) return;
  for (const [name, purpose] of missing) say(`Debian package ${name}: ${purpose}`);
  aptInstall(missing.map(([name]) => name));
}

/** Installs Debian packages, and stops the services that come up with them. */
function aptInstall(names) {
  if (!findCommand('apt-get'))
    throw new SetupError(`Install these by hand, there is no apt-get here: ${names.join(' ')}`);
  if (!isRoot()) throw new SetupError(`Run as root: apt-get install --no-install-recommends ${names.join(' ')}`);
  // Many packages' scripts start nothing in runlevel 1.
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive', RUNLEVEL: '1' };
  const before = Object.keys(services).filter(isListening);
  const install = () => run('apt-get', ['install', '-y', '-qq', '--no-install-recommends', ...names], { env });
  try {
    install();
  } catch {
    // Most often the lists are missing or older than what they name.
    run('apt-get', ['update', '-qq'], { env });
    install();
  }
  for (const service of Object.keys(services)) {
    if (!before.includes(service) && isListening(service)) stopService(service);
  }
}

/** Whether somebody on this machine listens on the service's port. */
function isListening(service) {
  const local = `:${services[service].toString(16).toUpperCase().padStart(4, '0')}`;
  // proc_net_tcp(5): sl local_address rem_address st; st 0A is TCP_LISTEN
  return ['/proc/net/tcp', '/proc/net/tcp6'].some((path) =>
    readFileSync(path, 'utf8')
      .split('\n')
      .map((line) => line.trim().split(/\s+/))
      .some(([, address, , state]) => state === '0A' && address.endsWith(local)),
  );
}

function stopService(service) {
  say(`service ${service}, which its package has started: stopped`);
  if (existsSync('/run/systemd/system')) run('systemctl', ['disable', '--now', service]);
  else run('service', [service, 'stop']);
  if (isListening(service)) throw new SetupError(`Port ${services[service]} is still held by ${service}: stop it`);
}

// Rust

/** The oldest Rust that builds `runtime/`: that of its dependencies. */
const oldestRust = [1, 87];

/** What it takes to build for another kind of machine: Rust's name of it, its C compiler, and Debian's packages. */
const crossTargets = {
  x64: { rust: 'x86_64-unknown-linux-gnu', gcc: 'x86_64-linux-gnu-gcc', debian: 'amd64' },
  arm64: { rust: 'aarch64-unknown-linux-gnu', gcc: 'aarch64-linux-gnu-gcc', debian: 'arm64' },
};

/** A cargo whose Rust is new enough, and can build for `target`. */
export function findCargo(target = process.arch) {
  const cargoHome = process.env.CARGO_HOME ?? join(homedir(), '.cargo');
  const toolchains = join(process.env.RUSTUP_HOME ?? join(homedir(), '.rustup'), 'toolchains');
  const installed = existsSync(toolchains) ? readdirSync(toolchains).sort().reverse() : [];
  const candidates = [
    findCommand('cargo'),
    join(cargoHome, 'bin', 'cargo'),
    ...installed.map((name) => join(toolchains, name, 'bin', 'cargo')),
    '/usr/bin/cargo',
  ];
  return candidates.find((path) => path && isExecutable(path) && isNewEnough(path) && buildsFor(path, target));
}

/** Whether the Rust of this cargo is new enough. The two come together. */
function isNewEnough(cargo) {
  const version = /^cargo (\d+)\.(\d+)/.exec(ask(cargo, ['--version']) ?? '');
  if (!version) return false;
  const [major, minor] = [Number(version[1]), Number(version[2])];
  return major > oldestRust[0] || (major === oldestRust[0] && minor >= oldestRust[1]);
}

/** Whether the Rust of this cargo has the standard library for `target`. */
function buildsFor(cargo, target) {
  if (target === process.arch) return true;
  const rustc = join(dirname(cargo), 'rustc');
  const folder = ask(rustc, ['--print', 'target-libdir', '--target', crossTargets[target].rust])?.trim();
  return folder !== undefined && existsSync(folder) && findCommand(crossTargets[target].gcc) !== undefined;
}

/** Debian's Rust for its web browsers, which is kept new; for another kind of machine, its library and C compiler as well. */
function rustPackages(target) {
  if (target === process.arch) return ['rustc-web', 'cargo-web'];
  const { debian, gcc } = crossTargets[target];
  const cross = [`libstd-rust-web-dev:${debian}`, `gcc-${gcc.replace(/-gcc$/, '')}`, `libc6-dev-${debian}-cross`];
  return ['rustc-web', 'cargo-web', ...cross];
}

/** Installs a cargo. Undefined where that cannot be; it says why. */
function installCargo(target) {
  const needed = `cargo ${oldestRust.join('.')} or newer${target === process.arch ? '' : ` that builds for ${target}`}`;
  const instead = 'the CNI programs are built on Bun instead, larger and slower to start';
  const packages = rustPackages(target);
  const byRustup =
    target === process.arch ? 'rustup' : `"rustup target add ${crossTargets[target].rust}" and a C compiler`;
  if (!findCommand('apt-get') || !isRoot()) {
    const how = findCommand('apt-get') ? `run as root to get Debian's, or install ${byRustup}` : `install ${byRustup}`;
    say(`${needed} is missing (${how}): ${instead}`);
    return undefined;
  }
  say(`Debian packages ${packages.join(', ')}: ${needed}, for the runtime of the CNI programs`);
  try {
    if (target !== process.arch) {
      run('dpkg', ['--add-architecture', crossTargets[target].debian]);
      run('apt-get', ['update', '-qq']);
    }
    aptInstall(packages);
  } catch (error) {
    say(`${needed} cannot be had (${error.message.split('\n')[0]}): ${instead}`);
    return undefined;
  }
  const cargo = findCargo(target);
  if (!cargo) say(`Debian's cargo is not ${needed}: ${instead}`);
  return cargo;
}

/** All that builds `runtime/`: a cargo, a C compiler. Undefined where the build has to do without (it says why). */
export function ensureRust(target = process.arch) {
  const cargo = findCargo(target) ?? installCargo(target);
  if (cargo) ensureDebian('build');
  return cargo;
}

/** `cargo fmt` for Debian's cargo, which comes without it. Where it cannot be had, its check is skipped. */
export function ensureRustfmt(cargo) {
  if (cargo !== '/usr/bin/cargo' || findCommand('cargo-fmt') || !isRoot()) return;
  say('Debian package rustfmt-web: checks the form of the Rust sources');
  try {
    aptInstall(['rustfmt-web']);
  } catch (error) {
    say(`rustfmt-web cannot be had: ${error.message.split('\n')[0]}`);
  }
}

// cnitool

/** cnitool: CNI's own program to call plugins by. Built by Go into `.cache/bin`. */
export function ensureCnitool() {
  const found = findCommand('cnitool');
  if (found) return found;
  if (!goVersion()) {
    say('Debian package golang-go: builds cnitool');
    aptInstall(['golang-go']);
  }
  // The newest that this Go can build: 1.3.0 asks for Go 1.21.
  const version = goVersion() >= 1.21 ? 'v1.3.0' : 'v1.1.2';
  say(`cnitool ${version}: calls the plugins as a container runtime does`);
  const folder = join(cacheFolder, 'go');
  const env = {
    ...process.env,
    GOBIN: join(cacheFolder, 'bin'),
    GOTOOLCHAIN: 'local',
    GOFLAGS: '-modcacherw',
    HOME: process.env.HOME ?? folder,
    ...(process.env.HOME ? {} : { GOPATH: folder, GOCACHE: join(folder, 'cache') }),
  };
  run(findGo(), ['install', `github.com/containernetworking/cni/cnitool@${version}`], { env });
  return join(cacheFolder, 'bin', 'cnitool');
}

const findGo = () => findCommand('go') ?? ['/usr/local/go/bin/go', '/usr/lib/go/bin/go'].find(isExecutable);

/** 1.21 for go1.21.3 (as a number: Go has no 1.100). */
function goVersion() {
  const go = findGo();
  const version = /go1\.(\d+)/.exec(
    (go && ask(go, ['version'], { env: { ...process.env, GOTOOLCHAIN: 'local' } })) ?? '',
  );
  return version ? Number(`1.${version[1].padStart(2, '0')}`) : undefined;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  try {
    ensureNodeModules();
    ensureRust();
    ensureDebian('test');
    ensureCnitool();
    say('everything is there');
  } catch (error) {
    console.error(error instanceof SetupError ? `setup: ${error.message}` : error);
    process.exitCode = 1;
  }
}
