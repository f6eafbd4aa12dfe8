/** ADD and DEL, alone and many at once. */

import type { BenchHost, Contender } from './host.ts';
import { measure, measureAsync, peakRssKb } from './measure.ts';
import { formatRows, median, quantile, type Row } from './sample.ts';

/** One at a time, the contenders in turn. */
export function benchAdd(host: BenchHost, count: number): string {
  const results = host.contenders.map((contender) => ({
    contender,
    pods: host.addPods(count + 2),
    ADD: { wall: [] as number[], cpu: [] as number[] },
    DEL: { wall: [] as number[], cpu: [] as number[] },
  }));
  for (const verb of ['ADD', 'DEL'] as const) {
    for (let i = 0; i <= count; i++) {
      for (const { contender, pods, [verb]: costs } of results) {
        const cost = measure(host.call(contender, verb, pods[i]));
        // The first one makes the bridge.
        if (i === 0) continue;
        costs.wall.push(cost.wallMs);
        costs.cpu.push(cost.cpuMs);
      }
    }
  }
  const [weft, reference] = results as [(typeof results)[0], (typeof results)[0]];
  const row = (what: string, unit: string, pick: (result: typeof weft) => number): Row => ({
    what,
    unit,
    weft: pick(weft),
    reference: pick(reference),
  });
  const rows = (['ADD', 'DEL'] as const).flatMap((verb) => [
    row(`${verb}, median`, 'ms', (result) => median(result[verb].wall)),
    row(`${verb}, p90`, 'ms', (result) => quantile(result[verb].wall, 0.9)),
    row(`${verb} CPU, median`, 'ms', (result) => median(result[verb].cpu)),
  ]);
  rows.push(
    row('ADD peak RSS', 'MB', ({ contender, pods }) => peakRssKb(host.call(contender, 'ADD', pods[count + 1])) / 1024),
  );
  for (const { contender, pods } of results) measure(host.call(contender, 'DEL', pods[count + 1]));
  return formatRows(`ADD, DEL (${count} each, one at a time)`, rows, reference.contender.name);
}

async function burst(host: BenchHost, contender: Contender, verb: string, pods: readonly string[]): Promise<number[]> {
  return await Promise.all(pods.map((pod) => measureAsync(host.call(contender, verb, pod))));
}

/** All at the same time, one contender after the other. */
export async function benchBurst(host: BenchHost, atOnce: number): Promise<string> {
  const [, reference] = host.contenders;
  const walls: Record<string, number[]> = {};
  for (const contender of host.contenders) {
    const pods = host.addPods(atOnce);
    for (const verb of ['ADD', 'DEL']) walls[`${contender.name} ${verb}`] = await burst(host, contender, verb, pods);
  }
  const rows = ['ADD', 'DEL'].flatMap((verb) =>
    [0.5, 0.99].map((fraction) => ({
      what: `${verb}, p${fraction * 100}`,
      unit: 'ms',
      weft: quantile(walls[`weft ${verb}`]!, fraction),
      reference: quantile(walls[`${reference.name} ${verb}`]!, fraction),
    })),
  );
  return formatRows(`${atOnce} at once`, rows, reference.name);
}
