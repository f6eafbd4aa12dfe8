/** The gate's output: a line per part with its counts, the output of failures, and the slowest files. */

const seconds = (value) => `${value.toFixed(1).padStart(6)} s`;

/** @returns {import('./count.mjs').Count & { seconds: number; output: string; notes: string[] }} */
export function sumOf(ended) {
  const sum = { passed: 0, failed: 0, skipped: 0, seconds: 0, output: '', notes: [] };
  for (const { name, uncounted, count, seconds } of ended) {
    if (!uncounted) sum.passed += count.passed;
    sum.failed += count.failed;
    sum.skipped += uncounted ? 0 : (count.skipped ?? 0);
    sum.seconds += seconds;
    sum.notes.push(...(count.notes ?? []));
    if (count.failed > 0) sum.output += `${name}\n${(count.output ?? '').trimEnd()}\n`;
  }
  return sum;
}

/** The lines of a part whose jobs have all ended. Its time is that of its jobs together. */
export function partLines(part, sum) {
  const counts = `${String(sum.passed).padStart(5)} passed ${String(sum.failed).padStart(4)} failed`;
  const skipped = sum.skipped > 0 ? ` ${sum.skipped} skipped` : '';
  return [
    `${part.padEnd(12)} ${counts}${skipped} ${seconds(sum.seconds)}`,
    ...sum.notes.map((note) => `  ${note}`),
    ...(sum.failed > 0 ? [sum.output.trimEnd().replace(/^/gm, '  ')] : []),
  ];
}

/** How long each job took, slowest first. */
export function timeLines(ended, wallSeconds, { lanes, all }) {
  const shown = [...ended].sort((a, b) => b.seconds - a.seconds).slice(0, all ? undefined : 15);
  const work = ended.reduce((sum, job) => sum + job.seconds, 0);
  const head = `${ended.length} jobs, ${work.toFixed(0)} s of them in ${wallSeconds.toFixed(0)} s, ${lanes} lanes; slowest first:`;
  return [head, ...shown.map((job) => `${seconds(job.seconds)}  ${job.name}${job.alone ? ' (alone)' : ''}`)];
}

export const sumLine = ({ passed, failed, skipped }) =>
  `${passed} passed, ${failed} failed${skipped > 0 ? `, ${skipped} skipped` : ''}`;
