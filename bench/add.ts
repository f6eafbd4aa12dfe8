/** ADD and DEL, alone and many at once. */

import { join } from 'node:path';
import type { BenchHost, Contender, Variant } from './host.ts';
import { type Call, type Cost, countCalls, measure, measureAsync, peakRssKb } from './measure.ts';
import { awaitOrphans } from './orphans.ts';
import { formatRows, inTurn, median, type Rounds, type Row, rowOf, timeRows } from './sample.ts';

const verbs = ['ADD', 'DEL'] as const;
type Verb = (typeof verbs)[number];
type Costs = Readonly<Record<Verb, Cost[][]>>;

const noCosts = (rounds: number): Costs => ({
  ADD: Array.from({ length: rounds }, () => []),
  DEL: Array.from({ length: rounds }, () => []),
});

/** The spread of a ratio is that among so many parts of the run. */
const parts = 5;

const titles: Readonly<Record<Variant, string>> = {
  plain: 'one at a time',
  masquerade: 'with ipMasq',
  dual: 'with IPv4 and IPv6',
};

/** A call, and the orphan that it may leave, which is no part of its time but of its cost. */
function measureWhole(call: Call): Cost {
  const { wallMs, cpuMs } = measure(call);
  return { wallMs, cpuMs: cpuMs + awaitOrphans() };
}

const roundsOf = (sides: readonly Costs[], verb: Verb, pick: (cost: Cost) => number): Rounds => {
  const [weft, reference] = sides.map((costs) => costs[verb].map((round) => round.map(pick)));
  return { weft: weft!, reference: reference! };
};

/** The processor time of an ADD and its DEL. */
function pairs(costs: Costs): number[][] {
  return costs.ADD.map((round, part) => round.map(({ cpuMs }, i) => cpuMs + costs.DEL[part]![i]!.cpuMs));
}

function costRows(sides: readonly Costs[]): Row[] {
  const [weft, reference] = sides.map(pairs) as [number[][], number[][]];
  return [
    ...verbs.flatMap((verb) =>
      timeRows(
        verb,
        roundsOf(sides, verb, ({ wallMs }) => wallMs),
      ),
    ),
    ...verbs.map((verb) =>
      rowOf(
        `${verb} CPU, median`,
        'ms',
        roundsOf(sides, verb, ({ cpuMs }) => cpuMs),
        median,
      ),
    ),
    rowOf('CPU of a pair, median', 'ms', { weft, reference }, median),
  ];
}

/** One at a time, the contenders in turn, beside a container of each. */
export function benchAdd(host: BenchHost, count: number, variant: Variant = 'plain'): string {
  const sides = host.contenders(variant).map((contender) => ({
    contender,
    pods: host.addPods(2) as [string, string],
    costs: noCosts(parts),
  }));
  for (const { contender, pods } of sides) measure(host.call(contender, 'ADD', pods[0]));
  const pair = ({ contender, pods }: (typeof sides)[0]): Readonly<Record<Verb, Cost>> => {
    const [add, del] = verbs.map((verb) => measureWhole(host.call(contender, verb, pods[1])));
    return { ADD: add!, DEL: del! };
  };
  for (const side of sides) pair(side);
  for (let i = 0; i < count; i++) {
    for (const side of inTurn(i, sides)) {
      const costs = pair(side);
      for (const verb of verbs) side.costs[verb][Math.floor((i * parts) / count)]!.push(costs[verb]);
    }
  }
  const figures = sides.map(({ contender, pods }) => {
    const [add, del] = verbs.map((verb) => host.call(contender, verb, pods[1])) as [Call, Call];
    const counted = countCalls(add, join(host.folder, 'trace'));
    measureWhole(del);
    const megabytes = peakRssKb(add) / 1024;
    measureWhole(del);
    return { ...counted, megabytes };
  });
  const [weft, reference] = figures as [(typeof figures)[0], (typeof figures)[0]];
  const rows = [
    ...costRows(sides.map(({ costs }) => costs)),
    { what: 'ADD peak RSS', unit: 'MB', weft: weft.megabytes, reference: reference.megabytes },
    { what: 'ADD system calls', unit: '', weft: weft.calls, reference: reference.calls },
    { what: 'ADD processes', unit: '', weft: weft.processes, reference: reference.processes },
  ];
  for (const { contender, pods } of sides) measureWhole(host.call(contender, 'DEL', pods[0]));
  return formatRows(`ADD, DEL ${titles[variant]} (${count} each)`, rows, host.beside);
}

/** One verb for all pods at once: each call's cost, and how long all took. The orphans' cost is shared out evenly. */
async function burst(host: BenchHost, contender: Contender, verb: Verb, pods: readonly string[]) {
  const start = performance.now();
  const costs = await Promise.all(pods.map((pod) => measureAsync(host.call(contender, verb, pod))));
  const allMs = performance.now() - start;
  const orphanMs = awaitOrphans() / pods.length;
  return { costs: costs.map(({ wallMs, cpuMs }) => ({ wallMs, cpuMs: cpuMs + orphanMs })), allMs };
}

/** All at the same time, the contenders in turn. */
export async function benchBurst(host: BenchHost, atOnce: number, rounds: number): Promise<string> {
  const pods = host.addPods(atOnce);
  const [keeper] = host.addPods(1);
  const sides = host.contenders().map((contender) => ({
    contender,
    costs: noCosts(rounds),
    allMs: { ADD: [] as number[], DEL: [] as number[] },
  }));
  for (const { contender } of sides) {
    measure(host.call(contender, 'ADD', keeper));
    measureWhole(host.call(contender, 'DEL', keeper));
  }
  for (let round = 0; round < rounds; round++) {
    for (const { contender, costs, allMs } of inTurn(round, sides)) {
      for (const verb of verbs) {
        const { costs: one, allMs: all } = await burst(host, contender, verb, pods);
        costs[verb][round]!.push(...one);
        allMs[verb].push(all);
      }
    }
  }
  const rate = (verb: Verb): Row => {
    const [weft, reference] = sides.map(({ allMs }) => allMs[verb].map((ms) => [(atOnce * 1000) / ms]));
    return rowOf(`${verb} a second, median`, '', { weft: weft!, reference: reference! }, median);
  };
  const rows = [...costRows(sides.map(({ costs }) => costs)), rate('ADD'), rate('DEL')];
  return formatRows(`${atOnce} at once (${rounds} rounds)`, rows, host.beside);
}
