/** Start to exit of VERSION: what every other call costs at the least. */

import type { BenchHost } from './host.ts';
import { type Call, type Cost, measure, peakRssKb } from './measure.ts';
import { formatRows, inTurn, median, type Rounds, rowOf, timeRows } from './sample.ts';

/** The spread of a ratio is that among so many parts of the run. */
const parts = 5;

export function benchStart(host: BenchHost, count: number): string {
  const [weft, reference] = host.contenders().map((contender) => host.call(contender, 'VERSION')) as [Call, Call];
  const floor: Call = { command: ['/bin/true'], environment: {}, stdin: '' };
  const calls = [weft, reference, floor];
  const costs = new Map(calls.map((call) => [call, Array.from({ length: parts }, (): Cost[] => [])]));
  for (let i = 0; i < count; i++) {
    for (const call of inTurn(i, calls)) costs.get(call)![Math.floor((i * parts) / count)]!.push(measure(call));
  }
  const rounds = (pick: (cost: Cost) => number): Rounds => ({
    weft: costs.get(weft)!.map((part) => part.map(pick)),
    reference: costs.get(reference)!.map((part) => part.map(pick)),
  });
  const rows = [
    ...timeRows(
      'start to exit',
      rounds(({ wallMs }) => wallMs),
    ),
    rowOf(
      'CPU, median',
      'ms',
      rounds(({ cpuMs }) => cpuMs),
      median,
    ),
    { what: 'peak RSS', unit: 'MB', weft: peakRssKb(weft) / 1024, reference: peakRssKb(reference) / 1024 },
  ];
  const least = costs.get(floor)!.flat();
  const bare = [least.map(({ wallMs }) => wallMs), least.map(({ cpuMs }) => cpuMs)].map(median) as [number, number];
  return `${formatRows(`VERSION (${count} each)`, rows, host.beside)}\n(/bin/true: ${bare[0].toFixed(2)} ms, ${bare[1].toFixed(2)} ms CPU)`;
}
