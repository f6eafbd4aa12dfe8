/**
 * A long soak: ten minutes, or WEFT_SOAK_SECONDS. The faults are other ones each time; the seed is printed, and
 * WEFT_SOAK_SEED repeats them.
 */

import { suite } from 'uvu';
import { checkSoak } from './check.ts';

const seed = Number(process.env['WEFT_SOAK_SEED'] ?? Date.now() % 1_000_000);
const seconds = Number(process.env['WEFT_SOAK_SECONDS'] ?? 600);

const test = suite('soak');

test(`${seconds} s of faults`, () => checkSoak({ seed, durationMs: seconds * 1000 }));

test.run();
