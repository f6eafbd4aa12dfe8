/** `weftctl config set`: validates a network config, shows what it changes, and writes it. */

import { readFile } from 'node:fs/promises';
import { ConfigError } from '../cluster/config-section.ts';
import { findUnusableNetwork, overlapping } from '../cluster/network-advice.ts';
import { backendName, type NetworkConfig, parseNetworkConfig, unknownConfigKeys } from '../cluster/network-config.ts';
import { UsageError } from '../command/options.ts';
import { printable } from '../command/printable.ts';
import { backends } from '../daemon/backends/map.ts';
import { defaultPaths } from '../net/paths.ts';
import { formatPrefix } from '../net/prefix.ts';
import { withoutTrailingSlashes } from '../net/text.ts';
import { compareConfigs } from './config-change.ts';
import { CliError } from './host.ts';
import { readHostNetworks } from './host-networks.ts';
import type { VerbContext } from './verb.ts';

/** The document: the argument itself if it is JSON, else the content of the file or of standard input. */
async function readDocument({ host, words }: VerbContext): Promise<string> {
  const [word] = words;
  if (word?.trimStart().startsWith('{')) return word;
  if (word === '-' || (word === undefined && !host.stdinIsTerminal)) return host.readStdin();
  if (word === undefined) throw new UsageError('"config set" needs the document: as JSON, as a file, or - for stdin');
  try {
    return await readFile(word, 'utf8');
  } catch (error) {
    const cause = error instanceof Error && 'code' in error ? String(error.code) : String(error);
    throw new CliError(`Cannot read "${word}": ${cause}`, [], error);
  }
}

function parsedOrUndefined(text: string): NetworkConfig | undefined {
  try {
    return parseNetworkConfig(text, backends);
  } catch {
    return undefined;
  }
}

export async function run(context: VerbContext): Promise<number> {
  const { host, options, style, source } = context;
  const text = (await readDocument(context)).trim();
  const runDir = withoutTrailingSlashes(options.text('run-dir') ?? defaultPaths.runDir);
  let config: NetworkConfig;
  try {
    config = parseNetworkConfig(text, backends);
  } catch (error) {
    if (error instanceof ConfigError) throw new CliError(error.message, [], error);
    throw error;
  }
  const unusable = findUnusableNetwork(config);
  if (unusable !== undefined) throw new CliError(unusable);
  for (const key of unknownConfigKeys(text)) {
    host.stderr(`weftctl: "${printable(key)}" has no meaning in a network config; it is written but ignored\n`);
  }
  for (const warning of [backends.get(backendName(config.backend))?.warning, config.problem]) {
    if (warning !== undefined) host.stderr(`weftctl: ${warning}\n`);
  }
  for (const { name, network } of overlapping(config, await readHostNetworks(host, runDir))) {
    host.stderr(
      `weftctl: the network overlaps this host's network ${formatPrefix(network)} on "${printable(name)}"; ` +
        'a node leases no subnet that overlaps its own networks\n',
    );
  }
  const before = await source.config();
  // If the old one cannot be parsed, all of the new one counts as changed.
  const changes = compareConfigs(before && parsedOrUndefined(before.text), config);
  if (before?.text === text) {
    host.stdout('The network config is unchanged.\n');
    return 0;
  }
  const dryRun = options.flag('dry-run');
  const show = (): void => {
    if (changes.length === 0) host.stdout('Only the text changes, not the meaning.\n');
    for (const change of changes) {
      const was = change.before === undefined ? '' : `${style.red(printable(change.before))} → `;
      host.stdout(`  ${change.point}: ${was}${style.green(printable(change.after ?? 'none'))}\n`);
    }
  };
  if (dryRun) {
    show();
    return 0;
  }
  await source.updateConfig({ text, expected: before?.modRevision ?? '0', force: options.flag('force') });
  show();
  host.stdout(before ? 'The network config is changed.\n' : 'The network config is written.\n');
  return 0;
}
