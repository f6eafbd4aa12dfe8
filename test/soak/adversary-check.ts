/** The assertions of every attack, and a short report. */

import * as assert from 'uvu/assert';
import { type AttackOptions, attack, keptMbAtMost } from './adversary.ts';

/** Of each honest weftd, while 300 writes a second make garbage; at rest it may have grown by less. */
const grownMbAtMost = 30;
const linesPerMinuteAtMost = 100;

export async function checkAttack(options: Omit<AttackOptions, 'log'>): Promise<void> {
  const log = (line: string): void => console.log(`  ${line}`);
  console.log();
  const report = await attack({ ...options, log });
  const { acts, refused, asked, lost, wrong, recoveryMs, grownMb, keptMb, linesPerMinute, subnets, left } = report;
  const format = (all: readonly number[]): string => all.map((mb) => mb.toFixed(1)).join(', ');
  const [grown, kept] = [grownMb, keptMb].map(format);
  log(`${asked} questions, ${lost.length} lost; all reached after ${recoveryMs} ms`);
  log(`memory grew by ${grown} MB, at rest by ${kept} MB; ${linesPerMinute.join(', ')} lines of log in a minute`);
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
    keptMb.every((mb) => mb <= keptMbAtMost),
    `${kept} MB were not given back`,
  );
  assert.ok(
    linesPerMinute.every((lines) => lines <= linesPerMinuteAtMost),
    `${linesPerMinute.join(', ')} lines in a minute`,
  );
  // It was an attack.
  assert.ok(acts > (options.durationMs / 1000) * 10, `${acts} acts`);
  assert.ok(asked > options.durationMs / 50, `${asked} questions`);
}
