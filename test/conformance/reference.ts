/** The reference's plugins on a site, beside ours. */

import { join } from 'node:path';
import type { PodSpace } from '../lab/bare-host.ts';
import { execute } from '../lab/commands.ts';
import { bothFolders, type CallOptions, type Outcome } from '../lab/plugin.ts';
import { referenceFolder } from '../lab/project.ts';
import type { Site } from './site.ts';

export type Keys = Record<string, unknown>;
const v4 = { subnet: '10.1.2.0/24' };
export const environment = { PATH: '/usr/sbin:/usr/bin:/sbin:/bin' };

/** The same call to a plugin of the reference. */
export function reference(
  site: Site,
  program: string,
  command: string,
  pod: PodSpace,
  stdin: Keys,
  options: CallOptions = {},
) {
  const call = { executable: join(referenceFolder, program), path: bothFolders, ...options };
  return site.weft(command, pod, stdin, { ...call, environment: { ...environment, ...options.environment } });
}

/** A configuration of ours and the same for the reference, each with a store of its own. */
export function pair(site: Site, keys: Keys = {}, ipam: Keys = v4): { ours: Keys; theirs: Keys } {
  const ours = site.bridge({ cniVersion: '1.0.0', ...keys }, ipam);
  const dataDir = join(site.folder, 'reference');
  const theirs = { ...ours, type: 'bridge', bridge: 'br1', ipam: { ...ipam, type: 'host-local', dataDir } };
  return { ours, theirs };
}

/** The same call to weft-ipam, by itself. */
export const ipamOnly = (site: Site, pod: PodSpace, command: string, stdin: Keys, options: CallOptions = {}): Outcome =>
  site.call('weft-ipam', { command, containerId: pod.id, netns: pod.path, ifname: 'eth0', stdin, ...options });

/** The reference's reservations, which are beside ours. */
export const theirReservations = (site: Site): string[] => {
  const found = execute(['ls', join(site.folder, 'reference/net')]).stdout;
  return found.split('\n').filter((name) => /^[0-9a-f]+[.:]/.test(name));
};
