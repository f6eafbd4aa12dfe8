/**
 * A host that `weftctl doctor` finds nothing wrong with: its runtime's folders are its own. `systemctl` is a program here
 * that does with this host's weftd what the real one does.
 */

import { copyFileSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type Finished, findProgram } from './commands.ts';
import type { Host } from './host.ts';
import { exampleConflist, program } from './project.ts';

/** A finding of `weftctl doctor --json`. */
export interface DoctorFinding {
  readonly code: string;
  readonly severity: 'warning' | 'error';
  readonly subject: string;
  readonly what: string;
  readonly why: string;
  readonly command?: string;
  readonly safe: boolean;
  readonly fixed?: boolean;
}

export interface DoctorReport {
  readonly status: number | null;
  readonly findings: readonly DoctorFinding[];
  readonly failed: readonly { readonly code: string; readonly reason: string }[];
  readonly checks: readonly string[];
}

export class Patient {
  readonly host: Host;
  readonly #tools: string;

  constructor(host: Host) {
    this.host = host;
    for (const folder of [this.confDir, this.binDir, join(host.folder, 'tools')])
      mkdirSync(folder, { recursive: true });
    this.#tools = join(host.folder, 'tools');
    copyFileSync(exampleConflist, this.conflist);
    for (const name of ['weft', 'weft-ipam']) copyFileSync(program(name), join(this.binDir, name));
    this.#writeTools();
  }

  get confDir(): string {
    return join(this.host.folder, 'net.d');
  }
  get binDir(): string {
    return join(this.host.folder, 'bin');
  }
  get conflist(): string {
    return join(this.confDir, '10-weft.conflist');
  }
  /** libcni's results. */
  get results(): string {
    return join(this.host.folder, 'results');
  }

  /** What the commands of findings mean on this host. */
  #writeTools(): void {
    const { host } = this;
    const start = [program('weftd'), ...host.weftdArguments].map((word) => `'${word}'`).join(' ');
    const script = `#!/bin/sh
# start, stop and restart of this host's weftd
file='${host.folder}/weftd.pid'
# The drop-in of a finding gives back what "through" takes away.
case "$1" in daemon-reload) rm -f '${this.#through}';; esac
case "$1" in stop|restart) kill "$(cat "$file")"; while kill -0 "$(cat "$file")" 2>/dev/null; do sleep 0.05; done;; esac
case "$1" in start|restart)
$(cat '${this.#through}' 2>/dev/null) ${start} $(cat '${this.#further}' 2>/dev/null) >>'${host.logFile}' 2>&1 &
echo $! >"$file";; esac
`;
    writeFileSync(join(this.#tools, 'systemctl'), script, { mode: 0o755 });
    const weftctl = `#!/bin/sh\nexec '${program('weftctl')}' --run-dir '${host.runDir}' "$@"\n`;
    writeFileSync(join(this.#tools, 'weftctl'), weftctl, { mode: 0o755 });
  }

  get #environment(): Record<string, string> {
    const path = `${this.#tools}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin`;
    return { PATH: path, WEFTD_ETCD_ENDPOINTS: this.host.etcd.endpoint };
  }

  get #through(): string {
    return join(this.host.folder, 'through');
  }
  get #further(): string {
    return join(this.host.folder, 'arguments');
  }

  /** The service starts through this program, and with these arguments, from its next start on. */
  useService({ through = '', further = '' }: { readonly through?: string; readonly further?: string }): void {
    writeFileSync(this.#through, through);
    writeFileSync(this.#further, further);
  }

  /** Runs a finding's command, as a person would. This machine's own units stay as they are. */
  shell(command: string): Finished {
    const hidden = 'mkdir -p /etc/systemd/system && mount -t tmpfs none /etc/systemd/system && exec /bin/sh -c "$1"';
    const argv = command.includes('/etc/systemd/')
      ? ['unshare', '--mount', '/bin/sh', '-c', hidden, 'sh', command]
      : ['/bin/sh', '-c', command];
    return this.host.execute(argv, { environment: this.#environment });
  }

  /** weftctl's command line. */
  doctorArguments(...words: string[]): string[] {
    const folders = ['--conf-dir', this.confDir, '--bin-dir', this.binDir];
    const files = ['--data-dir', this.host.dataDir, '--subnet-file', this.host.subnetFile];
    return [program('weftctl'), '--run-dir', this.host.runDir, 'doctor', ...folders, ...files, ...words];
  }

  doctor(...words: string[]): Finished {
    return this.host.execute(this.doctorArguments(...words), { environment: this.#environment });
  }

  examine(...words: string[]): DoctorReport {
    const { status, stdout, stderr } = this.doctor('--json', ...words);
    if (stdout === '') throw new Error(`weftctl doctor: status ${status}: ${stderr}`);
    return { status, ...(JSON.parse(stdout) as Omit<DoctorReport, 'status'>) };
  }

  startService(): void {
    this.shell('systemctl start weftd');
  }

  stopService(): void {
    this.shell('systemctl stop weftd');
  }

  /** weftd outlives its starter here. */
  remove(): void {
    try {
      process.kill(Number(readFileSync(join(this.host.folder, 'weftd.pid'), 'utf8')), 'SIGKILL');
    } catch {
      // It has ended, or was never started.
    }
    rmSync(join(this.host.folder, 'weftd.pid'), { force: true });
  }

  /** Of the tests' machine. */
  static has(name: string): boolean {
    try {
      findProgram(name);
      return true;
    } catch {
      return false;
    }
  }
}
