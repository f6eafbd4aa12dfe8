/**
 * A host with a root of its own: a folder with the few programs that weftctl runs there, in a mount and a process namespace,
 * and in the network namespace of a host. Whatever is started in it ends with it.
 *
 * Its `systemctl` is a small stand-in that starts weftd, stops it and enables it by a link, as the real one does; the real
 * systemd runs in the part "runtimes".
 */

import { createHash } from 'node:crypto';
import {
  chmodSync,
  copyFileSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { execute, type Finished, findProgram, run } from './commands.ts';
import { root as project } from './project.ts';
import type { Scratch } from './scratch.ts';
import { waitFor } from './wait.ts';

const programs = ['sh', 'ln', 'rm', 'mkdir', 'sleep', 'setsid', 'ls'];

/** The libraries of a program, and its loader, as ldd(1) names them. */
const librariesOf = (program: string): string[] =>
  [...execute(['ldd', program]).stdout.matchAll(/(?:=> |^\t)(\/\S+) \(0x/gm)].map(([, path]) => path!);

/** What the real one does, with its words for what it cannot. */
const systemctl = `#!/bin/sh
link=/etc/systemd/system/multi-user.target.wants/weftd.service
pidfile=/run/stand-in.pid
quiet= now= verb=$1
for word; do case $word in --now) now=1 ;; esac; done
alive() { [ -f $pidfile ] && read pid < $pidfile && [ -d /proc/$pid ] && ! grep_zombie "$pid"; }
grep_zombie() { while read key value; do case $key in State:) case $value in Z*) return 0 ;; esac ;; esac; done < /proc/$1/status; return 1; }
start() {
  alive && return
  [ -f /etc/systemd/system/weftd.service ] || { echo "Failed to start weftd.service: Unit weftd.service not found." >&2; exit 5; }
  set -a; [ -f /etc/default/weftd ] && . /etc/default/weftd; set +a
  while read -r line; do case $line in ExecStart=*) program=\${line#ExecStart=} ;; esac; done < /etc/systemd/system/weftd.service
  INVOCATION_ID=1 setsid $program >> /run/stand-in.log 2>&1 < /dev/null &
  echo $! > $pidfile
}
stop() { alive || return 0; kill "$pid"; while alive; do sleep 0.05; done; rm -f $pidfile; }
echo "$*" >> /run/stand-in.calls
case $verb in
  daemon-reload) ;;
  cat) [ -f /etc/systemd/system/weftd.service ] ;;
  is-enabled) [ -e $link ] ;;
  is-active) alive ;;
  enable) ln -sf /etc/systemd/system/weftd.service $link ;;
  start) start ;;
  restart) stop; start ;;
  stop) stop ;;
  disable) rm -f $link; [ -z "$now" ] || stop ;;
  *) echo "Unknown command verb $verb." >&2; exit 1 ;;
esac
`;

export class HostRoot {
  readonly path: string;
  readonly #namespace: string;
  readonly #scratch: Scratch;
  #pid = 0;

  /** @param namespace of the network */
  constructor(scratch: Scratch, name: string, namespace: string) {
    this.#scratch = scratch;
    this.#namespace = namespace;
    this.path = scratch.makeFolder(name, 'root');
    for (const folder of [
      'proc',
      'sys',
      'dev',
      'run/systemd/system',
      'tmp',
      'root/release/bin',
      'etc/systemd/system/multi-user.target.wants',
      'usr/bin',
    ]) {
      mkdirSync(join(this.path, folder), { recursive: true });
    }
    symlinkSync('usr/bin', join(this.path, 'bin'));
    const libraries = new Set<string>();
    for (const program of [
      ...programs.map((each) => findProgram(each)),
      join(project, 'dist/bin/weftd'),
      join(project, 'dist/bin/weft'),
    ]) {
      if (!program.startsWith(project)) this.#copy(program, join('usr/bin', basename(program)));
      for (const library of librariesOf(program)) libraries.add(library);
    }
    for (const library of libraries) this.#copy(library, library);
    this.write('usr/bin/systemctl', systemctl, 0o755);
    this.write('root/release/systemd/weftd.service', readFileSync(join(project, 'examples/weftd.service'), 'utf8'));
  }

  #copy(from: string, to: string): void {
    const target = join(this.path, to);
    mkdirSync(dirname(target), { recursive: true });
    copyFileSync(from, target);
    chmodSync(target, 0o755);
  }

  write(path: string, text: string, mode = 0o644): void {
    const target = join(this.path, path);
    mkdirSync(dirname(target), { recursive: true });
    writeFileSync(target, text, { mode });
    chmodSync(target, mode);
  }

  read(path: string): string {
    return readFileSync(join(this.path, path), 'utf8');
  }

  /** Makes the namespaces. */
  async start(): Promise<void> {
    const mounts = [
      `mount --bind ${this.path} ${this.path}`,
      `mount -t proc proc ${this.path}/proc`,
      `mount -t sysfs sysfs ${this.path}/sys`,
      `mount --rbind /dev ${this.path}/dev`,
      `mount --bind ${join(project, 'dist/bin')} ${this.path}/root/release/bin`,
      `mkdir -p ${this.path}/run/netns`,
      `mount --rbind /run/netns ${this.path}/run/netns`,
    ];
    const logFile = join(this.#scratch.folder, `${basename(dirname(this.path))}-root.log`);
    // The shell is process 1: it collects those that have lost their parent.
    const hostname = `echo ${basename(dirname(this.path))} > /proc/sys/kernel/hostname`;
    const script = `${hostname} && ${mounts.join(' && ')} && touch ${logFile}.ready && while :; do sleep 1; done`;
    const { pid } = this.#scratch.start(
      ['unshare', '--mount', '--uts', '--propagation', 'slave', '--pid', '--fork', '--kill-child', 'sh', '-c', script],
      { namespace: this.#namespace, logFile },
    );
    await waitFor('the namespaces of a root', () => readFileSync(`${logFile}.ready`).length === 0);
    const [child] = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim().split(' ');
    this.#pid = Number(child);
  }

  /** Runs a program in there. */
  execute(...argv: string[]): Finished {
    return execute(['nsenter', ...this.#words, ...argv], {
      environment: { PATH: process.env['PATH']! },
      timeoutMs: 120_000,
    });
  }

  /** Mounts in there what nobody else sees. @param words of mount(8), the last one a path of this host */
  mount(...words: string[]): void {
    const target = `${this.path}${words.at(-1)}`;
    run(['nsenter', '-t', String(this.#pid), '--mount', 'mount', ...words.slice(0, -1), target]);
  }

  unmount(path: string): void {
    run(['nsenter', '-t', String(this.#pid), '--mount', 'umount', `${this.path}${path}`]);
  }

  /** Calls a plugin in there, as a runtime does. */
  plugin(path: string, command: string, containerId: string, netns: string, configuration: unknown): Finished {
    const variables = [
      `CNI_COMMAND=${command}`,
      `CNI_CONTAINERID=${containerId}`,
      `CNI_NETNS=/run/netns/${netns}`,
      'CNI_IFNAME=eth0',
      `CNI_PATH=${dirname(path)}`,
    ];
    const script = `${variables.map((each) => `export ${each}`).join('; ')}; exec ${path}`;
    return execute(['nsenter', ...this.#words, 'sh', '-c', script], {
      environment: { PATH: process.env['PATH']! },
      stdin: JSON.stringify(configuration),
    });
  }

  get #words(): string[] {
    return [
      '-t',
      String(this.#pid),
      '--mount',
      '--uts',
      '--pid',
      '--net',
      findProgram('chroot'),
      this.path,
      '/usr/bin/sh',
      '-c',
      'PATH=/usr/bin:/usr/local/bin exec "$@"',
      'sh',
    ];
  }

  /** `weftctl` of the release that stands there. */
  weftctl(...words: string[]): Finished {
    return this.execute('/root/release/bin/weftctl', ...words);
  }

  /** The command line of `weftctl`, for another program to run. */
  weftctlWords(...words: string[]): string[] {
    return ['nsenter', ...this.#words, '/root/release/bin/weftctl', ...words];
  }

  /** Everything that an installation may change: files, interfaces, rules, kernel settings. */
  listing(): string[] {
    const shared = ['proc', 'sys', 'dev', 'run/netns', 'root/release/bin'];
    const lines: string[] = [];
    const visit = (folder: string): void => {
      for (const name of readdirSync(join(this.path, folder)).sort()) {
        const path = folder === '' ? name : `${folder}/${name}`;
        if (shared.includes(path) || /^run\/stand-in/.test(path)) continue;
        const status = lstatSync(join(this.path, path));
        const mode = (status.mode & 0o7777).toString(8);
        if (status.isDirectory()) {
          lines.push(`${path}/ ${mode}`);
          visit(path);
        } else if (status.isSymbolicLink()) lines.push(`${path} → ${readlinkSync(join(this.path, path))}`);
        else if (status.isFile()) {
          const hash = createHash('sha256')
            .update(readFileSync(join(this.path, path)))
            .digest('hex');
          lines.push(`${path} ${mode} ${hash.slice(0, 16)}`);
        } else lines.push(`${path} ${mode} special`);
      }
    };
    visit('');
    const namespace = this.#namespace;
    const links = run(['ip', '-o', 'addr'], { namespace }).replace(/valid_lft \S+ preferred_lft \S+/g, '');
    const settings = run(['sysctl', '-a', '--pattern', '^net\\.ipv[46]\\.(ip_forward|conf\\..*)'], { namespace });
    return [
      ...lines,
      // The kernel gives them when it likes.
      ...links.split('\n').filter((line) => !line.includes('fe80:')),
      ...run(['ip', 'route', 'show', 'table', 'all'], { namespace })
        .split('\n')
        .filter((line) => !line.includes('fe80:')),
      ...run(['nft', 'list', 'ruleset'], { namespace }).split('\n'),
      ...settings.split('\n').filter((line) => !/stable_secret/.test(line)),
    ];
  }
}
