/** What `config set` and `config import-v2` check, warn of and show. */

import { ConfigError } from '../cluster/config-section.ts';
import { findUnusableNetwork, overlapping } from '../cluster/network-advice.ts';
import { backendName, type NetworkConfig, parseNetworkConfig, unknownConfigKeys } from '../cluster/network-config.ts';
import { printable } from '../command/printable.ts';
import { backends } from '../daemon/backends/map.ts';
import { defaultPaths } from '../net/paths.ts';
import { formatPrefix } from '../net/prefix.ts';
import { withoutTrailingSlashes } from '../net/text.ts';
import { compareConfigs } from './config-change.ts';
import { CliError } from './host.ts';
import { readHostNetworks } from './host-networks.ts';
import type { VerbContext } from './verb.ts';

/** @throws CliError */
export function parseConfig(text: string): NetworkConfig {
  let config: NetworkConfig;
  try {
    config = parseNetworkConfig(text, backends);
  } catch (error) {
    if (error instanceof ConfigError) throw new CliError(error.message, [], error);
    throw error;
  }
  const unusable = findUnusableNetwork(config);
  if (unusable !== undefined) throw new CliError(unusable);
  return config;
}

/** Tells of what is allowed, and perhaps not meant. */
export async function warnOfConfig(
  { host, options }: Pick<VerbContext, 'host' | 'options'>,
  text: string,
  config: NetworkConfig,
): Promise<void> {
  for (const key of unknownConfigKeys(text)) {
    host.stderr(`weftctl: "${printable(key)}" has no meaning in a network config; it is written but ignored\n`);
  }
  for (const warning of [backends.get(backendName(config.backend))?.warning, config.problem]) {
    if (warning !== undefined) host.stderr(`weftctl: ${warning}\n`);
  }
  const runDir = withoutTrailingSlashes(options.text('run-dir') ?? defaultPaths.runDir);
  for (const { name, network } of overlapping(config, await readHostNetworks(host, runDir))) {
    host.stderr(
      `weftctl: the network overlaps this host's network ${formatPrefix(network)} on "${printable(name)}"; ` +
        'a node leases no subnet that overlaps its own networks\n',
    );
  }
}

function parsedOrUndefined(text: string): NetworkConfig | undefined {
  try {
    return parseNetworkConfig(text, backends);
  } catch {
    return undefined;
  }
}

/** @param before the text in force; if it cannot be parsed, all of the new one counts as changed */
export function showConfigChange(
  { host, style }: Pick<VerbContext, 'host' | 'style'>,
  before: string | undefined,
  config: NetworkConfig,
): void {
  const changes = compareConfigs(before === undefined ? undefined : parsedOrUndefined(before), config);
  if (changes.length === 0) host.stdout('Only the text changes, not the meaning.\n');
  for (const change of changes) {
    const was = change.before === undefined ? '' : `${style.red(printable(change.before))} → `;
    host.stdout(`  ${change.point}: ${was}${style.green(printable(change.after ?? 'none'))}\n`);
  }
}
