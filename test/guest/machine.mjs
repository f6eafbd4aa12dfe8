/**
 * The guest: Debian's stock kernel in QEMU, for tests of what the kernel of this machine lacks. Its root is this machine's
 * own, read-only below a layer in memory, so that every program is there and nothing that is done in it lasts. It has no
 * network card: its hosts are network namespaces. `node test/guest/machine.mjs COMMAND [ARGUMENT…]` runs a command in it.
 */

import { spawn } from 'node:child_process';
import {
  accessSync,
  chmodSync,
  constants,
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { ask, ensureDebian, findCommand, run, SetupError, say } from '../../setup.mjs';

const here = dirname(fileURLToPath(import.meta.url));
const root = dirname(dirname(here));
const cacheFolder = join(root, '.cache', 'guest');

/** Debian's package that depends on its newest kernel. That one's own name holds a version, and goes when the next comes. */
const kernelMetaPackage = 'linux-image-amd64';

/** What it takes to get at the shared folders; the kernel loads all else by itself. */
const earlyModules = ['virtio_pci', 'virtio_console', '9p', '9pnet_virtio', 'overlay'];

/**
 * What boots: a folder with `kernel` and `lib/modules/<version>`.
 * @typedef {{ folder: string; version: string }} Machine
 */

/**
 * Sets the guest up where it is not yet: some packages, 90 MB to load once for each new kernel, half a minute.
 * @returns {Machine}
 * @throws SetupError where it cannot be set up here; the message says why
 */
export function ensureMachine() {
  if (process.arch !== 'x64')
    throw new SetupError(`The guest is for x64 machines only, and this one is ${process.arch}`);
  ensureDebian('guest');
  const name = kernelPackage();
  const folder = join(cacheFolder, name);
  if (!existsSync(folder)) {
    say(`Debian package ${name}, unpacked and not installed: the kernel that guests boot`);
    buildMachine(name, folder);
  }
  return { folder, version: kernelVersion(folder) };
}

const kernelVersion = (folder) => readdirSync(join(folder, 'lib', 'modules'))[0];

/** The name of the newest kernel's package; without apt, of one that was set up before. */
function kernelPackage() {
  const depends = ask('apt-cache', ['depends', kernelMetaPackage]) ?? '';
  const name = /Depends: (linux-image-\S+)/.exec(depends)?.[1];
  const present = existsSync(cacheFolder) ? readdirSync(cacheFolder).filter((entry) => entry.startsWith('linux-')) : [];
  const found = name ?? present[0];
  if (!found) throw new SetupError(`apt-cache does not know ${kernelMetaPackage}: run "apt-get update" as root`);
  return found;
}

/** Makes a machine's folder, which appears when it is whole. */
function buildMachine(name, folder) {
  mkdirSync(cacheFolder, { recursive: true });
  const unfinished = mkdtempSync(join(cacheFolder, 'unfinished-'));
  try {
    unpackKernel(name, unfinished);
    renameSync(unfinished, folder);
  } finally {
    rmSync(unfinished, { recursive: true, force: true });
  }
}

function unpackKernel(name, folder) {
  // apt's own user, which it would rather load as, cannot write here.
  run('apt-get', ['download', '-qq', '-o', 'APT::Sandbox::User=root', name], { cwd: folder });
  const archive = readdirSync(folder).find((entry) => entry.endsWith('.deb'));
  run('dpkg-deb', ['--extract', join(folder, archive), folder]);
  rmSync(join(folder, archive));
  const version = kernelVersion(folder);
  // The package leaves it to its installation to make modules.dep.
  run(findCommand('depmod'), ['-b', folder, version]);
  const image = join(folder, 'boot', `vmlinuz-${version}`);
  writeFileSync(join(folder, 'kernel'), uncompressedKernel(image));
}

/** The ELF in a bzImage, which boots 2 s sooner by emulation than the whole; the whole where it is packed otherwise. */
function uncompressedKernel(image) {
  const whole = readFileSync(image);
  const start = whole.indexOf(Buffer.from('\xfd7zXZ\0', 'latin1'));
  if (start < 0) return whole;
  // xz complains about what follows its data, and gives the data.
  const kernel = unpackXz(whole.subarray(start));
  return kernel.subarray(0, 4).toString('latin1') === '\x7fELF' ? kernel : whole;
}

function unpackXz(input) {
  return run('xz', ['-dc'], { input, encoding: 'buffer', mayFail: true });
}

/** Makes an initramfs of busybox, the early modules in loading order, and init.sh. */
function makeInitramfs({ folder, version }, tree, path) {
  for (const name of ['bin', 'modules']) mkdirSync(join(tree, name), { recursive: true });
  copyFileSync(findCommand('busybox'), join(tree, 'bin', 'busybox'));
  copyFileSync(join(here, 'init.sh'), join(tree, 'init'));
  chmodSync(join(tree, 'init'), 0o755);

  const showDepends = ['-d', folder, '-S', version, '--show-depends'];
  const lines = earlyModules.flatMap((name) => run(findCommand('modprobe'), [...showDepends, name]).split('\n'));
  // "insmod PATH"; "builtin NAME" for what the kernel holds itself.
  const paths = new Set(lines.map((line) => /^insmod (\S+)/.exec(line)?.[1]).filter(Boolean));
  const names = [...paths].map((path) => {
    const name = basename(path, '.xz');
    const content = readFileSync(path);
    writeFileSync(join(tree, 'modules', name), path.endsWith('.xz') ? unpackXz(content) : content);
    return name;
  });
  writeFileSync(join(tree, 'modules', 'list'), names.map((name) => `${name}\n`).join(''));

  const files = readdirSync(tree, { recursive: true });
  const input = Buffer.from(files.map((name) => `${name}\n`).join(''));
  writeFileSync(path, run('busybox', ['cpio', '-o', '-H', 'newc'], { cwd: tree, input, encoding: 'buffer' }));
}

/** Whether guests can do without emulation. Where the processor does not say so, /dev/kvm may open and still not serve. */
function hasKvm() {
  try {
    accessSync('/dev/kvm', constants.R_OK | constants.W_OK);
    return /\b(vmx|svm)\b/.test(readFileSync('/proc/cpuinfo', 'utf8'));
  } catch {
    return false;
  }
}

/** QEMU's way to have a comma in the value of an option. */
const value = (path) => path.replaceAll(',', ',,');

/** A folder of this machine as a 9p file system that the guest mounts by the tag. */
function sharedFolder(tag, path, ...options) {
  const device = ['local', `id=${tag}`, `path=${value(path)}`, 'security_model=none', ...options].join(',');
  return ['-fsdev', device, '-device', `virtio-9p-pci,fsdev=${tag},mount_tag=${tag}`];
}

/** QEMU's arguments. @param {string} kernel @param {string} initramfs @param {string} control @param {number} memoryMb */
function qemuArguments(kernel, initramfs, control, memoryMb) {
  const commandLine = [
    ...['console=ttyS0', 'quiet', 'loglevel=6', 'panic=-1', 'mitigations=off', 'tsc=reliable'],
    // Else gre0, sit0 and their like appear in every namespace as soon as their modules are there.
    'fb_tunnels=none',
  ];
  return [
    ...['-machine', `q35,accel=${hasKvm() ? 'kvm' : 'tcg'}`, '-cpu', 'max', '-smp', '1', '-m', String(memoryMb)],
    ...['-nodefaults', '-no-user-config', '-no-reboot', '-display', 'none', '-monitor', 'none'],
    ...['-kernel', kernel, '-initrd', initramfs, '-append', commandLine.join(' ')],
    ...['-serial', `file:${join(control, 'console')}`],
    ...sharedFolder('root', '/', 'readonly=on', 'multidevs=remap'),
    ...sharedFolder('control', control),
    ...['-device', 'virtio-serial-pci', '-chardev', 'stdio,id=output,signal=off'],
    ...['-device', 'virtserialport,chardev=output,name=output'],
  ];
}

/**
 * Boots a guest, runs one command in it and gives what came of it. Inside, /run/guest exists.
 * @param {Machine} machine
 * @param {readonly string[]} command program and arguments
 * @param {{
 *   cwd?: string;
 *   environment?: Record<string, string>; the whole of it
 *   memoryMb?: number;
 *   timeoutMs?: number;
 *   onOutput?: (text: string) => void; stdout and stderr as they come
 * }} [options]
 * @returns {Promise<{ status: number; output: string }>} output: stdout and stderr as they were written
 * @throws where the guest ends before the command
 */
export async function runInGuest(machine, command, options = {}) {
  const { cwd = root, environment = {}, memoryMb = 2048, timeoutMs = 10 * 60_000, onOutput } = options;
  const folder = mkdtempSync(join(tmpdir(), 'weft-guest-'));
  const control = join(folder, 'control');
  const initramfs = join(folder, 'initramfs');
  try {
    makeInitramfs(machine, join(folder, 'tree'), initramfs);
    mkdirSync(control);
    const variables = Object.entries({ PATH: process.env.PATH ?? '', HOME: '/root', ...environment });
    const forEnv = ['-C', cwd, ...variables.map(([name, text]) => `${name}=${text}`), ...command];
    writeFileSync(join(control, 'arguments'), forEnv.map((word) => `${word}\0`).join(''));
    writeFileSync(join(control, 'project'), `${root}\n`);
    writeFileSync(join(control, 'modules'), `${join(machine.folder, 'lib', 'modules', machine.version)}\n`);

    const words = qemuArguments(join(machine.folder, 'kernel'), initramfs, control, memoryMb);
    const { output, ended } = await runQemu(words, timeoutMs, onOutput);
    const status = readIfThere(join(control, 'status'));
    if (status !== '') return { status: Number(status), output };
    const console = readIfThere(join(control, 'console')).slice(-4000);
    throw new Error(`The guest ended before its command (${ended}):\n${output}${console}`);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

const readIfThere = (path) => (existsSync(path) ? readFileSync(path, 'utf8') : '');

/** @returns {Promise<{ output: string; ended: string }>} */
function runQemu(words, timeoutMs, onOutput = () => undefined) {
  // It goes with this process, even where that is killed. Its standard input stays open: without one, the port is closed.
  const child = spawn('setpriv', ['--pdeathsig', 'KILL', 'qemu-system-x86_64', ...words]);
  return new Promise((resolve, reject) => {
    let output = '';
    let ended = '';
    const timer = setTimeout(() => {
      ended = `was stopped after ${timeoutMs / 1000} s`;
      child.kill('SIGKILL');
    }, timeoutMs);
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding('utf8').on('data', (text) => {
        output += text;
        onOutput(text);
      });
    }
    child.on('error', reject);
    child.on('close', (status, signal) => {
      clearTimeout(timer);
      resolve({ output, ended: ended || `QEMU: ${signal ?? `status ${status}`}` });
    });
  });
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  try {
    const command = process.argv.slice(2);
    if (command.length === 0) throw new SetupError('Usage: node test/guest/machine.mjs COMMAND [ARGUMENT…]');
    const { status } = await runInGuest(ensureMachine(), command, {
      cwd: process.cwd(),
      onOutput: (text) => process.stdout.write(text),
    });
    process.exitCode = status;
  } catch (error) {
    console.error(error instanceof SetupError ? error.message : error);
    process.exitCode = 1;
  }
}
