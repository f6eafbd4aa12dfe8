/** Docker on a machine: a daemon at its default paths, and Debian's command. */

import { join } from 'node:path';
import { type Finished, run, type Service } from '../lab/commands.ts';
import { program } from '../lab/project.ts';
import { waitFor } from '../lab/wait.ts';
import { imageName } from './image.ts';
import type { Machine } from './machine.ts';

const optionsFile = '/run/docker_opts.env';

/** As `docker.service` does it with `examples/docker-weft.conf`: the options are words of variables. */
const startScript = (group: string): string =>
  `[ -e ${optionsFile} ] && . ${optionsFile}
exec dockerd --exec-opt native.cgroupdriver=cgroupfs --cgroup-parent ${group} $DOCKER_OPT_BIP $DOCKER_OPT_IPMASQ $DOCKER_OPT_MTU`;

export class Docker {
  readonly machine: Machine;
  #service: Service | undefined;

  constructor(machine: Machine) {
    this.machine = machine;
  }

  execute(...words: string[]): Finished {
    return this.machine.executeInside(['/usr/bin/docker', ...words]);
  }

  /** @throws where it fails */
  run(...words: string[]): string {
    const { status, stdout, stderr } = this.execute(...words);
    if (status !== 0) throw new Error(`docker ${words.join(' ')}: ${stderr || stdout}`);
    return stdout.trim();
  }

  /** Starts the daemon with the options of `weftctl docker-opts`, if that was called. */
  async startDaemon(): Promise<void> {
    const log = join(this.machine.folder, 'dockerd.log');
    this.#service = this.machine.serve(['sh', '-c', startScript(this.machine.cgroupParent)], log);
    const answers = (): boolean => {
      if (!this.#service!.alive) throw new Error(`dockerd has ended:\n${run(['tail', '-n', '20', log])}`);
      this.run('version');
      return true;
    };
    await waitFor('dockerd to answer', answers, { deadlineMs: 60_000, intervalMs: 100 });
  }

  async stopDaemon(): Promise<void> {
    for (const pid of this.machine.processes('dockerd')) process.kill(pid, 'SIGTERM');
    await this.#service?.exited;
  }

  /** Writes Docker's options for this node's subnet. */
  writeOptions(): void {
    this.machine.inside(program('weftctl'), 'docker-opts', '-i', '-d', optionsFile);
  }

  /** Starts a container of the tests' image. */
  start(name: string, ...words: string[]): void {
    this.run('run', '-d', '--name', name, '--hostname', name, ...words, imageName);
  }

  address(name: string): string {
    return this.run('inspect', '-f', '{{.NetworkSettings.IPAddress}}', name);
  }
}
