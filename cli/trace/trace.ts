/** `weftctl trace`: the plugins' last calls, the slowest, and the usual time of each stage. */

import { SyscallError } from '../../linux/errors.ts';
import { readText } from '../../linux/files.ts';
import { defaultPaths } from '../../net/paths.ts';
import { withoutTrailingSlashes } from '../../net/text.ts';
import {
  olderTracePath,
  type TraceLine,
  traceLimitBytes,
  traceLineLimitBytes,
  tracePath,
} from '../../net/trace-file.ts';
import { CliError } from '../host.ts';
import { formatDocument, outputForm } from '../output.ts';
import { formatTable, forScreen, type Style } from '../text.ts';
import type { VerbContext } from '../verb.ts';
import { type CommandSummary, longestStage, readTraceLine, summarize } from './summary.ts';

const commands = ['ADD', 'DEL', 'CHECK', 'GC', 'STATUS'];
const defaultCount = 10;

const ms = (us: number): string => (us / 1000).toFixed(us < 100_000 ? 2 : 0);

function callsTable(lines: readonly TraceLine[], style: Style): string {
  const titles = ['TIME', 'COMMAND', 'NETWORK', 'CONTAINER', 'INTERFACE', 'RESULT', 'MS', 'KERNEL', 'LONGEST STAGE'];
  const rows = lines.map((line) => {
    const { at, command, network, container, ifname, result, us, kernelUs } = line;
    const stage = longestStage(line);
    return [
      new Date(at).toISOString(),
      command,
      network,
      container.slice(0, 12),
      ifname,
      result === 'ok' ? style.green('ok') : style.red(`error ${result}`),
      ms(us),
      ms(kernelUs),
      stage === undefined ? '' : `${stage} ${ms(line.stages[stage]!.us)}`,
    ];
  });
  return formatTable(titles, rows, style);
}

function stagesTable({ command, all, stages }: CommandSummary, style: Style): string {
  const titles = ['STAGE', 'P50 MS', 'P99 MS', 'MOST', 'KERNEL P50', 'CALLS'];
  const rows = [{ stage: 'all', ...all }, ...stages].map(({ stage, p50Us, p99Us, mostUs, p50KernelUs, calls }) => [
    stage,
    ms(p50Us),
    ms(p99Us),
    ms(mostUs),
    ms(p50KernelUs),
    String(calls),
  ]);
  return `${style.bold(command)}\n${formatTable(titles, rows, style)}`;
}

export async function run({ host, options, style }: VerbContext): Promise<number> {
  const form = outputForm(options);
  const runDir = withoutTrailingSlashes(options.text('run-dir') ?? defaultPaths.runDir);
  const sys = await host.loadSys();
  const read = (path: string): string => {
    try {
      return readText(sys, path, traceLimitBytes + traceLineLimitBytes) ?? '';
    } catch (error) {
      if (error instanceof SyscallError) throw new CliError(error.message);
      throw error;
    }
  };
  const texts = [olderTracePath(runDir), tracePath(runDir)].flatMap((path) => read(path).split('\n'));
  const written = texts.filter((text) => text !== '');
  const lines = forScreen(written.flatMap((text) => readTraceLine(text) ?? []));
  const unread = written.length - lines.length;
  if (lines.length === 0 && unread === 0) {
    throw new CliError(`No call has left a trace in "${runDir}"`, [
      'set "trace": true in the network configuration, or WEFT_TRACE=1 in the environment of the container runtime',
    ]);
  }
  const count = options.integer('last') ?? defaultCount;
  const last = lines.slice(-count);
  const slowest = [...lines].sort((a, b) => b.us - a.us).slice(0, count);
  const summaries = summarize(lines, commands);
  const document = formatDocument(form, { calls: lines.length, unread, last, slowest, commands: summaries });
  if (document !== undefined) {
    host.stdout(document);
    return 0;
  }
  const parts = [
    `${style.bold(`The last ${last.length} of ${lines.length} calls`)}\n${callsTable(last, style)}`,
    `${style.bold('The slowest')}\n${callsTable(slowest, style)}`,
    ...summaries.map((summary) => stagesTable(summary, style)),
    ...(unread > 0 ? [`${unread} lines of the trace could not be read\n`] : []),
  ];
  host.stdout(parts.join('\n'));
  return 0;
}
