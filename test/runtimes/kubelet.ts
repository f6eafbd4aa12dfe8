/**
 * What a kubelet does for pods' sandboxes, in little: it starts those that are missing, some at once; removes those that
 * are not ready; and tries again after an error, with the next attempt's number.
 */

import type { Containerd } from './containerd.ts';
import type { PodOptions, SandboxStatus } from './cri.ts';

/** The most sandboxes that are being started or removed at once. */
const width = 8;
/** A call fails while the runtime is down; more failures than this mean something else. */
const longestMs = 120_000;

export type PodSpec = Omit<PodOptions, 'cgroupParent' | 'attempt'>;

/** Does the work for every item, so many at once. */
export async function inParallel<T>(items: readonly T[], work: (item: T) => Promise<void>): Promise<void> {
  const waiting = [...items];
  const worker = async (): Promise<void> => {
    for (let item = waiting.shift(); item !== undefined; item = waiting.shift()) await work(item);
  };
  await Promise.all(Array.from({ length: width }, worker));
}

const pause = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, 200));

export class Kubelet {
  readonly runtime: Containerd;
  /** Errors that a further attempt mended. */
  readonly errors: string[] = [];
  readonly #attempts = new Map<string, number>();
  #started = 0;

  constructor(runtime: Containerd) {
    this.runtime = runtime;
  }

  /** The number of sandboxes that were started in all. */
  get started(): number {
    return this.#started;
  }

  async #untilDone<T>(work: () => Promise<T>): Promise<T> {
    const start = performance.now();
    for (;;) {
      try {
        return await work();
      } catch (error) {
        this.errors.push(error instanceof Error ? error.message : String(error));
        if (performance.now() - start > longestMs) throw error;
        await pause();
      }
    }
  }

  /** Makes one pod run. */
  async #run(spec: PodSpec): Promise<void> {
    await this.#untilDone(async () => {
      const { cri, machine } = this.runtime;
      const mine = (await cri.pods()).filter(({ name }) => name === spec.name);
      if (mine.some(({ ready }) => ready)) return;
      for (const { id } of mine) await cri.removePod(id);
      const attempt = this.#attempts.get(spec.name) ?? 0;
      this.#attempts.set(spec.name, attempt + 1);
      await cri.runPod({ ...spec, attempt, cgroupParent: machine.cgroupParent });
      this.#started += 1;
    });
  }

  /** Makes all these pods run. */
  async run(specs: readonly PodSpec[]): Promise<void> {
    await inParallel(specs, (spec) => this.#run(spec));
  }

  /** The pods that run. */
  async ready(): Promise<SandboxStatus[]> {
    const { cri } = this.runtime;
    return await Promise.all((await cri.pods()).filter(({ ready }) => ready).map(({ id }) => cri.pod(id)));
  }

  /** Removes all pods that the runtime knows. */
  async removeAll(): Promise<void> {
    const { cri } = this.runtime;
    const pods = await this.#untilDone(() => cri.pods());
    await inParallel(pods, ({ id }) => this.#untilDone(() => cri.removePod(id)));
  }
}
