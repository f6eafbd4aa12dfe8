/**
 * Who may import whom, and what the rooms may not touch. `node test/layers.mjs` prints each breach, then `N rules kept, N
 * broken`; exit status 1 if any is broken.
 */

import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative, sep } from 'node:path';
import { circlesOf, filesImportedBy, importsOf, root, withoutComments } from './import-graph.mjs';

/** The rooms of weftd, from the ground up: each with those below that it may import from. */
const ground = ['daemon/pace', 'daemon/host', 'daemon/backends'];
const daemonFloors = [
  ['daemon/pace', []],
  ['daemon/backends', []],
  ['daemon/host', ['daemon/backends', 'daemon/pace']],
  ['daemon/report', ground],
  ['daemon/filter', [...ground, 'daemon/report']],
  ['daemon/membership', [...ground, 'daemon/report']],
  ['daemon/overlay', [...ground, 'daemon/report', 'daemon/filter', 'daemon/membership']],
  ['daemon/probes', [...ground, 'daemon/report', 'daemon/membership']],
  ['daemon/answers', [...ground, 'daemon/report', 'daemon/filter', 'daemon/membership']],
  [
    'daemon/tasks',
    [...ground, 'daemon/report', 'daemon/filter', 'daemon/membership', 'daemon/overlay', 'daemon/probes'],
  ],
  [
    'daemon',
    [
      'cluster/etcd',
      'cluster/kubernetes',
      'cluster/stores',
      ...ground,
      'daemon/report',
      'daemon/filter',
      'daemon/membership',
      'daemon/overlay',
      'daemon/probes',
      'daemon/tasks',
      'daemon/answers',
    ],
  ],
];

/** Room → the rooms it may import from, beside itself. The first room whose folder a file is in is its own. */
const rooms = {
  net: [],
  command: [],
  linux: ['net'],
  'cni/spec': ['net'],
  cluster: ['net'],
  // A folder for each kind of store. Nobody but the entry points knows which one there is.
  'cluster/etcd': ['net', 'command', 'cluster'],
  'cluster/kubernetes': ['net', 'command', 'cluster'],
  'cluster/stores': ['net', 'cluster', 'cluster/etcd', 'cluster/kubernetes'],
  reservations: ['net', 'linux', 'cni/spec'],
  ipam: ['net', 'linux', 'cni/spec', 'reservations'],
  cni: ['net', 'linux', 'cni/spec', 'reservations', 'ipam'],
  ...Object.fromEntries(
    daemonFloors.map(([room, below]) => [room, ['net', 'linux', 'command', 'cluster', 'reservations', ...below]]),
  ),
  // Other programs on this host: networks' plugins, and the container runtimes.
  networks: ['net', 'linux', 'cni/spec'],
  runtimes: ['linux', 'command'],
  cli: [
    'net',
    'linux',
    'command',
    'cluster',
    'cluster/etcd',
    'cluster/kubernetes',
    'cluster/stores',
    'cni/spec',
    'reservations',
    'networks',
    'runtimes',
    'daemon/backends',
    'cli/doctor',
  ],
  // It knows what weftd knows of hosts, rules and problems, and imports the code, not the running parts.
  'cli/doctor': [
    ...['net', 'linux', 'command', 'cluster', 'cluster/etcd', 'reservations', 'cli'],
    ...['daemon/backends', 'daemon/host', 'daemon/filter', 'daemon/report'],
  ],
};

/** Package → the rooms that may import it. The CNI programs get none but by `net`, lazily. */
const packages = { etcd3: ['cluster/etcd'], 'ip-address': ['net', 'cluster'] };

/** These run in QuickJS: they have no API but `Sys`. */
const nativeRooms = ['net', 'linux', 'cni/spec', 'reservations', 'ipam', 'cni'];

/** Adapters to the outside are what the rule about it is not for. */
const adapters = ['linux/sys-bun.ts', 'linux/sys-native.ts'];

/** Environment, clock and randomness are handed in by the entry points. */
const outside =
  /\b(process\.env|process\.argv|Bun\.env|import\.meta\.env|Date\.now|new Date\(\)|performance\.now|Math\.random|crypto\.random\w+|crypto\.getRandomValues)/;

/** Every TypeScript source of the rooms and the entry points, by its path from the project's folder. */
function sources() {
  const inRooms = Object.keys(rooms)
    .filter((room) => !room.includes('/') && existsSync(join(root, room)))
    .flatMap((room) => readdirSync(join(root, room), { recursive: true }).map((name) => join(room, name)));
  const entries = readdirSync(root).filter((name) => name.startsWith('main-'));
  return [...inRooms, ...entries].filter((path) => path.endsWith('.ts')).map((path) => path.replaceAll(sep, '/'));
}

const roomOf = (path) => {
  const found = Object.keys(rooms).filter((room) => path.startsWith(`${room}/`));
  return found.sort((a, b) => b.length - a.length)[0];
};

/** @type {Record<string, (file: { path: string; room?: string; code: string; imports: string[] }) => (string | false)[]>} */
const rules = {
  'a room imports from the rooms above it only': ({ path, room, imports }) =>
    imports
      .filter((name) => name.startsWith('.'))
      .map((name) => {
        const target = relative(root, join(root, dirname(path), name)).replaceAll(sep, '/');
        const other = roomOf(target);
        if (!room || other === room || rooms[room].includes(other)) return false;
        return `${room} imports "${target}"`;
      }),
  'a package is imported by its own room only': ({ room, imports }) =>
    imports
      .filter((name) => !name.startsWith('.') && !/^(node|bun)(:|$)/.test(name))
      .map((name) => !packages[name]?.includes(room) && `imports "${name}"`),
  'the rooms of the CNI programs import no Node or Bun module': ({ path, room, imports }) =>
    imports
      .filter((name) => /^(node|bun)(:|$)/.test(name) && !adapters.includes(path))
      .map((name) => (nativeRooms.includes(room) || path === 'main-cni.ts') && `imports "${name}"`),
  'environment, clock and randomness are handed in': ({ path, room, code }) => {
    const found = room && !adapters.includes(path) && outside.exec(code);
    return [found && `uses "${found[1]}"`];
  },
  'relative imports name the file as it is': ({ path, imports }) =>
    imports
      .filter((name) => name.startsWith('.'))
      .map((name) => !existsSync(join(root, dirname(path), name.replace(/\?\w+$/, ''))) && `cannot find "${name}"`),
  'exports have names': ({ path, code }) => [
    !path.endsWith('.d.ts') && /^export default\b/m.test(code) && 'has a default export',
  ],
};

/** Files, and rooms of weftd, that reach themselves by imports, whatever the imports are for. */
function circles() {
  const ofFiles = circlesOf(new Map(files.map(({ path }) => [path, filesImportedBy(path)])));
  const daemonRooms = daemonFloors.map(([room]) => room);
  const targetsOf = (room) =>
    files
      .filter((file) => file.room === room)
      .flatMap(({ path }) => filesImportedBy(path).map(roomOf))
      .filter((other) => other !== room && daemonRooms.includes(other));
  const ofRooms = circlesOf(new Map(daemonRooms.map((room) => [room, new Set(targetsOf(room))])));
  return [...ofFiles, ...ofRooms].map(
    (circle) => `${circle.join(' ↔ ')}: a circle (rule: no circle of files or rooms)`,
  );
}

/** The files that package.json's scripts run. */
function missingScripts() {
  const { scripts } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
  const files = Object.entries(scripts).map(([name, command]) => [name, /\bnode (\S+\.m?js)/.exec(command)?.[1]]);
  return files
    .filter(([, file]) => file && !existsSync(join(root, file)))
    .map(([name, file]) => `package.json: script "${name}" runs "${file}", which is not there`);
}

const files = sources().map((path) => {
  const code = withoutComments(readFileSync(join(root, path), 'utf8'));
  return { path, room: roomOf(path), code, imports: importsOf(code) };
});
const breaches = Object.entries(rules).map(([rule, check]) =>
  files.flatMap((file) =>
    check(file)
      .filter(Boolean)
      .map((what) => `${file.path}: ${what} (rule: ${rule})`),
  ),
);
breaches.push(circles(), missingScripts());
for (const line of breaches.flat()) console.log(line);
const broken = breaches.filter((found) => found.length > 0).length;
console.log(`${breaches.length - broken} rules kept, ${broken} broken, in ${files.length} files`);
process.exitCode = broken > 0 ? 1 : 0;
