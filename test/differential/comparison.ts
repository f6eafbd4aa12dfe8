/** Runs cases on both sides at once, in several lanes, and finds the differences. */

import type { Scratch } from '../lab/scratch.ts';
import type { Case, Step } from './corpus/case.ts';
import { type Outcome, Side } from './sides.ts';

export type Aspect = 'status' | 'error' | 'result' | 'container' | 'host' | 'store' | 'rules';

export interface Difference {
  readonly definition: Case;
  readonly step: Step;
  readonly aspect: Aspect;
  /** `-` what only the reference has, `+` what only Weft has; for 'status' `fails` or `succeeds`, of the reference. */
  readonly line: string;
  readonly reference: Outcome;
  readonly weft: Outcome;
}

/** Lines with how often they are there, so that a doubled one shows. */
function onlyIn(lines: readonly string[], others: readonly string[]): string[] {
  const left = [...others];
  return lines.filter((line) => {
    const at = left.indexOf(line);
    if (at < 0) return true;
    left.splice(at, 1);
    return false;
  });
}

/** Faults of an error document of Weft's, whatever the reference answers. */
function errorFaults({ status, stdout, document }: Outcome): string[] {
  if (status === 0) return [];
  if (status !== 1) return [`status ${status}`];
  if (!document) return [`stdout is not one JSON document: ${JSON.stringify(stdout.slice(0, 200))}`];
  const faults: string[] = [];
  for (const [key, type] of [
    ['cniVersion', 'string'],
    ['code', 'number'],
    ['msg', 'string'],
    ['details', 'string'],
  ] as const) {
    if (typeof document[key] !== type) faults.push(`${key} is ${JSON.stringify(document[key])}`);
  }
  if (document.code === 999) faults.push(`code 999: ${document.msg}`);
  return faults;
}

function compare(definition: Case, step: Step, reference: Outcome, weft: Outcome): Difference[] {
  const difference = (aspect: Aspect, line: string): Difference => ({
    definition,
    step,
    aspect,
    line,
    reference,
    weft,
  });
  const faults = errorFaults(weft).map((line) => difference('error', `+ ${line}`));
  if ((reference.status === 0) !== (weft.status === 0)) {
    return [...faults, difference('status', reference.status === 0 ? 'succeeds' : 'fails')];
  }
  const aspects = (['result', 'container', 'host', 'store', 'rules'] as const).flatMap((aspect) => [
    ...onlyIn(reference[aspect], weft[aspect]).map((line) => difference(aspect, `- ${line}`)),
    ...onlyIn(weft[aspect], reference[aspect]).map((line) => difference(aspect, `+ ${line}`)),
  ]);
  return [...faults, ...aspects];
}

export interface Comparison {
  readonly definition: Case;
  readonly steps: number;
  readonly differences: readonly Difference[];
}

/** Whether a difference is known and meant; `ends` where nothing can be compared after it. */
export type Judge = (difference: Difference) => { readonly ends?: boolean } | undefined;

async function compareCase(sides: readonly [Side, Side], definition: Case, judge: Judge): Promise<Comparison> {
  const [reference, weft] = await Promise.all(
    sides.map(async (side) => {
      await side.prepare(definition);
      const outcomes: Outcome[] = [];
      for (const step of definition.steps) outcomes.push(await side.run(definition, step));
      await side.reset(definition);
      return outcomes;
    }),
  );
  const differences: Difference[] = [];
  const told = new Set<string>();
  let steps = 0;
  for (const [i, step] of definition.steps.entries()) {
    steps += 1;
    const found = compare(definition, step, reference![i]!, weft![i]!);
    // A difference after one step is still there after the next.
    differences.push(...found.filter(({ aspect, line }) => !told.has(`${aspect} ${line}`)));
    for (const { aspect, line } of found) told.add(`${aspect} ${line}`);
    if (found.some((difference) => difference.aspect === 'status' || judge(difference)?.ends)) break;
  }
  return { definition, steps, differences };
}

/** Compares all cases; `lanes` of them at a time. */
export async function compareAll(
  scratch: Scratch,
  cases: readonly Case[],
  lanes: number,
  judge: Judge,
): Promise<Comparison[]> {
  const done: Comparison[] = [];
  const open = [...cases];
  const lane = async (number: number): Promise<void> => {
    const sides = [new Side('reference', scratch, number), new Side('weft', scratch, number)] as const;
    for (let definition = open.shift(); definition; definition = open.shift()) {
      done.push(await compareCase(sides, definition, judge));
    }
  };
  await Promise.all(Array.from({ length: lanes }, (_, i) => lane(i)));
  return done;
}

/** For people: the case, the step, both sides. */
export function describeDifference({ definition, step, aspect, line, reference, weft }: Difference): string {
  const { configuration, steps } = definition;
  const said = ({ status, stdout, stderr }: Outcome): string =>
    `status ${status} ${stdout.replace(/\s+/g, ' ').slice(0, 600)} ${stderr.slice(0, 200)}`;
  const at = steps.indexOf(step) + 1;
  const { prevResult, ...words } = step;
  return [
    `${definition.name}: step ${at} ${JSON.stringify(words)}${prevResult ? ' with prevResult' : ''}: ${aspect}: ${line}`,
    `  configuration ${(typeof configuration === 'string' ? configuration : JSON.stringify(configuration)).slice(0, 1000)}`,
    `  reference     ${said(reference)}`,
    `  Weft          ${said(weft)}`,
  ].join('\n');
}
