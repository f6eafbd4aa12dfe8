/** `weftctl config get`: prints the network config, or with --json its meaning with all defaults. */

import { parseNetworkConfig } from '../cluster/network-config.ts';
import { backends } from '../daemon/backends/map.ts';
import { completeConfig } from './config-change.ts';
import { CliError } from './host.ts';
import type { VerbContext } from './verb.ts';

export async function run({ host, options, source }: VerbContext): Promise<number> {
  const document = await source.config();
  if (!document) {
    throw new CliError(
      `There is no network config yet: write one, such as weftctl config set '{"Network": "10.1.0.0/16", "Backend": {"Type": "vxlan"}}'`,
    );
  }
  if (options.flag('json')) {
    const config = completeConfig(parseNetworkConfig(document.text, backends));
    host.stdout(`${JSON.stringify({ config, text: document.text, modRevision: document.modRevision }, null, 2)}\n`);
    return 0;
  }
  host.stdout(document.text.endsWith('\n') ? document.text : `${document.text}\n`);
  return 0;
}
