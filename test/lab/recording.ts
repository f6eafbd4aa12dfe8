/**
 * What a person sees of a host's life with Weft: install, status, doctor with a fault, uninstall. The README has it between
 * two marks; `npm run recording` writes it there, and a test compares.
 */

import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Cluster } from './cluster.ts';
import { root } from './project.ts';
import { ServiceHost } from './service-host.ts';
import { waitFor } from './wait.ts';

/** Its lines are what people read first: a change of a message changes them. */
const readme = join(root, 'README.md');
const [start, end] = ['<!-- recording -->', '<!-- end of the recording -->'];

/** The network config with so many subnets, so that each host has the same one in every recording. */
const config = (subnets: number): string =>
  JSON.stringify({
    Network: '10.244.0.0/16',
    SubnetMin: '10.244.1.0',
    SubnetMax: `10.244.${subnets}.0`,
    Backend: { Type: 'vxlan' },
  });

/** Commands as typed, with what they print. */
class Terminal {
  readonly #host: ServiceHost;
  readonly #lines: string[] = [];

  constructor(host: ServiceHost) {
    this.#host = host;
  }

  /** @param expected exit status */
  async type(command: string, expected = 0): Promise<void> {
    const script = `exec 2>&1; cd /opt/release; ${command}`;
    const { status, stdout } = await this.#host.executeInsideAsync('sh', '-c', script);
    if (status !== expected) throw new Error(`${command}: status ${status}: ${stdout}`);
    // How long it waits, and for what, depends on the machine.
    const lines = stdout.split('\n').filter((line) => line !== '' && !line.startsWith('weftctl: waiting: '));
    const isTable = (line: string): boolean => /^[A-Z]+ {2,}[A-Z]/.test(line);
    this.#lines.push(`$ ${command}`, ...lines.flatMap((line) => (isTable(line) ? ['', line] : [line])), '');
  }

  get text(): string {
    return this.#lines.join('\n').trimEnd();
  }
}

/** Records it anew, on a host beside another one. */
export async function record(): Promise<string> {
  const cluster = new Cluster('recording');
  const [one, two] = [cluster.addHost(ServiceHost), cluster.addHost()];
  try {
    await cluster.startEtcd();
    cluster.put('config', config(1));
    two.startWeftd('--ip-masq');
    await two.reaches([]);
    cluster.put('config', config(2));
    await one.boot();
    const file = join(one.folder, 'os-release');
    writeFileSync(file, 'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\n');
    one.inside('mount', '--bind', file, '/usr/lib/os-release');
    const terminal = new Terminal(one);
    await terminal.type(`bin/weftctl install --etcd-endpoints ${cluster.etcdEndpoint}`);
    const [pod] = one.attachPods(1);
    await waitFor('host1 to reach host2', () => one.status().peers.some(({ programmed }) => programmed));
    await terminal.type('weftctl status');
    await terminal.type('ip link set dev cni0 down    # a mistake');
    await terminal.type('weftctl doctor', 4);
    await terminal.type('ip link set dev cni0 up');
    await terminal.type('weftctl doctor');
    pod!.detach();
    await terminal.type('weftctl uninstall');
    return terminal.text;
  } finally {
    await one.halt();
    cluster.remove();
  }
}

/** Without times, which differ from run to run, and without the number of checks. */
export const withoutTimes = (text: string): string =>
  text
    .replace(/(\d+(\.\d+)? (ms|s|min|h|d)\b ?)+/g, 'N s ')
    .replace(/\d+ (?=checks\b)/g, 'N ')
    .replace(/ +/g, ' ');

/** The recording in the README. */
export function recorded(): string {
  const text = readFileSync(readme, 'utf8');
  const found = text.slice(text.indexOf(start) + start.length, text.indexOf(end));
  return found.replace(/^\s*```\n/, '').replace(/\n```\s*$/, '');
}

/** Writes a recording into the README. */
export function writeRecording(text: string): void {
  const before = readFileSync(readme, 'utf8');
  const [head, tail] = [before.slice(0, before.indexOf(start) + start.length), before.slice(before.indexOf(end))];
  writeFileSync(readme, `${head}\n\n\`\`\`\n${text}\n\`\`\`\n\n${tail}`);
}
