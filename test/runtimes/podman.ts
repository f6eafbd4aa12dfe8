/** Podman on a machine, with its CNI back end: containers.conf and storage.conf of its own. */

import type { Finished } from '../lab/commands.ts';
import { imageName } from './image.ts';
import type { Machine } from './machine.ts';

const containersConf = `[containers]
default_ulimits = ["nofile=4096:4096", "nproc=4096:4096"]
[network]
network_backend = "cni"
cni_plugin_dirs = ["/opt/cni/bin"]
network_config_dir = "/etc/cni/net.d"
default_network = "weft"
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
`;
const storageConf = `[storage]
driver = "overlay"
runroot = "/run/containers/storage"
graphroot = "/var/lib/containers/storage"
`;

/** For Podman, and for programs that call it. */
export const podmanEnvironment: Record<string, string> = {
  PATH: process.env['PATH'] ?? '',
  CONTAINERS_CONF: '/etc/cni/containers.conf',
  CONTAINERS_STORAGE_CONF: '/etc/cni/storage.conf',
  CONTAINERS_REGISTRIES_CONF: '/dev/null',
};

export class Podman {
  readonly machine: Machine;

  constructor(machine: Machine) {
    this.machine = machine;
    machine.writeFile('/etc/cni/containers.conf', containersConf);
    machine.writeFile('/etc/cni/storage.conf', storageConf);
  }

  execute(...words: string[]): Finished {
    return this.machine.executeInside(['podman', ...words], { environment: podmanEnvironment });
  }

  /** @throws where it fails */
  run(...words: string[]): string {
    const { status, stdout, stderr } = this.execute(...words);
    if (status !== 0) throw new Error(`podman ${words.join(' ')}: ${stderr || stdout}`);
    return stdout.trim();
  }

  importImage(archive: string): void {
    this.run('load', '-q', '-i', archive);
  }

  /** Starts a container of the tests' image. @param words further options */
  start(name: string, ...words: string[]): void {
    const parent = `--cgroup-parent=${this.machine.cgroupParent}`;
    this.run('run', '-d', parent, '--name', name, '--hostname', name, ...words, imageName);
  }

  /** What one line of a container's `ip -o addr` says: address by interface. */
  addresses(name: string): Record<string, string> {
    const text = this.run('exec', name, 'ip', '-o', '-4', 'addr', 'show');
    const lines = [...text.matchAll(/^\d+: (\S+) +inet (\S+?)\//gm)];
    return Object.fromEntries(
      lines.map(([, device, address]) => [device!, address!]).filter(([device]) => device !== 'lo'),
    );
  }
}
