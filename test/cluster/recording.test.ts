/**
 * The README's recording of a terminal is what the programs print now. `npm run recording` writes it anew: that sets
 * WEFT_RECORDING=write.
 */

import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { record, recorded, withoutTimes, writeRecording } from '../lab/recording.ts';

const test = suite('recording');

test('install, status, doctor with a fault, uninstall: as the README shows them', async () => {
  const text = await record();
  if (process.env['WEFT_RECORDING'] === 'write') writeRecording(text);
  assert.is(withoutTimes(recorded()), withoutTimes(text), 'run "npm run recording", and look at what has changed');
});

test.run();
