/** Start to exit of VERSION: what every other call costs at the least. */

import type { BenchHost } from './host.ts';
import { type Call, measure, peakRssKb } from './measure.ts';
import { formatRows, median } from './sample.ts';

export function benchStart(host: BenchHost, count: number): string {
  const [weft, reference] = host.contenders.map((contender) => host.call(contender, 'VERSION')) as [Call, Call];
  const floor: Call = { command: ['/bin/true'], environment: {}, stdin: '' };
  const costs = [weft, reference, floor].map((call) => ({ call, wall: [] as number[], cpu: [] as number[] }));
  for (let i = 0; i < count; i++) {
    for (const { call, wall, cpu } of costs) {
      const cost = measure(call);
      wall.push(cost.wallMs);
      cpu.push(cost.cpuMs);
    }
  }
  const [w, r, f] = costs.map(({ wall, cpu }) => ({ wall: median(wall), cpu: median(cpu) })) as [Cost, Cost, Cost];
  type Cost = { wall: number; cpu: number };
  const rows = [
    { what: 'start to exit, median', unit: 'ms', weft: w.wall, reference: r.wall },
    { what: 'CPU, median', unit: 'ms', weft: w.cpu, reference: r.cpu },
    { what: 'peak RSS', unit: 'MB', weft: peakRssKb(weft) / 1024, reference: peakRssKb(reference) / 1024 },
  ];
  return `${formatRows(`VERSION (${count} each)`, rows, host.contenders[1].name)}\n(/bin/true: ${f.wall.toFixed(2)} ms, ${f.cpu.toFixed(2)} ms CPU)`;
}
