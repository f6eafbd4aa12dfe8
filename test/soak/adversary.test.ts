/**
 * A long attack by a host with a node's rights in etcd: a minute, or WEFT_ADVERSARY_SECONDS. The writes are other ones each
 * time; the seed is printed, and WEFT_SOAK_SEED repeats them.
 */

import { suite } from 'uvu';
import type { ActKind } from '../lab/hostile-acts.ts';
import { checkAttack } from './adversary-check.ts';

const seed = Number(process.env['WEFT_SOAK_SEED'] ?? Date.now() % 1_000_000);
const seconds = Number(process.env['WEFT_ADVERSARY_SECONDS'] ?? 60);

const test = suite('adversary');

const kinds = (process.env['WEFT_ADVERSARY_KINDS'] ?? 'around,deletes,spoils,steals').split(',') as ActKind[];

test(`${seconds} s of hostile writes: ${kinds.join(', ')}`, () =>
  checkAttack({ seed, durationMs: seconds * 1000, kinds }));

test.run();
