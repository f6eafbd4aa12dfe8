/** Reads the lines of the plugins' trace, and sums them up. No access to the system. */

import { type StageTimes, type TraceLine, type TraceStage, traceStages } from '../../net/trace-file.ts';

const isCount = (value: unknown): value is number =>
  typeof value === 'number' && Number.isFinite(value) && value >= 0 && value <= Number.MAX_SAFE_INTEGER;
const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

function readStages(value: unknown): TraceLine['stages'] | undefined {
  if (!isObject(value)) return undefined;
  const stages: Partial<Record<TraceStage, StageTimes>> = {};
  for (const stage of traceStages) {
    const times = value[stage];
    if (times === undefined) continue;
    if (!isObject(times)) return undefined;
    const { us, kernelUs, calls } = times;
    if (!isCount(us) || !isCount(kernelUs) || !isCount(calls)) return undefined;
    stages[stage] = { us, kernelUs, calls };
  }
  return stages;
}

/** @returns undefined for a line that no plugin has written */
export function readTraceLine(text: string): TraceLine | undefined {
  let line: unknown;
  try {
    line = JSON.parse(text);
  } catch {
    return undefined;
  }
  if (!isObject(line)) return undefined;
  const { at, command, network, container, ifname, result, us, kernelUs } = line;
  const stages = readStages(line['stages']);
  const texts = [command, network, container, ifname];
  if (!stages || !texts.every((value) => typeof value === 'string')) return undefined;
  if (!isCount(at) || !isCount(us) || !isCount(kernelUs)) return undefined;
  if (result !== 'ok' && !isCount(result)) return undefined;
  return { ...(line as unknown as TraceLine), stages };
}

/** The value below which `share` of the sorted values lie. */
function quantile(sorted: readonly number[], share: number): number {
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? 0;
}

export interface Usual {
  /** Of this many calls. */
  readonly calls: number;
  readonly p50Us: number;
  readonly p99Us: number;
  readonly mostUs: number;
  /** The median time inside of system calls. */
  readonly p50KernelUs: number;
}

function usual(times: readonly Pick<StageTimes, 'us' | 'kernelUs'>[]): Usual {
  const sorted = times.map(({ us }) => us).sort((a, b) => a - b);
  const kernel = times.map(({ kernelUs }) => kernelUs).sort((a, b) => a - b);
  return {
    calls: times.length,
    p50Us: quantile(sorted, 0.5),
    p99Us: quantile(sorted, 0.99),
    mostUs: sorted.at(-1) ?? 0,
    p50KernelUs: quantile(kernel, 0.5),
  };
}

export interface CommandSummary {
  readonly command: string;
  readonly all: Usual;
  readonly stages: readonly (Usual & { readonly stage: TraceStage })[];
}

/** The usual times of each command and of its stages. A command that somebody else has made up is none. */
export function summarize(lines: readonly TraceLine[], commands: readonly string[]): CommandSummary[] {
  return commands.flatMap((command) => {
    const own = lines.filter((line) => line.command === command);
    if (own.length === 0) return [];
    const stages = traceStages.flatMap((stage) => {
      const times = own.flatMap((line) => line.stages[stage] ?? []);
      return times.length > 0 ? [{ stage, ...usual(times) }] : [];
    });
    return [{ command, all: usual(own), stages }];
  });
}

/** The stage that took the longest. */
export function longestStage({ stages }: TraceLine): TraceStage | undefined {
  const present = traceStages.filter((stage) => stages[stage]);
  return present.sort((a, b) => stages[b]!.us - stages[a]!.us)[0];
}
