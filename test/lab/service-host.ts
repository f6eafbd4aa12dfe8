/**
 * A host whose programs use their default paths: it has a /run, /var/lib, /opt, /usr/local, and folders below /etc of its
 * own, and its own processes. Network namespaces are at /run/netns, as outside.
 *
 * Its `systemctl` is a stand-in that starts, stops and enables the services below /etc/systemd/system.
 */

import { chmodSync, existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { execute, executeAsync, type Finished, findProgram, run, type Service } from './commands.ts';
import { type Conflist, Network } from './conflist.ts';
import { Host } from './host.ts';
import { root as project, referenceFolder } from './project.ts';
import { waitFor } from './wait.ts';

const ownFolders = ['/run', '/var/lib', '/opt', '/usr/local', '/etc/cni', '/etc/default', '/etc/systemd/system'];
/** Those of the machine's container runtimes: nothing is in them here. */
const hiddenFolders = ['/usr/lib/systemd/system', '/usr/lib/cni', '/etc/containerd', '/etc/containers'];

/** What the real one does, for services of the types that flanneld and weftd have. */
const systemctl = `#!/bin/bash
unit= now= noblock= words=()
for word; do case $word in *.service) unit=$word ;; --now) now=1 ;; --no-block) noblock=1 ;; --*) ;; *) words+=("$word") ;; esac; done
name=\${unit%.service} file=/etc/systemd/system/$unit link=/etc/systemd/system/multi-user.target.wants/$unit
mkdir -p /run/services; pidfile=/run/services/$name.pid
alive() { [ -s "$pidfile" ] && kill -0 "$(<"$pidfile")" 2>/dev/null && ! grep -q '^State:.Z' "/proc/$(<"$pidfile")/status"; }
need() { [ -f "$file" ] || { echo "Failed to find $unit: Unit $unit not found." >&2; exit 5; }; }
start() {
  need; alive && return
  (
    set -a; [ ! -f "/etc/default/$name" ] || . "/etc/default/$name"; set +a
    INVOCATION_ID=1 exec setsid $(sed -n 's/^ExecStart=//p' "$file") >> "/run/services/$name.log" 2>&1 < /dev/null
  ) &
  echo $! > "$pidfile"
}
stop() { alive || return 0; kill "$(<"$pidfile")"; while alive; do sleep 0.05; done; rm -f "$pidfile"; }
answer() { case \${words[0]} in
  daemon-reload) ;;
  cat) need ;;
  show) alive && cat "$pidfile" || echo 0 ;;
  is-enabled) [ -e "$link" ] ;;
  is-active) alive ;;
  enable) need; mkdir -p "\${link%/*}"; ln -sf "$file" "$link"; [ -z "$now" ] || start ;;
  disable) rm -f "$link"; [ -z "$now" ] || stop ;;
  start) start ;;
  restart) stop; start ;;
  stop) stop ;;
  *) echo "Unknown command verb \${words[0]}." >&2; exit 1 ;;
esac; }
answer; status=$?
# Whoever asks this dies by it: a test of interruptions.
if [ -f /run/services/kill ] && [ "$(</run/services/kill)" = "\${words[0]} $unit" ]; then
  rm /run/services/kill
  kill -9 $PPID
fi
exit $status
`;

export class ServiceHost extends Host {
  #init: Service | undefined;
  #pid = 0;

  /** Makes its namespaces and folders. */
  async boot(): Promise<void> {
    const names = join(this.folder, 'netns');
    mkdirSync(names);
    const mounts = [
      // The names of network namespaces come and go as outside.
      `mount --rbind /run/netns ${names}`,
      ...ownFolders.flatMap((folder) => [`mkdir -p ${folder}`, `mount -t tmpfs tmpfs ${folder}`]),
      ...hiddenFolders.map((folder) => `{ [ ! -d ${folder} ] || mount -t tmpfs tmpfs ${folder}; }`),
      'mkdir -p /run/netns /run/lock /run/systemd/system /usr/local/bin',
      `mount --rbind ${names} /run/netns`,
    ];
    const script = `hostname ${this.name} && ${mounts.join(' && ')} && touch ${join(this.folder, 'booted')} && while :; do sleep 1; done`;
    // The first process of a PID namespace has to collect the children of others: a shell does.
    const namespaces = [
      '--mount',
      '--uts',
      '--pid',
      '--fork',
      '--kill-child',
      '--mount-proc',
      '--propagation',
      'slave',
    ];
    const logFile = join(this.folder, 'init.log');
    this.#init = this.scratch.start(['unshare', ...namespaces, 'sh', '-c', script], {
      namespace: this.namespace,
      logFile,
    });
    const { pid } = this.#init;
    await waitFor('the folders of a host', () => {
      if (!this.#init!.alive) throw new Error(readFileSync(logFile, 'utf8'));
      return existsSync(join(this.folder, 'booted'));
    });
    this.#pid = Number(readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim());
    this.write('/usr/local/bin/systemctl', systemctl, 0o755);
    // As an unpacked release.
    this.write('/opt/release/systemd/weftd.service', readFileSync(join(project, 'examples/weftd.service'), 'utf8'));
    mkdirSync(this.outside('/opt/release/bin'));
    this.inside('mount', '--bind', join(project, 'dist/bin'), '/opt/release/bin');
    mkdirSync(this.outside('/opt/cni/bin'), { recursive: true });
    // The copies are made outside: the machine's own folder is hidden in here.
    for (const name of ['bridge', 'host-local', 'portmap', 'loopback']) {
      run(['cp', join(referenceFolder, name), this.outside(`/opt/cni/bin/${name}`)]);
    }
  }

  /** The outside's path of a file of this host. */
  outside(path: string): string {
    return `/proc/${this.#pid}/root${path}`;
  }

  override get runDir(): string {
    return this.outside('/run/weft');
  }

  override get subnetFile(): string {
    return this.outside('/run/flannel/subnet.env');
  }

  override get dataDir(): string {
    return this.outside('/var/lib/cni/networks');
  }

  /** The words before a program that run it as one of this host. */
  get words(): string[] {
    const namespaces = ['mnt', 'uts', 'pid'].map(
      (kind) => `--${kind === 'mnt' ? 'mount' : kind}=/proc/${this.#pid}/ns/${kind}`,
    );
    return [findProgram('nsenter'), ...namespaces, `--net=/run/netns/${this.namespace}`, '--'];
  }

  executeInside(...argv: string[]): Finished {
    return execute([...this.words, ...argv], { timeoutMs: 120_000 });
  }

  async executeInsideAsync(...argv: string[]): Promise<Finished> {
    return await executeAsync([...this.words, ...argv], { timeoutMs: 120_000 });
  }

  /** @throws where it fails */
  inside(...argv: string[]): string {
    return run([...this.words, ...argv]);
  }

  /** weftctl of the release that stands there. */
  async release(...words: string[]): Promise<Finished> {
    return await this.executeInsideAsync('/opt/release/bin/weftctl', ...words);
  }

  write(path: string, text: string, mode = 0o644): void {
    const target = this.outside(path);
    mkdirSync(dirname(target), { recursive: true });
    writeFileSync(target, text);
    chmodSync(target, mode);
  }

  read(path: string): string {
    return readFileSync(this.outside(path), 'utf8');
  }

  /** Names in a folder; none if there is no folder. */
  list(path: string): string[] {
    return existsSync(this.outside(path)) ? readdirSync(this.outside(path)).sort() : [];
  }

  /** The first of the runtime's configurations, called as the runtime does. */
  override get network(): Network {
    const file = this.list('/etc/cni/net.d').find((name) => /\.conf(list)?$/.test(name))!;
    const conflist = JSON.parse(this.read(`/etc/cni/net.d/${file}`)) as Conflist;
    const { namespace, words } = this;
    return new Network(conflist, {
      namespace,
      cacheFolder: join(this.folder, 'cni-cache'),
      path: '/opt/cni/bin',
      through: words,
      executableOf: (type) => `/opt/cni/bin/${type}`,
    });
  }

  /** Every file of its own, with its content. */
  ownFiles(): string[] {
    const found = this.inside('find', ...ownFolders, '-xdev', '-printf', '%y %m %p %l\\n');
    const skipped = /^\S+ \S+ (\/run\/(netns|services|lock)|\/opt\/release|\/run\/xtables.lock)/;
    const lines = found.split('\n').filter((line) => line !== '' && !skipped.test(line));
    return lines
      .map((line) => {
        const [type, , path] = line.split(' ') as [string, string, string];
        return type === 'f' ? `${line}${this.inside('sha256sum', path).split(' ')[0]!.slice(0, 12)}` : line;
      })
      .sort();
  }

  async halt(): Promise<void> {
    await this.#init?.stop('SIGKILL');
  }
}
