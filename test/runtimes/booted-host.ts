/**
 * A host that runs a whole Debian under systemd: systemd-nspawn boots it in the network namespace of a host of the lab. Its
 * files are those of the cached root below a layer in memory, so that each boot begins with the same.
 */

import { createHash } from 'node:crypto';
import {
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmdirSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { execute, type Finished, findProgram, run, type Service } from '../lab/commands.ts';
import type { Scratch } from '../lab/scratch.ts';
import { waitFor } from '../lab/wait.ts';

const cgroupRoot = '/sys/fs/cgroup';

export interface BootedHostOptions {
  /** The files of a Debian with systemd. */
  readonly root: string;
  /** The name of its network namespace. */
  readonly namespace: string;
  /** Folders of this machine by the paths where the host sees them, read-only. */
  readonly shown: Readonly<Record<string, string>>;
}

export class BootedHost {
  readonly #scratch: Scratch;
  readonly #options: BootedHostOptions;
  readonly #groups: readonly string[];
  readonly #logFile: string;
  #service: Service | undefined;
  #pid = 0;

  constructor(scratch: Scratch, options: BootedHostOptions) {
    this.#scratch = scratch;
    this.#options = options;
    this.#logFile = join(scratch.folder, `${options.namespace}-nspawn.log`);
    // nspawn moves itself and the host into groups below the one that it is started in.
    const hierarchies = ['unified', 'systemd'].map((name) => join(cgroupRoot, name)).filter((path) => existsSync(path));
    const usual = hierarchies.length > 0 ? hierarchies : [cgroupRoot];
    this.#groups = usual.map((path) => join(path, options.namespace));
  }

  /** Boots it, and waits until all its services run. */
  async boot(): Promise<void> {
    const { root, namespace, shown } = this.#options;
    for (const group of this.#groups) mkdirSync(group, { recursive: true });
    const enter = this.#groups.map((group) => `echo $$ > ${group}/cgroup.procs`);
    const nspawn = [
      // There is no systemd outside that would know of it.
      ...['systemd-nspawn', '--boot', '--keep-unit', '--register=no', '--console=pipe', `--directory=${root}`],
      // The network is the one that it is started in, and the host's own.
      '--capability=CAP_NET_ADMIN',
      ...['--volatile=overlay', '--hostname=booted', `--machine=${namespace}`],
      ...Object.entries(shown).map(([path, folder]) => `--bind-ro=${folder}:${path}`),
    ];
    // nspawn's own files in /run are not for this machine.
    const script = [...enter, 'mkdir -p /run/systemd', 'mount -t tmpfs tmpfs /run/systemd', 'exec "$@"'].join(' && ');
    this.#service = this.#scratch.start(['unshare', '--mount', 'sh', '-c', script, 'sh', ...nspawn], {
      namespace,
      logFile: this.#logFile,
      environment: {
        PATH: process.env['PATH'] ?? '',
        SYSTEMD_NSPAWN_UNIFIED_HIERARCHY: '1',
        // The kernel's settings of the network may be changed.
        SYSTEMD_NSPAWN_API_VFS_WRITABLE: 'network',
      },
    });
    const { pid } = this.#service;
    this.#pid = await waitFor('systemd to start', () => {
      if (!this.#service!.alive) throw new Error(`systemd-nspawn has ended:\n${readFileSync(this.#logFile, 'utf8')}`);
      const children = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim().split(' ').filter(Boolean);
      const isInit = (child: string): boolean => readFileSync(`/proc/${child}/comm`, 'utf8').trim() === 'systemd';
      return children.map(Number).find((child) => isInit(String(child)));
    });
    const isUp = (): boolean => {
      const state = this.execute('systemctl', 'is-system-running').stdout.trim();
      if (state !== 'running') throw new Error(`"${state}": ${this.execute('systemctl', '--failed').stdout}`);
      return true;
    };
    await waitFor('the services of a host to run', isUp, { deadlineMs: 90_000, intervalMs: 200 });
  }

  /** The outside's path of a file of this host. */
  outside(path: string): string {
    return `/proc/${this.#pid}/root${path}`;
  }

  read(path: string): string {
    return readFileSync(this.outside(path), 'utf8');
  }

  write(path: string, text: string): void {
    writeFileSync(this.outside(path), text);
  }

  /** The command line that runs a program as one of this host. */
  words(...argv: string[]): string[] {
    const namespaces = ['--mount', '--uts', '--ipc', '--net', '--pid', '--cgroup'];
    const environment = ['/usr/bin/env', '-i', 'PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'];
    return [findProgram('nsenter'), '-t', String(this.#pid), ...namespaces, ...environment, ...argv];
  }

  execute(...argv: string[]): Finished {
    return execute(this.words(...argv), { timeoutMs: 180_000 });
  }

  /** Calls the first plugin of the network as a runtime does. Gives its answer. @throws where it fails */
  plugin(command: string, pod: string): { ips?: { address: string }[] } {
    const { plugins, ...list } = JSON.parse(this.read(this.conflist)) as { plugins: { type: string }[] };
    const variables = [
      ...[`CNI_COMMAND=${command}`, `CNI_CONTAINERID=${pod}`, `CNI_NETNS=/run/netns/${pod}`],
      ...['CNI_IFNAME=eth0', 'CNI_PATH=/opt/cni/bin'],
    ];
    const argv = this.words('/usr/bin/env', ...variables, `/opt/cni/bin/${plugins[0]!.type}`);
    const { status, stdout } = execute(argv, { stdin: JSON.stringify({ ...list, ...plugins[0] }) });
    if (status !== 0) throw new Error(`${command}: ${stdout}`);
    return stdout === '' ? {} : JSON.parse(stdout);
  }

  /** @throws where it fails */
  run(...argv: string[]): string {
    const { status, stdout, stderr } = this.execute(...argv);
    if (status !== 0) throw new Error(`${argv.join(' ')}: status ${status}: ${stderr}${stdout}`);
    return stdout;
  }

  /** The first network configuration, as runtimes see it. */
  get conflist(): string {
    const folder = '/etc/cni/net.d';
    const [name] = readdirSync(this.outside(folder))
      .filter((each) => each.endsWith('.conflist'))
      .sort();
    if (!name) throw new Error(`There is no conflist in ${folder}`);
    return `${folder}/${name}`;
  }

  /** The main process of a service, as the host counts. */
  mainPid(service: string): number {
    return Number(this.run('systemctl', 'show', '--property=MainPID', '--value', service).trim());
  }

  /** The last lines of a service's log. */
  journal(service: string): string {
    return this.execute('journalctl', '--no-pager', '--output=cat', '--lines=40', '--unit', service).stdout;
  }

  /** All that an installation may change: files, interfaces, routes, rules, the kernel's settings, units. */
  listing(): string[] {
    const { namespace } = this.#options;
    // Its own logs and states, and what only shows the kernel.
    const ignored =
      /^\/(proc|sys|dev|tmp|var\/log|var\/lib\/systemd|var\/tmp|run\/(netns|credentials|systemd|log|udev|host|dbus|user|lock|utmp)|root\/shown)(\/|$)/;
    const files: string[] = [];
    const visit = (folder: string): void => {
      for (const name of readdirSync(this.outside(folder)).sort()) {
        const path = join(folder, name);
        if (ignored.test(path)) continue;
        const status = lstatSync(this.outside(path));
        const mode = (status.mode & 0o7777).toString(8);
        if (status.isDirectory()) {
          files.push(`${path}/ ${mode}`);
          visit(path);
        } else if (status.isSymbolicLink()) files.push(`${path} → ${readlinkSync(this.outside(path))}`);
        else if (status.isFile() && /^\/(etc|opt|run|root|usr\/local|var)\//.test(path)) {
          const hash = createHash('sha256').update(readFileSync(this.outside(path)));
          files.push(`${path} ${mode} ${hash.digest('hex').slice(0, 16)}`);
        } else files.push(`${path} ${mode}`);
      }
    };
    visit('/');
    const lines = (argv: string[], left: RegExp): string[] =>
      run(argv, { namespace })
        .split('\n')
        .filter((line) => !left.test(line))
        .map((line) => line.replace(/valid_lft \S+ preferred_lft \S+/, ''));
    return [
      ...files,
      // The kernel gives link-local addresses when it likes.
      ...lines(['ip', '-o', 'addr'], /fe80:/),
      ...lines(['ip', 'route', 'show', 'table', 'all'], /fe80:/),
      ...lines(['nft', 'list', 'ruleset'], /^$/),
      ...lines(['sysctl', '-a', '--pattern', '^net\\.ipv[46]\\.(ip_forward|conf\\..*)'], /stable_secret/),
      ...this.run('systemctl', 'list-unit-files', '--no-legend', '--no-pager').split('\n'),
    ];
  }

  /** Ends it, and removes its control groups. */
  async remove(): Promise<void> {
    // The host's first process goes with nspawn, and all others with the first.
    await this.#service?.stop('SIGKILL');
    if (this.#pid > 0) {
      try {
        process.kill(this.#pid, 'SIGKILL');
      } catch {
        // It has ended already.
      }
    }
    await waitFor('the control groups of a host to go', () => this.#groups.every(removeGroups), { deadlineMs: 60_000 });
  }
}

/** Control groups go from below; one whose last process has not quite ended refuses. */
function removeGroups(folder: string): boolean {
  if (!existsSync(folder)) return true;
  for (const entry of readdirSync(folder, { withFileTypes: true })) {
    if (entry.isDirectory()) removeGroups(join(folder, entry.name));
  }
  rmdirSync(folder);
  return true;
}
