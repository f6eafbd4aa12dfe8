import * as assert from 'uvu/assert';
import { CniError } from '../../../cni/spec/errors.ts';

/** `run` throws a CniError of this code, whose message matches. */
export function refused(run: () => unknown, code: number, message: RegExp): void {
  try {
    run();
  } catch (error) {
    assert.instance(error, CniError);
    assert.is((error as CniError).code, code);
    assert.match((error as CniError).message, message);
    return;
  }
  assert.unreachable('it was accepted');
}
