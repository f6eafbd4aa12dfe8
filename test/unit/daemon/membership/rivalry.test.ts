import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { Rivalry } from '../../../../daemon/membership/rivalry.ts';

const test = suite('daemon/membership/rivalry');

test('a burst of writes, then pauses that grow up to a limit', () => {
  let nowMs = 5;
  const rivalry = new Rivalry({ burst: 3, pauseMs: 60_000, longestPauseMs: 240_000, monotonic: () => nowMs });
  assert.not(rivalry.mustPause);
  for (let i = 0; i < 3; i++) {
    assert.not(rivalry.mustPause, `write ${i}`);
    assert.not(rivalry.isOpen);
    rivalry.noteWrite();
  }
  const pauses: number[] = [];
  for (let i = 0; i < 4; i++) {
    assert.ok(rivalry.isOpen);
    assert.ok(rivalry.mustPause);
    pauses.push(rivalry.nextMs - nowMs);
    nowMs = rivalry.nextMs;
    assert.not(rivalry.mustPause);
    rivalry.noteWrite();
  }
  assert.equal(pauses, [60_000, 120_000, 240_000, 240_000]);
});

test('it is over when nobody has disturbed the key for a while, and starts again after a long calm only', () => {
  let nowMs = 0;
  const rivalry = new Rivalry({ burst: 2, pauseMs: 1000, longestPauseMs: 8000, monotonic: () => nowMs });
  rivalry.noteWrite();
  rivalry.noteWrite();
  assert.ok(rivalry.isOpen);
  nowMs = 1000;
  assert.not(rivalry.isOpen);
  rivalry.noteWrite();
  assert.ok(rivalry.isOpen, 'the third one');
  assert.is(rivalry.nextMs, 3000);
  nowMs = 1000 + 4 * 8000;
  rivalry.noteWrite();
  assert.not(rivalry.mustPause, 'the first one again');
});

test.run();
