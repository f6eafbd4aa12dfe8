/** `weftctl config set`: validates a network config, shows what it changes, and writes it. */

import { readFile } from 'node:fs/promises';
import { UsageError } from '../command/options.ts';
import { parseConfig, showConfigChange, warnOfConfig } from './config-review.ts';
import { CliError } from './host.ts';
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

export async function run(context: VerbContext): Promise<number> {
  const { host, options, source } = context;
  const text = (await readDocument(context)).trim();
  const config = parseConfig(text);
  await warnOfConfig(context, text, config);
  const before = await source.config();
  if (before?.text === text) {
    host.stdout('The network config is unchanged.\n');
    return 0;
  }
  const show = (): void => showConfigChange(context, before?.text, config);
  if (options.flag('dry-run')) {
    show();
    return 0;
  }
  await source.updateConfig({ text, expected: before?.modRevision ?? '0', force: options.flag('force') });
  show();
  host.stdout(before ? 'The network config is changed.\n' : 'The network config is written.\n');
  return 0;
}
