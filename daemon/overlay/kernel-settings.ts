/** Keeps the kernel's settings that packets between containers depend on. */

import type { Family } from '../../net/address.ts';
import type { DesiredState } from '../backends/entries.ts';
import { advertisedInterfaces, type HostState } from '../host/host-state.ts';
import { planSysctls } from '../host/sysctls.ts';
import type { Logger } from '../report/log.ts';
import type { Problems } from '../report/problems.ts';
import type { Healing } from './healing.ts';
import type { Kernel } from './kernel.ts';

export interface KernelSettingsOptions {
  readonly kernel: Pick<Kernel, 'readSysctl' | 'ensureSysctl'>;
  readonly healing: Pick<Healing, 'noteSettings' | 'noteFailure'>;
  readonly logger: Logger;
  readonly problems: Pick<Problems, 'reportAll'>;
  readonly ipMasq: boolean;
}

/** Whether the kernel drops packets whose answers would leave by another interface: the higher of the two counts. */
const isStrict = (read: (path: readonly string[]) => string | undefined, name: string): boolean =>
  Math.max(...['all', name].map((of) => Number(read(['net', 'ipv4', 'conf', of, 'rp_filter']) ?? 0))) === 1;

export class KernelSettings {
  readonly #options: KernelSettingsOptions;
  /** The external interface whose strict return path was reported last. */
  #toldStrict: string | undefined;

  constructor(options: KernelSettingsOptions) {
    this.#options = options;
  }

  /**
   * Sets what differs. Failures are reported problems.
   * @param external name of the interface that leads to the other hosts
   * @param host the host's state, with its routes
   * @returns how many settings were written
   */
  ensure({ devices, routes }: DesiredState, external: string, families: readonly Family[], host: HostState): number {
    const { kernel, healing, logger, problems, ipMasq } = this.#options;
    const needs = {
      families,
      tunnels: devices.map(({ name, local }) => ({ name, family: local.family })),
      external,
      advertised: advertisedInterfaces(host),
      forwardsExternal: ipMasq || routes.some(({ device }) => device === external),
    };
    const written: { readonly name: string; readonly value: string }[] = [];
    const failed = new Map<string, string>();
    for (const setting of planSysctls({ ...needs, read: (path) => kernel.readSysctl(path) })) {
      const name = setting.path.join('.');
      try {
        if (!kernel.ensureSysctl(setting)) continue;
        written.push({ name, value: setting.value });
      } catch (error) {
        failed.set(name, (error as Error).message);
        healing.noteFailure('sysctl');
      }
    }
    const words = written.map(({ name, value }) => `set kernel setting ${name} to ${value}`);
    if (!healing.noteSettings('sysctl', 'kernel settings', () => JSON.stringify(needs), words)) {
      for (const fields of written) logger.info('kernel setting written', fields);
    }
    problems.reportAll('sysctl', failed);
    const strict = !ipMasq && families.includes(4) && isStrict((path) => kernel.readSysctl(path), external);
    if (strict && this.#toldStrict !== external) {
      logger.warn(
        `Kernel setting net.ipv4.conf.${external}.rp_filter is strict, and weftd does not masquerade: containers' packets that take different ways there and back are dropped; set it to 2 (loose), or run weftd with --ip-masq`,
      );
    }
    this.#toldStrict = strict ? external : undefined;
    return written.length;
  }
}
