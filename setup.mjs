/**
 * Installs the packages that a machine lacks to build, test and demonstrate Weft. It prints a line with the purpose of
 * each. `node setup.mjs` installs all of them; build, gate and demo install the ones that they need.
 */

import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  accessSync,
  constants,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { homedir } from 'node:os';
import { delimiter, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = dirname(fileURLToPath(import.meta.url));
/** Tools for this folder alone. */
const cacheFolder = join(root, '.cache');

/** A package is missing and could not be installed. The message says what to do. */
export class SetupError extends Error {}

/** Debian's packages by purpose: package → a command (or file) that shows that it is installed, and its use. */
const debianSets = {
  build: {
    gcc: ['gcc', 'compiles QuickJS'],
    'libc6-dev': ['/usr/include/stdlib.h', "libc's headers and its static library"],
  },
  demo: {
    'etcd-server': ['etcd', 'the hosts find each other through it'],
    'etcd-client': ['etcdctl', 'reads etcd from the command line'],
    nftables: ['nft', 'shows the rules of weftd'],
    iproute2: ['ip', 'makes hosts out of network namespaces'],
    'iputils-ping': ['ping', 'tests every path'],
    iperf3: ['iperf3', 'measures a stream'],
  },
  test: {
    'containernetworking-plugins': ['/usr/lib/cni/bridge', 'the plugins to compare with'],
    'busybox-static': ['busybox', 'small programs for containers'],
    strace: ['strace', 'counts system calls'],
    tcpdump: ['tcpdump', 'shows packets between the hosts'],
    jq: ['jq', 'reads results in the examples'],
    iptables: ['iptables', 'makes rules of other programs, which Weft must tolerate'],
    ethtool: ['ethtool', 'switches offloads off, which weftctl doctor must find'],
  },
  guest: {
    'qemu-system-x86': ['qemu-system-x86_64', 'emulates a machine with another kernel'],
    'busybox-static': ['busybox', "the emulated machine's first programs"],
    kmod: ['depmod', "indexes that kernel's modules"],
    'xz-utils': ['xz', 'unpacks that kernel'],
  },
  runtimes: {
    containerd: ['containerd', 'a runtime that calls the plugins'],
    runc: ['runc', 'starts the containers of all runtimes'],
    podman: ['podman', 'a runtime that calls the plugins'],
    'docker.io': ['dockerd', 'a runtime with its own bridge'],
  },
  systemd: {
    'systemd-container': ['systemd-nspawn', 'boots a host with systemd'],
    debootstrap: ['debootstrap', "makes that host's files"],
  },
};

/** Services that Debian's packages start unasked. */
const services = { etcd: 2379, iperf3: 5201 };

/** Units that must not run even once: Docker changes the machine's firewall when it starts. systemd starts them unasked. */
const maskedUnits = ['docker.service', 'docker.socket', 'containerd.service', 'podman.service', 'podman.socket'];

export const say = (line) => console.log(`setup: ${line}`);

const isRoot = () => process.geteuid?.() === 0;

/**
 * Runs a program and returns its stdout. Its output is shown only if it fails.
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

/** stdout of a program; undefined if it is missing or fails. */
export function ask(program, args, options = {}) {
  const child = spawnSync(program, args, { encoding: 'utf8', ...options });
  return child.status === 0 ? child.stdout : undefined;
}

/** Finds a command in PATH, in the folders of root's programs (a user's PATH lacks them), or in `.cache/bin`. */
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
  say(`npm packages (${wrong}): libraries and tools`);
  // No package needs its install script: esbuild's only replaces a wrapper by the executable, protobufjs' only warns.
  run('npm', ['ci', '--ignore-scripts', '--no-audit', '--no-fund', '--loglevel=error']);
}

/** One reason why `node_modules` differs from package-lock.json. */
function wrongNodeModule() {
  const read = (path) => JSON.parse(readFileSync(join(root, path), 'utf8')).packages;
  if (!existsSync(join(root, 'node_modules', '.package-lock.json'))) return 'none installed';
  const wanted = read('package-lock.json');
  const present = read('node_modules/.package-lock.json');
  for (const [path, { version, optional }] of Object.entries(wanted)) {
    if (path === '' || (optional && !present[path])) continue;
    if (present[path]?.version !== version) return `${path} is not ${version}`;
  }
  return undefined;
}

const bunPackages = { x64: '@oven/bun-linux-x64-baseline', arm64: '@oven/bun-linux-aarch64' };

/** The Bun executable for a kind of machine. npm installs this machine's; others are downloaded into `.cache`. */
export function bunBinary(target = process.arch) {
  const name = bunPackages[target];
  const installed = join(root, 'node_modules', name, 'bin', 'bun');
  if (existsSync(installed)) return installed;
  if (target === process.arch) throw new SetupError(`npm package ${name} is missing: run "npm ci --ignore-scripts"`);
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

/** Whether all packages of a set are installed. */
export const hasDebian = (set) => missingPackages([set]).length === 0;

/** Installs the missing packages of these sets: `build`, `demo`, `test` (which includes `demo`), `guest`, `runtimes`, `systemd`. */
export function ensureDebian(...sets) {
  const wanted = sets.flatMap((set) => (set === 'test' ? ['demo', 'test'] : [set]));
  const missing = missingPackages([...new Set(wanted)]);
  if (missing.length === 0) return;
  for (const [name, purpose] of missing) say(`Debian package ${name}: ${purpose}`);
  aptInstall(missing.map(([name]) => name));
}

/** Installs Debian packages, and stops the services that they start. */
function aptInstall(names) {
  if (!findCommand('apt-get'))
    throw new SetupError(`Install these by hand, there is no apt-get here: ${names.join(' ')}`);
  if (!isRoot()) throw new SetupError(`Run as root: apt-get install --no-install-recommends ${names.join(' ')}`);
  // Many packages' scripts start nothing in runlevel 1.
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive', RUNLEVEL: '1' };
  const before = Object.keys(services).filter(isListening);
  const units = existsSync('/run/systemd/system') && names.includes('docker.io') ? maskedUnits : [];
  if (units.length > 0) run('systemctl', ['mask', '--quiet', ...units]);
  const install = () => run('apt-get', ['install', '-y', '-qq', '--no-install-recommends', ...names], { env });
  try {
    install();
  } catch {
    // Usually the package lists are missing or out of date.
    run('apt-get', ['update', '-qq'], { env });
    install();
  } finally {
    if (units.length > 0) run('systemctl', ['unmask', '--quiet', ...units]);
  }
  if (units.length > 0) run('systemctl', ['disable', '--quiet', ...units], { mayFail: true });
  for (const service of Object.keys(services)) {
    if (!before.includes(service) && isListening(service)) stopService(service);
  }
}

/** Whether a process on this machine listens on the service's port. */
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
  say(`service ${service}: stopped, its package had started it`);
  if (existsSync('/run/systemd/system')) run('systemctl', ['disable', '--now', service]);
  else run('service', [service, 'stop']);
  if (isListening(service)) throw new SetupError(`Port ${services[service]} is still held by ${service}: stop it`);
}

// Rust

/** The oldest Rust that builds `runtime/`; its dependencies need it. */
const oldestRust = [1, 87];

/** What a build for a kind of machine needs: Rust's names of it, its C compiler, and Debian's packages. */
const crossTargets = {
  x64: {
    rust: 'x86_64-unknown-linux-gnu',
    musl: 'x86_64-unknown-linux-musl',
    gcc: 'x86_64-linux-gnu-gcc',
    debian: 'amd64',
  },
  arm64: {
    rust: 'aarch64-unknown-linux-gnu',
    musl: 'aarch64-unknown-linux-musl',
    gcc: 'aarch64-linux-gnu-gcc',
    debian: 'arm64',
  },
};

/** The cargos whose Rust is new enough. */
function findCargos() {
  const cargoHome = process.env.CARGO_HOME ?? join(homedir(), '.cargo');
  const toolchains = join(process.env.RUSTUP_HOME ?? join(homedir(), '.rustup'), 'toolchains');
  const installed = existsSync(toolchains) ? readdirSync(toolchains).sort().reverse() : [];
  const candidates = [
    findCommand('cargo'),
    join(cargoHome, 'bin', 'cargo'),
    ...installed.map((name) => join(toolchains, name, 'bin', 'cargo')),
    '/usr/bin/cargo',
  ];
  return candidates.filter((path) => path && isExecutable(path) && isNewEnough(path));
}

/** A cargo whose Rust is new enough and can build for `target`, by musl if possible. */
export function findCargo(target = process.arch) {
  const cargos = findCargos().filter((cargo) => buildsFor(cargo, target));
  return cargos.find((cargo) => findMusl(cargo, target)) ?? cargos[0];
}

/** Whether the Rust of this cargo is new enough. The two have the same version. */
function isNewEnough(cargo) {
  const version = /^cargo (\d+)\.(\d+)/.exec(ask(cargo, ['--version']) ?? '');
  if (!version) return false;
  const [major, minor] = [Number(version[1]), Number(version[2])];
  return major > oldestRust[0] || (major === oldestRust[0] && minor >= oldestRust[1]);
}

/** Whether the Rust of this cargo has the standard library for `target`, by Rust's name. */
function hasLibrary(cargo, target) {
  const folder = ask(join(dirname(cargo), 'rustc'), ['--print', 'target-libdir', '--target', target])?.trim();
  return folder !== undefined && existsSync(folder);
}

/** Whether the Rust of this cargo, and a C compiler, build for `target`. */
function buildsFor(cargo, target) {
  if (target === process.arch) return true;
  const { rust, gcc } = crossTargets[target];
  return findCommand(gcc) !== undefined && (hasLibrary(cargo, rust) || findMusl(cargo, target) !== undefined);
}

/** Debian's Rust for web browsers, which is kept recent. For another kind of machine, its library and C compiler, too. */
function rustPackages(target) {
  if (target === process.arch) return ['rustc-web', 'cargo-web'];
  const { debian, gcc } = crossTargets[target];
  const cross = [`libstd-rust-web-dev:${debian}`, `gcc-${gcc.replace(/-gcc$/, '')}`, `libc6-dev-${debian}-cross`];
  return ['rustc-web', 'cargo-web', ...cross];
}

/** Installs a cargo. Undefined if that is impossible; it prints the reason. */
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
    say(`Cannot install ${needed} (${error.message.split('\n')[0]}): ${instead}`);
    return undefined;
  }
  const cargo = findCargo(target);
  if (!cargo) say(`Debian's cargo is not ${needed}: ${instead}`);
  return cargo;
}

/** Where distributions keep musl's headers. */
const muslHeaders = (name) => {
  const [kind] = name.split('-');
  const folders = [`/usr/include/${kind}-linux-musl`, `/usr/${kind}-linux-musl/include`];
  return [...folders, ...(kind === ownKind ? ['/usr/lib/musl/include', '/usr/local/musl/include'] : [])];
};
const [ownKind] = (crossTargets[process.arch]?.musl ?? '').split('-');

const findHeaders = (musl) => muslHeaders(musl).find((folder) => existsSync(join(folder, 'stdlib.h')));

/**
 * Rust's musl for `target`, and the folder of musl's headers; undefined if one of them is missing. A static executable by
 * musl starts in two thirds of the time that it takes by glibc. `WEFT_RUNTIME_LIBC=glibc` does without it.
 */
export function findMusl(cargo, target = process.arch) {
  const { musl } = crossTargets[target];
  if (process.env.WEFT_RUNTIME_LIBC === 'glibc') return undefined;
  const headers = findHeaders(musl);
  return headers !== undefined && hasLibrary(cargo, musl) ? { rust: musl, headers } : undefined;
}

/** The rustup that manages this cargo, and its arguments that name the toolchain. */
function rustupOf(cargo) {
  const [, home, toolchain] = /^(.*)\/toolchains\/([^/]+)\/bin\/cargo$/.exec(cargo) ?? [];
  const rustup = home === undefined ? join(dirname(cargo), 'rustup') : findCommand('rustup');
  return rustup && isExecutable(rustup)
    ? { rustup, named: home === undefined ? [] : ['--toolchain', toolchain] }
    : undefined;
}

/** Installs what musl needs, if that is possible; otherwise prints what is used instead. It is tried once a day. */
function installMusl(target) {
  const { musl, debian } = crossTargets[target];
  const refused = join(cacheFolder, `no-${musl}`);
  const day = 24 * 60 * 60 * 1000;
  if (existsSync(refused) && Date.now() - statSync(refused).mtimeMs < day) return;
  say(`musl for ${target}: the plugins start faster by it than by glibc`);
  try {
    const cargos = findCargos();
    if (!cargos.some((cargo) => hasLibrary(cargo, musl))) {
      const [manager] = cargos.flatMap((cargo) => rustupOf(cargo) ?? []);
      if (!manager) throw new SetupError("Rust's musl comes with rustup alone, and there is none");
      run(manager.rustup, ['target', 'add', musl, ...manager.named], { timeout: 120_000 });
    }
    if (!findHeaders(musl)) {
      if (target !== process.arch) {
        run('dpkg', ['--add-architecture', debian]);
        run('apt-get', ['update', '-qq']);
      }
      aptInstall([target === process.arch ? 'musl-dev' : `musl-dev:${debian}`]);
    }
    if (findCargos().some((cargo) => findMusl(cargo, target))) return;
    throw new SetupError("musl's headers are not where they are looked for");
  } catch (error) {
    mkdirSync(cacheFolder, { recursive: true });
    writeFileSync(refused, '');
    const reason = error.message.split('\n')[0];
    say(`Cannot install musl for ${target} (${reason}): the plugins are linked with glibc, and start slower`);
  }
}

/** Everything that builds `runtime/`: a cargo, a C compiler. Undefined if it cannot be installed (the reason is printed). */
export function ensureRust(target = process.arch) {
  const cargo = findCargo(target) ?? installCargo(target);
  if (!cargo) return undefined;
  ensureDebian('build');
  if (process.env.WEFT_RUNTIME_LIBC === 'glibc' || findMusl(cargo, target)) return cargo;
  installMusl(target);
  return findCargo(target);
}

/** Installs `cargo fmt` for Debian's cargo, which lacks it. If that fails, the gate skips its check. */
export function ensureRustfmt(cargo) {
  if (cargo !== '/usr/bin/cargo' || findCommand('cargo-fmt') || !isRoot()) return;
  say('Debian package rustfmt-web: checks the formatting of the Rust sources');
  try {
    aptInstall(['rustfmt-web']);
  } catch (error) {
    say(`Cannot install rustfmt-web: ${error.message.split('\n')[0]}`);
  }
}

// cnitool

/** cnitool: CNI's own program that calls plugins. Go builds it into `.cache/bin`. */
export function ensureCnitool() {
  const found = findCommand('cnitool');
  if (found) return found;
  if (!goVersion()) {
    say('Debian package golang-go: builds cnitool');
    aptInstall(['golang-go']);
  }
  // The newest version that this Go can build: 1.3.0 needs Go 1.21.
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
    say('everything is installed');
  } catch (error) {
    console.error(error instanceof SetupError ? `setup: ${error.message}` : error);
    process.exitCode = 1;
  }
}
