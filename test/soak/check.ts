/** The assertions of every soak, and a short report. */

import * as assert from 'uvu/assert';
import { type SoakOptions, soak } from './soak.ts';

export async function checkSoak(options: Omit<SoakOptions, 'log'>): Promise<void> {
  const lines: string[] = [];
  const log = (line: string): void => {
    lines.push(line);
    console.log(`  ${line}`);
  };
  console.log();
  const { sent, received, unexplained, wrong, recoveryMs, longestTailMs, heals, subnets } = await soak({
    ...options,
    log,
  });
  log(
    `${sent} questions, ${received} answered; ${sent - received - unexplained.length} lost for a reason, ` +
      `${unexplained.length} for none; ${wrong.length} delivered wrongly; all reached after ${recoveryMs} ms, ` +
      `${longestTailMs} ms at most after a cut`,
  );
  for (const { fault, ms } of heals) log(`${fault.replace(/\s+/g, ' ')}: back after ${ms} ms`);
  assert.equal(wrong, [], 'wrong deliveries');
  assert.equal(unexplained.slice(0, 30), [], `${unexplained.length} lost for no reason`);
  assert.equal(subnets.after, subnets.before);
}
