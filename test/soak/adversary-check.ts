/** The assertions of every attack, and a short report. */

import * as assert from 'uvu/assert';
import { type AttackOptions, attack } from './adversary.ts';

/** Of each honest weftd. */
const grownMbAtMost = 20;
const linesPerMinuteAtMost = 100;

export async function checkAttack(options: Omit<AttackOptions, 'log'>): Promise<void> {
  const log = (line: string): void => console.log(`  ${line}`);
  console.log();
  const report = await attack({ ...options, log });
  const { acts, refused, asked, lost, wrong, recoveryMs, grownMb, linesPerMinute, subnets, left } = report;
  const grown = grownMb.map((mb) => mb.toFixed(1)).join(', ');
  log(`${asked} questions, ${lost.length} lost; all reached after ${recoveryMs} ms`);
  log(`memory grew by ${grown} MB; ${linesPerMinute.join(', ')} lines of log in a minute`);
  assert.equal(wrong, [], 'wrong deliveries');
  assert.equal(lost.slice(0, 20), [], `${lost.length} of ${asked} lost`);
  assert.equal(subnets.after, subnets.before);
  assert.equal(left, [], 'left in the kernels');
  // Its own etcd lease may be over on a slow machine; a key of 2,000 characters with a value of 1 MB may be too much.
  const denied = Object.keys(refused).filter((reason) => !/lease not found|too large/.test(reason));
  assert.equal(denied, [], 'etcd refused what its roles allow');
  assert.ok(
    grownMb.every((mb) => mb <= grownMbAtMost),
    `memory grew by ${grown} MB`,
  );
  assert.ok(
    linesPerMinute.every((lines) => lines <= linesPerMinuteAtMost),
    `${linesPerMinute.join(', ')} lines in a minute`,
  );
  // It was an attack.
  assert.ok(acts > (options.durationMs / 1000) * 10, `${acts} acts`);
  assert.ok(asked > options.durationMs / 50, `${asked} questions`);
}
