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

export class KernelSettings {
  readonly #options: KernelSettingsOptions;

  constructor(options: KernelSettingsOptions) {
    this.#options = options;
  }

  /**
   * Sets what differs. Failures are reported problems.
   * @param external name of the interface that leads to the other hosts
   * @param host the host's state, with its routes
   * @returns how many settings were written
   */
  ensure(
    { devices, routes }: DesiredState,
    external: string,
    families: readonly Family[],
    host: HostState,
  ): number {
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
    return written.length;
  }
}
