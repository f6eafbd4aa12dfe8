/**
 * The CNI programs: `weft`, and `weft-ipam`, `flannel` and `loopback` by those names. VERSION needs only this module; the
 * other commands load their programs.
 *
 * Each command is a program of its own, bundled with everything it needs. The executable is some hundred kilobytes
 * larger that way, but reading and linking shared modules made every start a tenth slower.
 */

import { formatVersions, supportedVersions } from './cni/spec/versions.ts';
import type { Sys } from './linux/sys.ts';
import { sys } from './linux/sys-native.ts';
import { version } from './package.json';

/** Each name that the executable answers to, with what the program does. Any other name is `weft`'s. */
const programs = {
  weft: 'attaches containers to a network that spans hosts',
  'weft-ipam': "hands out addresses from this node's subnets, or from ranges",
  flannel: "is flannel's plugin: it has another plugin attach containers to this node's subnet",
  loopback: "sets a container's own loopback interface up",
} as const;
type ProgramName = keyof typeof programs;

const calledBy = (sys.argv[0] ?? '').split('/').pop() ?? '';
const programName: ProgramName = Object.hasOwn(programs, calledBy) ? (calledBy as ProgramName) : 'weft';

/** How long VERSION waits for its stdin. A caller may write late or never. */
const versionStdinTimeoutMs = 20;

/** @returns whether all of it was written */
function print(fd: number, text: string): boolean {
  const bytes = sys.encodeUtf8(text);
  for (let at = 0; at < bytes.byteLength; ) {
    const written = sys.write(fd, bytes, at, bytes.byteLength - at);
    if (written < 0) return false;
    at += written;
  }
  return true;
}

/** The text on stdin so far. VERSION succeeds with any text. */
function peekStdin(): string {
  if (sys.poll(0, versionStdinTimeoutMs) !== 1) return '';
  const buffer = new ArrayBuffer(65536);
  const got = sys.read(0, buffer, 0, buffer.byteLength);
  return got > 0 ? sys.decodeUtf8(buffer, 0, got) : '';
}

/** Nomad takes a plugin's version from the first word of this text that is one, as `v0.1.0` is. */
const about = (): string =>
  `CNI ${programName} plugin v${version}
It ${programs[programName]}
CNI protocol versions supported: ${supportedVersions.join(', ')}
`;

/**
 * The program for a command. Each is bundled by itself with everything it needs, and shares no module with this file.
 */
function loadProgram(command: string): Promise<{ readonly run: (sys: Sys) => Promise<number> }> {
  if (programName === 'weft-ipam') return import('./cni/programs/ipam.ts');
  if (programName === 'flannel') return import('./cni/programs/flannel.ts');
  if (programName === 'loopback') return import('./cni/programs/loopback.ts');
  switch (command) {
    case 'ADD':
      return import('./cni/programs/add.ts');
    case 'DEL':
      return import('./cni/programs/del.ts');
    case 'CHECK':
      return import('./cni/programs/check.ts');
    case 'GC':
      return import('./cni/programs/gc.ts');
    default:
      // STATUS, and unknown commands, which every program refuses alike.
      return import('./cni/programs/status.ts');
  }
}

const environment = sys.environ();
const command = environment.find((entry) => entry.startsWith('CNI_COMMAND='))?.slice('CNI_COMMAND='.length) ?? '';
if (command === '') {
  print(2, about());
  sys.exit(0);
} else if (command === 'VERSION') {
  const isWritten = print(1, `${formatVersions(peekStdin())}\n`);
  sys.exit(isWritten ? 0 : 1);
} else {
  const { run } = await loadProgram(command);
  const status = await run(sys);
  // Only now is it looked up: a trace puts itself in its place.
  sys.exit(status);
}
