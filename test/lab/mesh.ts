/** The programs of mesh.main.ts, one in each pod of a cluster: everybody asks everybody, all the time. */

import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Cluster } from './cluster.ts';
import type { Service } from './commands.ts';
import type { MeshLine, MeshReport } from './mesh.main.ts';
import { waitFor } from './wait.ts';

const meshScript = fileURLToPath(new URL('mesh.main.ts', import.meta.url));
const meshPort = 7010;

export class Mesh {
  readonly #services = new Map<string, Service>();

  /** Resolves once all of them have heard of each other. @param intervalMs between two questions to the same one */
  async start(cluster: Cluster, intervalMs: number): Promise<void> {
    const pods = cluster.hosts.flatMap((host) => host.pods);
    const file = join(cluster.scratch.folder, 'mesh.json');
    writeFileSync(file, JSON.stringify(Object.fromEntries(pods.map(({ name, address }) => [name, address]))));
    for (const { name, namespace } of pods) {
      const argv = [process.execPath, meshScript, name, String(meshPort), String(intervalMs), file];
      const logFile = join(cluster.scratch.folder, `mesh-${name}.log`);
      this.#services.set(name, cluster.scratch.start(argv, { namespace, logFile }));
    }
    await this.#allAnswer('all containers to reach each other', Date.now(), 20_000);
  }

  #lastLine<T>(name: string): T | undefined {
    const lines = readFileSync(this.#services.get(name)!.logFile, 'utf8').split('\n');
    const line = lines.at(-2);
    return line ? (JSON.parse(line) as T) : undefined;
  }

  async #allAnswer(what: string, sinceMs: number, deadlineMs: number): Promise<void> {
    await waitFor(
      what,
      () => {
        for (const [name, { alive }] of this.#services) {
          if (!alive) throw new Error(`the traffic of ${name} has ended`);
          const line = this.#lastLine<MeshLine>(name);
          if (!line || line.at < sinceMs) throw new Error(`${name} says nothing`);
          if (line.silent.length > 0) throw new Error(`${name} does not hear of ${line.silent.join(', ')}`);
        }
        return true;
      },
      { deadlineMs, intervalMs: 100 },
    );
  }

  /** How long it takes until nobody waits for anybody. */
  async recover(): Promise<number> {
    const startMs = Date.now();
    await this.#allAnswer('all containers to reach each other again', startMs, 15_000);
    return Date.now() - startMs;
  }

  async stop(): Promise<MeshReport[]> {
    await Promise.all([...this.#services.values()].map((service) => service.stop('SIGINT')));
    return [...this.#services.keys()].map((name) => this.#lastLine<MeshReport>(name)!);
  }
}
